"""`vitalcheck models gate`: int8 judged again, and every number of the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from listener import console
from listener.errors import VitalCheckError

if TYPE_CHECKING:
    from models.gate import Batches
    from models.manifest import GateVerdict, Manifest
    from models.record import Record
    from models.tables import Estimate, StudyTable, Table, Tally

SHOWN = ("accuracy", "sensitivity", "specificity")  # of groups; --json has every number


class NoRecord(VitalCheckError):
    """gate.csv is missing or does not say enough."""


def gate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which model: its name, or the path of its folder (with a slash).")],
    write: Annotated[bool, typer.Option("--write", help="Write the verdict into the manifest.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per number on stdout, the verdict last.")] = False,
) -> None:
    """Judges int8 against fp32 again.

    From the logits of every slice that judged it, recorded in the model's gate.csv, and from what both files say now of batches of 1,
    2, 4 and 24. The exit status is 1 when int8 is REJECTED: when it loses more than 1 % of accuracy or of any label's recall, or when
    it is not proven with 95 % confidence that it loses no more than 1 % of accuracy and 3 % of a recall; when too little was judged to
    prove anything, or not every label; when answers depend on the batch. Then fp32 answers.

    \b
    vitalcheck models gate brain_tumor_4class
    vitalcheck models gate ./mine/ --write
    """
    from models import gate as rule
    from models import manifest as manifests
    from models import registry

    manifest, folder = registry.read(name, registry.ZOO), registry.folder(name, registry.ZOO)
    found = _recorded(manifest, folder)
    fp32, int8 = _digests(manifest, folder)
    batches, temperature, today = _batches(manifest, folder), manifest.rule.temperature, datetime.now(UTC).date()
    near = manifest.golden.tolerance if manifest.golden else rule.BATCH_TOLERANCE
    verdict = rule.judge(found, digests=(fp32, int8), on=today, batches=batches, temperature=temperature, tolerance=near)
    say = _say_json if as_json else _say
    say(rule.tables(found, temperature), rule.studies(found), batches, verdict)
    if write:
        manifests.write(folder / "manifest.toml", manifest.model_copy(update={"gate": verdict}))
        console.warn(f"written to {folder / 'manifest.toml'}")
    if verdict.verdict != "APPROVED":
        raise typer.Exit(1)


def _recorded(manifest: Manifest, folder: Path) -> Record:
    """Raises NoRecord."""
    from models import record

    if not {"fp32", "int8"} <= manifest.artifacts.keys():
        raise NoRecord(f"model {manifest.name}: there is no int8 to judge; fp32 answers")
    try:
        return record.read(folder, manifest.label_names, manifest.absent)
    except record.RecordError as error:
        raise NoRecord(str(error)) from error


def _digests(manifest: Manifest, folder: Path) -> tuple[str, str]:
    """sha256 of fp32 and int8. Raises NoRecord where gate.csv is about other files."""
    from models import manifest as manifests

    try:
        fp32, int8 = (manifests.sha256(folder / manifest.artifacts[variant].file) for variant in ("fp32", "int8"))
    except OSError as error:
        raise NoRecord(f"{error.filename}: cannot be read ({error.strerror}); import or train again") from error
    recorded = (manifest.gate.fp32_sha256, manifest.gate.int8_sha256) if manifest.gate else ("", "")
    if all(recorded) and recorded != (fp32, int8):
        raise NoRecord(f"{folder / 'gate.csv'}: holds the answers of other files than {folder} has now; import or train again")
    return fp32, int8


def _batches(manifest: Manifest, folder: Path) -> Batches:
    """Raises NoRecord."""
    from models import golden
    from models.runtime import NetworkError, Session

    image = golden.many(manifest.recipe)
    try:
        return {variant: golden.batches(Session(folder / artifact.file), image) for variant, artifact in manifest.artifacts.items()}
    except NetworkError as error:
        raise NoRecord(str(error)) from error


def _say(tables: list[Table], studies: list[StudyTable], batches: Batches, verdict: GateVerdict) -> None:
    _say_numbers(tables[0])
    _say_groups(tables[1:])
    _say_studies(studies)
    _say_batches(batches)
    console.say(verdict.verdict)
    for line in (*verdict.reasons, *(f"remark: {remark}" for remark in verdict.remarks)):
        console.say(f"  {line}")


def _say_numbers(whole: Table) -> None:
    from models.gate import allowed

    rows = []
    for line in whole.lines.values():
        limits = allowed(line.name)
        most = "-" if limits is None else f"{limits[0]:.0%}, {limits[1]:.0%}"
        rows.append((line.name, _told(line.fp32), _told(line.int8), _number(line.drop, "+"), _number(line.upper, "+"), most))
    console.say_table(("number", "fp32 (95 %)", "int8 (95 %)", "drop", "at most (95 %)", "allowed"), rows)
    console.say(f"{whole.slices} slices of {whole.blocks} blocks, both say the same on {whole.agreement:.2%}")
    console.say()


def _say_groups(groups: list[Table]) -> None:
    if not groups:
        return
    rows = []
    for group in groups:
        numbers = (_told(estimate) for name in SHOWN for estimate in group.lines[name][1:3])
        rows.append((f"{group.by} {group.word}", group.slices, group.blocks, *numbers, f"{group.agreement:.2%}"))
    console.say_table(("group", "slices", "blocks", *(f"{name} {v}" for name in SHOWN for v in ("fp32", "int8")), "agreement"), rows)
    console.say()


def _say_studies(studies: list[StudyTable]) -> None:
    if not studies:
        return
    rows = [(each.truth, each.studies, *_calls(each.fp32), *_calls(each.int8), each.same) for each in studies]
    heads = (f"{v} {what}" for v in ("fp32", "int8") for what in ("right (95 %)", "present, unsure, absent"))
    console.say_table(("studies", "count", *heads, "same"), rows)
    console.say()


def _calls(tally: Tally) -> tuple[str, str]:
    return _told(tally.right), f"{tally.present}, {tally.unsure}, {tally.absent}"


def _say_batches(batches: Batches) -> None:
    sizes = sorted({size for found in batches.values() for size in found})
    rows = [(size, *(f"{batches[v][size].off:.6f}" for v in ("fp32", "int8"))) for size in sizes]
    console.say_table(("slices at once", "fp32: logits differ by", "int8: logits differ by"), rows)
    console.say()


def _told(estimate: Estimate) -> str:
    value, low, high = (_number(number) for number in estimate)
    return value if value == "-" else f"{value} ({low} to {high})"


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.4f}"


def _say_json(tables: list[Table], studies: list[StudyTable], batches: Batches, verdict: GateVerdict) -> None:
    rows = [*_number_rows(tables), *_study_rows(studies), *_batch_rows(batches), {"row": "verdict", **verdict.model_dump()}]
    for row in rows:
        console.say_json({key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()})


def _number_rows(tables: list[Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        facts = {"by": table.by, "word": table.word, "slices": table.slices, "blocks": table.blocks, "agreement": table.agreement}
        for line in table.lines.values():
            numbers = {**_spread("fp32", line.fp32), **_spread("int8", line.int8), "drop": line.drop, "drop_upper": line.upper}
            yield {"row": "number", **facts, "name": line.name, **numbers}


def _study_rows(studies: list[StudyTable]) -> Iterator[dict[str, Any]]:
    for each in studies:
        calls: dict[str, Any] = {}
        for variant, tally in (("fp32", each.fp32), ("int8", each.int8)):
            counts = tally._asdict() | {"right": tally.right.value}
            calls |= {f"{variant}_{key}": value for key, value in counts.items()} | _spread(f"{variant}_right", tally.right)
        yield {"row": "studies", "truth": each.truth, "studies": each.studies, "same": each.same, **calls}


def _batch_rows(batches: Batches) -> Iterator[dict[str, Any]]:
    for variant, sizes in batches.items():
        for size, found in sizes.items():
            yield {"row": "batch", "variant": variant, "batch": size, **found._asdict()}


def _spread(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
