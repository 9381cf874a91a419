"""`vitalcheck analyze`: studies on disk, no network, no ledger.

files | headers | studies | pipeline.run.analyze | OUT/<study>/<kind>.dcm
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from listener import config as configuration
from listener import console, headers, logs, rows, view
from listener.cli_input import DEFAULT_MODEL, JsonOption, ModelOption, PathArgument, installed, progress, quiet, studies
from listener.errors import NotDicom, VitalCheckError
from listener.names import write_whole
from pipeline import language as languages
from pipeline.language import Language, LanguageError
from pipeline.records import USUAL, Finding, Kind, Order, Report, Study

if TYPE_CHECKING:
    from models.registry import Model
    from pipeline.run import Decoder

_NOTHING: dict[str, Any] = dict.fromkeys(
    (
        *("finding", "probabilities", "key_instances", "key_frames", "region", "suspect_instances", "suspect_frames"),
        *("series", "geometry", "recipe", "variant", "agreement", "timings_ms"),
    )
)


class NoFolder(VitalCheckError):
    exit_code = 2

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: cannot be written to ({error.strerror}); give another folder with --out")


def analyze(
    path: PathArgument,
    out: Annotated[Path, typer.Option(help="Folder for the documents: OUT/<study UID>/<kind>.dcm.")],
    model: ModelOption = [DEFAULT_MODEL],  # noqa: B006 - typer reads it
    variant: Annotated[
        Literal["auto", "int8", "fp32"], typer.Option(help="auto: int8 where this CPU proves it right and faster, else fp32.")
    ] = "auto",
    language: Annotated[
        str | None, typer.Option(help="Of the Summary: en, de or a TOML file of your own. Unless told, as the configuration says.")
    ] = None,
    documents: Annotated[
        str, typer.Option(metavar="KIND,KIND,...", help="Of summary, measurements, key-image, presentation, pdf: those to write.")
    ] = ",".join(USUAL),
    as_json: JsonOption = False,
) -> None:
    """Analyses studies on disk into Structured Reports, and pictures and pages where they are asked for.

    No network. Answers go to stdout, progress and warnings to stderr. Files that are no DICOM are skipped with a warning; the
    exit status is 1 only if nothing at all could be read: a declined or quarantined study says why. Research use, not a medical device.

    \b
    vitalcheck analyze head/ --out results
    vitalcheck analyze archive/ --out results --json > answers.jsonl
    vitalcheck analyze slice.dcm --out results --variant fp32 --documents summary,key-image,pdf
    vitalcheck analyze head/ --out ergebnisse --language de
    vitalcheck analyze archive/ --out results --model brain_tumor_4class --model /srv/models/ct_head/
    """
    from listener.isolation import Isolated
    from models import registry

    quiet()
    config = configuration.load()
    order = Order(_wanted(documents), _spoken(language or config.reports.language), config.reports.institution)
    limits = config.worker
    _writable(out)
    with Isolated(limits.decode_memory_bytes, limits.decode_seconds) as decoder:
        loaded = registry.load_all([installed(entry) for entry in model], variant=variant)
        for study in progress(studies(path), "study"):
            answer = _answer(study, loaded, out, decoder, order)
            console.say_json(answer) if as_json else _say(answer)


def _wanted(documents: str) -> frozenset[Kind]:
    try:
        return frozenset(configuration.document(name.strip()) for name in documents.split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--documents") from error


def _spoken(entry: str) -> Language:
    try:
        return languages.read(entry)
    except LanguageError as error:
        raise typer.BadParameter(str(error), param_hint="--language") from error


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoFolder(out, error) from error


def _answer(study: Study, models: Sequence[Model], out: Path, decoder: Decoder, order: Order) -> dict[str, Any]:
    """One study, answered or, whatever happens to it, quarantined: the others go on. Raises NoFolder."""
    from pipeline.run import analyze as run

    name = ", ".join(f"{model.manifest.name} {model.manifest.version}" for model in models)
    try:
        report = run(study, models, datetime.now().astimezone(), decoder, order)
    except Exception as error:  # noqa: BLE001 - the edge of the loop over studies
        return {"study": study.uid, "state": "quarantined", "reason": logs.explain(error), **_NOTHING, "model": name, "reports": []}
    try:
        return _as_json(report, [str(path) for path in _write(report, out)])
    except OSError as error:  # no study is at fault
        raise NoFolder(out, error) from error


def _as_json(report: Report, reports: list[str]) -> dict[str, Any]:
    """The fixed keys of `analyze --json`."""
    series = report.choice.series
    answer = {"study": report.study_uid, "state": report.state, "reason": report.reason, **_NOTHING}
    if report.finding is not None:
        answer |= _finding(report.finding) | {"variant": report.variant, "agreement": report.agreement}
        answer |= {"geometry": rows.lies(report), "recipe": report.recipe}
    timings = {name: round(ms, 2) for name, ms in report.timings_ms.items()}
    return answer | {"series": series.uid if series else None, "timings_ms": timings, "model": report.model, "reports": reports}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "finding": {"label": finding.label, "call": finding.call, "probability": round(float(finding.probability), 6)},
        "probabilities": {label: round(float(p), 6) for label, p in finding.probabilities.items()},
        "key_instances": [source.sop_instance_uid for source in finding.key_sources],
        "key_frames": [source.frame for source in finding.key_sources],
        "region": [[round(float(x), 2), round(float(y), 2)] for x, y in finding.region] or None,
        "suspect_instances": [source.sop_instance_uid for source in finding.suspect_sources],
        "suspect_frames": [source.frame for source in finding.suspect_sources],
    }


def _write(report: Report, out: Path) -> list[Path]:
    """OUT/<study UID>/<kind>.dcm, each whole or not at all. A document that lies there already stays: one UID, one set of bytes."""
    folder = out / _folder_name(report.study_uid)
    paths, before = [], set(folder.glob("*.dcm"))
    changed = False
    for document in report.documents:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{document.kind}.dcm"
        if not _holds(path, document.sop_instance_uid):
            changed = changed or path in before
            write_whole(path, document.data)
        paths.append(path)
    for path in sorted(before - set(paths) if changed else ()):
        console.warn(f"{path}: is of an earlier result of this study, and was left; remove it, or give another --out")
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
    facts |= {"reason": answer["reason"], "series": answer["series"], "slices": view.lie(answer["geometry"])}
    facts |= {"remarks": view.remarks(answer["geometry"]), "model": answer["model"]}
    if answer["variant"]:
        facts["model"] += f", {answer['variant']} ({answer['agreement']})"
    facts["time"] = f"{sum(answer['timings_ms'].values()):.0f} ms" if answer["timings_ms"] else None
    for path in answer["reports"]:
        facts[Path(path).stem] = path
    console.say_block(f"{answer['study']}: {answer['state']}", facts)
