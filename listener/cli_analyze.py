"""`vitalcheck analyze` and `vitalcheck rules try`: studies on disk, no network, no ledger.

files | headers | studies | pipeline.run.analyze | OUT/<study>/<kind>.dcm
"""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from tqdm import tqdm

from listener import console, headers, logs
from listener.errors import NotDicom, VitalCheckError
from listener.spool import write_whole
from pipeline.records import Choice, Finding, Report, Study

if TYPE_CHECKING:
    from models.registry import Model

DEFAULT_MODEL = "brain_tumor_4class"
_NOTHING: dict[str, Any] = dict.fromkeys(
    ("finding", "probabilities", "key_instances", "key_frames", "region", "series", "variant", "agreement", "timings_ms")
)


class NothingRead(VitalCheckError):
    def __init__(self, path: Path, files: int) -> None:
        super().__init__(f"{path}: none of {files} files could be read as DICOM; give a DICOM file or a folder that holds some")


class NoFolder(VitalCheckError):
    exit_code = 2

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: cannot be written to ({error.strerror}); give another folder with --out")


PathArgument = Annotated[Path, typer.Argument(exists=True, help="A DICOM file, or a folder of them, of one study or of thousands.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line per study on stdout.")]


def analyze(
    path: PathArgument,
    out: Annotated[Path, typer.Option(help="Folder for the Structured Reports: OUT/<study UID>/<kind>.dcm.")],
    model: Annotated[str, typer.Option(help="Which installed model; `vitalcheck models list` names them.")] = DEFAULT_MODEL,
    variant: Annotated[
        Literal["auto", "int8", "fp32"], typer.Option(help="auto: int8 where this CPU proves it right and faster, else fp32.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Analyses studies on disk into Structured Reports.

    No network. Answers go to stdout, progress and warnings to stderr. Files that are no DICOM are skipped with a warning; the
    exit status is 1 only if nothing at all could be read. Research use, not a medical device.

    \b
    vitalcheck analyze head/ --out results
    vitalcheck analyze archive/ --out results --json > answers.jsonl
    vitalcheck analyze slice.dcm --out results --variant fp32
    """
    from models import registry

    _quiet()
    _writable(out)
    loaded = registry.load(_installed(model), variant=variant)
    for study in _progress(_studies(path), "study"):
        answer = _answer(study, loaded, out)
        console.say_json(answer) if as_json else _say(answer)


def rules_try(path: PathArgument, model: Annotated[str, typer.Option()] = DEFAULT_MODEL, as_json: JsonOption = False) -> None:
    """Shows which series would be analysed, and why no other.

    Reads headers only.

    \b
    vitalcheck rules try head/
    """
    from models import registry
    from pipeline.choose import choose

    _quiet()
    manifest = registry.read(_installed(model))
    for study in _studies(path):
        choice = choose(study, manifest)
        if as_json:
            uid = choice.series.uid if choice.series else None
            passed = [asdict(series) for series in choice.passed_over]
            console.say_json({"study": study.uid, "series": uid, "reason": choice.reason, "head": choice.expected, "passed_over": passed})
        else:
            _say_choice(study, choice)


def _say_choice(study: Study, choice: Choice) -> None:
    rows = [("passed over", p.series_number, p.modality, p.series_uid, p.reason) for p in choice.passed_over]
    if choice.series:
        h = choice.series.instances[0].headers
        rows.insert(0, ("chosen", h.series_number, h.modality, choice.series.uid, choice.reason))
    console.say(f"study {study.uid}: would be {'analysed' if choice.series else 'declined'}")
    console.say_table(("", "number", "modality", "series", "why"), rows)


def _quiet() -> None:
    """Logs to stderr, warnings only; what libraries say of odd values would repeat those values."""
    logs.configure("console", "warning")
    warnings.simplefilter("ignore")


def _installed(model: str) -> str:
    from models import registry

    if model not in registry.names():
        raise typer.BadParameter(f"{model!r} is not installed; installed: {', '.join(registry.names()) or 'none'}", param_hint="--model")
    return model


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoFolder(out, error) from error


def _studies(path: Path) -> list[Study]:
    """Every study below `path`. Raises NothingRead."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    skipped: list[NotDicom] = []

    def skip(error: NotDicom) -> None:
        skipped.append(error)
        tqdm.write(f"vitalcheck: skipped {error}", file=sys.stderr)

    found = headers.studies(_progress(files, "file"), skipped=skip)
    if not found:
        raise NothingRead(path, len(files))
    return found


def _progress(items: list[Any], unit: str) -> Iterator[Any]:
    """A bar on stderr; where nobody watches it, a line now and then."""
    watched = sys.stderr.isatty()
    bar: Iterator[Any] = iter(
        tqdm(items, unit=unit, file=sys.stderr, mininterval=0.1 if watched else 10.0, leave=not watched or len(items) > 1)
    )
    return bar


def _answer(study: Study, model: Model, out: Path) -> dict[str, Any]:
    """One study, answered or, whatever happens to it, quarantined: the others go on."""
    from pipeline.run import analyze as run

    name = f"{model.manifest.name} {model.manifest.version}"
    try:
        report = run(study, [model], datetime.now().astimezone())
        return _as_json(report, [str(path) for path in _write(report, out)])
    except Exception as error:  # noqa: BLE001 - the edge of the loop over studies
        return {"study": study.uid, "state": "quarantined", "reason": logs.explain(error), **_NOTHING, "model": name, "reports": []}


def _as_json(report: Report, reports: list[str]) -> dict[str, Any]:
    """The fixed keys of `analyze --json`."""
    series = report.choice.series
    answer = {"study": report.study_uid, "state": report.state, "reason": report.reason, **_NOTHING}
    if report.finding is not None:
        answer |= _finding(report.finding) | {"variant": report.variant, "agreement": report.agreement}
    timings = {name: round(ms, 2) for name, ms in report.timings_ms.items()}
    return answer | {"series": series.uid if series else None, "timings_ms": timings, "model": report.model, "reports": reports}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "finding": {"label": finding.label, "call": finding.call, "probability": round(float(finding.probability), 6)},
        "probabilities": {label: round(float(p), 6) for label, p in finding.probabilities.items()},
        "key_instances": [source.sop_instance_uid for source in finding.key_sources],
        "key_frames": [source.frame for source in finding.key_sources],
        "region": [[round(float(x), 2), round(float(y), 2)] for x, y in finding.region] or None,
    }


def _write(report: Report, out: Path) -> list[Path]:
    """OUT/<study UID>/<kind>.dcm, each whole or not at all. A document that lies there already stays: one UID, one set of bytes."""
    folder = out / _folder_name(report.study_uid)
    paths = []
    for document in report.documents:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{document.kind}.dcm"
        if not _holds(path, document.sop_instance_uid):
            write_whole(path, document.data)
        paths.append(path)
    return paths


def _holds(path: Path, sop_instance_uid: str) -> bool:
    try:
        return headers.read(path).sop_instance_uid == sop_instance_uid
    except NotDicom:
        return False


def _folder_name(study_uid: str) -> str:
    """The UID where it is one (PS3.5 9.1), else its digest: what a file says never names a path outside OUT."""
    if re.fullmatch(r"[0-9.]{1,64}", study_uid) and study_uid.strip("."):
        return study_uid
    return f"study-{hashlib.sha256(study_uid.encode()).hexdigest()[:16]}"


def _say(answer: dict[str, Any]) -> None:
    """One readable block."""
    finding, facts = answer["finding"], dict[str, Any]()
    if finding:
        facts["finding"] = f"{finding['label']} {finding['call']}, probability {finding['probability']:.2f}"
        facts["probabilities"] = ", ".join(f"{label} {p:.2f}" for label, p in answer["probabilities"].items())
        keys = zip(answer["key_instances"], answer["key_frames"], strict=True)
        facts["key slices"] = ", ".join(uid if frame is None else f"{uid} frame {frame}" for uid, frame in keys)
    facts |= {"reason": answer["reason"], "series": answer["series"], "model": answer["model"]}
    if answer["variant"]:
        facts["model"] += f", {answer['variant']} ({answer['agreement']})"
    facts["time"] = f"{sum(answer['timings_ms'].values()):.0f} ms" if answer["timings_ms"] else None
    for path in answer["reports"]:
        facts[Path(path).stem] = path
    console.say_block(f"{answer['study']}: {answer['state']}", facts)
