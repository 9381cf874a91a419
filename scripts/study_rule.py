"""The study rule on heads that the network never saw: what each candidate calls them, and what the manifest's rule calls every study.

    python -m scripts.study_rule                     docs/measured/leave_out_studies.csv, and how many studies are right
    python -m scripts.study_rule --try               candidates beside each other: how temperature and thresholds were chosen

Reads the maps that scripts/leave_out.py wrote (`--work`); needs no torch. Studies are whole volumes, healthy heads in each plane, runs of
neighbouring slices of one tumour (most often one patient in one plane), runs of a patient's slices in which nobody drew a tumour, and
single slices, which are for --try alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models import registry
from models.manifest import Manifest
from pipeline.aggregate import aggregate
from pipeline.records import Affine, Finding, Geometry, Prediction, Source
from scripts.datasets.examples import Examples
from scripts.datasets.folders import in_order
from scripts.model_card import ABSENT, LABELS, NAME, RECIPE, study_rule
from scripts.tables import rows_of, write

VOLUME_STEP = 6.5  # mm between the volumes' slices; their headers do not say the truth
WHOLE = ("volume", "healthy")  # sources that hold whole heads
NEIGHBOURS = ("figshare", "brisc")  # sources whose tumours' blocks are runs of neighbours, one patient's most often
LEAST_RUN = 4  # slices of a run that make a study
DOUBTED = (0.0, 1.2, 1.6, 2.0)  # of a pituitary tumour
TRIED: dict[str, Sequence[object]] = {
    "temperature": (0.6, 1.0),
    "smallest_head": (0.4, 0.6),
    "absent": (0.35, 0.4, 0.45),
    "neighbour_mm": (5.0,),
    "strongest": (1, 2, 4),
    "strongest_cells": (3, 8, 12),
    "doubt": [{"pituitary": by} for by in DOUBTED],
}
Floats = NDArray[np.float32]

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Case:
    """One study of one run, as the network of that run saw it."""

    run: str
    kind: str  # volume, healthy, run, slice
    part: str
    name: str
    truth: str
    maps: Floats  # (slice, label, row, column)
    head_area: Floats
    masks: NDArray[np.bool_]  # (slice, 112, 112)
    geometry: Geometry
    teachers: int = 0  # other networks that taught that network further

    def predicted(self) -> Prediction:
        cells = np.sort(self.maps.reshape(*self.maps.shape[:2], -1), axis=2)[..., -6:].mean(2)
        sources = tuple(Source(self.name, k + 1) for k in range(len(self.maps)))
        where = Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        return Prediction(sources, cells, self.maps, self.head_area, where, "fp32", "not compared", geometry=self.geometry)


def cases(work: Path) -> Iterator[Case]:
    """Every study of every run below `work`, and every single slice."""
    for folder in sorted(path.parent for path in work.glob("*/maps.npz")):
        rows = rows_of(folder / "rows.csv")
        with np.load(folder / "maps.npz") as stored:
            arrays = (stored["maps"].astype(np.float32), stored["head_area"].astype(np.float32), stored["masks"])
        yield from _grouped(rows, arrays)


def studies_of(examples: Examples, maps: Floats, run: str) -> Iterator[Case]:
    """The volumes and healthy heads of `examples`, whose evidence is `maps`, as studies."""
    columns = zip(examples.sources, examples.parts, examples.blocks, examples.planes, examples.names, examples.labels, strict=True)
    rows = [
        {"run": run, "source": source, "part": part, "block": block, "plane": plane, "file": name, "truth": LABELS[label].name}
        for source, part, block, plane, name, label in columns
    ]
    found = _grouped(rows, (maps, head_area(examples), examples.masks[:, ::2, ::2] > 0))
    yield from (case for case in found if case.kind in WHOLE)


def head_area(examples: Examples) -> Floats:
    """(slice,): share of the square that is head, as `prepare` counts it."""
    return np.asarray((examples.images > RECIPE.foreground).mean((1, 2)), np.float32)


def _grouped(rows: Sequence[Mapping[str, str]], arrays: tuple[Floats, Floats, NDArray[np.bool_]]) -> Iterator[Case]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    for k, row in enumerate(rows):
        if (kind := _kind(row)) in WHOLE:
            groups.setdefault((kind, row["part"], row["block"]), []).append(k)
            continue
        groups.setdefault(("slice", row["part"], row["file"]), []).append(k)
        if row["source"] in NEIGHBOURS and row["truth"] != ABSENT:
            groups.setdefault(("run", row["part"], f"{row['block']} {row['plane']} {row['truth']}"), []).append(k)
    shown = [bool(mask.any()) for mask in arrays[2]]
    for (kind, part, name), members in groups.items():
        if kind != "run" or len(members) >= LEAST_RUN:
            yield _case(kind, part, name, [(k, rows[k]) for k in members], arrays)
        if kind == "volume":
            for n, stretch in enumerate(_stretches(members, shown), 1):
                yield _case("run", part, f"{name} {n} without tumour", [(k, rows[k]) for k in stretch], arrays)


def _kind(row: Mapping[str, str]) -> str:
    """volume or healthy for a slice of a whole head."""
    series = row["source"] == "dicom" and " slice " in row["file"]
    return "volume" if series else row["source"] if row["source"] in WHOLE else "slice"


def _stretches(members: Sequence[int], shown: Sequence[bool]) -> Iterator[list[int]]:
    """Neighbours of a volume in which nobody drew a tumour, where there are enough for a run."""
    for drawn, stretch in groupby(members, lambda k: shown[k]):
        if not drawn and len(found := list(stretch)) >= LEAST_RUN:
            yield found


def _case(
    kind: str, part: str, name: str, members: list[tuple[int, Mapping[str, str]]], arrays: tuple[Floats, Floats, NDArray[np.bool_]]
) -> Case:
    if kind == "run":
        members = sorted(members, key=lambda member: in_order(member[1]["file"]))
    chosen, rows = [k for k, _ in members], [row for _, row in members]
    truth = next((row["truth"] for row in rows if row["truth"] != ABSENT), ABSENT)
    title = {"volume": f"{part} {name}", "healthy": name, "run": f"run {name}"}.get(kind, name)
    maps, area, masks = arrays
    asked = (maps[chosen], area[chosen], masks[chosen], _geometry(rows))
    return Case(rows[0]["run"], kind, part, title, truth, *asked, teachers=int(rows[0].get("teachers", 0)))


def _geometry(rows: Sequence[Mapping[str, str]]) -> Geometry:
    """The first number of a head's slices counts slices of a volume, mm of a healthy head."""
    plane, source = rows[0]["plane"], rows[0]["source"]
    if source not in WHOLE:
        return Geometry(plane)  # type: ignore[arg-type]
    numbers = [float(row["file"].rsplit(" ", 1)[1]) for row in rows]
    step = VOLUME_STEP if source == "volume" else 1.0
    positions = tuple(float(n) * step for n in numbers)
    return Geometry(plane, between=float(np.median(np.diff(positions))) if len(positions) > 1 else None, positions=positions)  # type: ignore[arg-type]


def found_in(case: Case, manifest: Manifest) -> Finding:
    """What the study rule of `manifest` calls it."""
    return aggregate(case.predicted(), manifest)


def right(finding: Finding, case: Case) -> bool:
    return (finding.label, finding.call) == (case.truth, "absent" if case.truth == ABSENT else "present")


@app.command()
def main(
    work: Annotated[Path, typer.Option(help="of scripts/leave_out.py")] = Path("runs/leave_out"),
    model: Annotated[str, typer.Option(help="whose rule: the bundled model's, or a folder of your own (with a slash)")] = NAME,
    out: Annotated[Path, typer.Option(help="folder of the table")] = Path("docs/measured"),
    tried: Annotated[bool, typer.Option("--try", help="candidates beside each other; writes nothing")] = False,
) -> None:
    """Reads every study of every leave-out run by the study rule."""
    try:
        found, manifest = list(cases(work)), registry.read(model, registry.ZOO)
    except registry.ModelRefused as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    if not found:
        raise typer.BadParameter(f"{work}: holds no leave-out run; make leave-out DATA=... makes them", param_hint="--work")
    if tried:
        for changed in candidates():
            _say(changed, _scores(found, manifest, changed))
        return
    rows = [_row(case, found_in(case, ruled(manifest, case))) for case in found if case.kind != "slice"]
    write(out / "leave_out_studies.csv", rows)
    _say({}, _scores(found, manifest, {}))


def candidates() -> Iterator[dict[str, object]]:
    """What was tried, as changes to what serves; the first changes nothing."""
    yield {}
    for key, values in TRIED.items():
        yield from ({key: value} for value in values)


def ruled(manifest: Manifest, case: Case, changed: Mapping[str, object] | None = None) -> Manifest:
    """With the rule that reads networks like the one of `case`, `changed`; a model of other data has one rule."""
    rule = study_rule(case.teachers) if manifest.name == NAME else manifest.rule
    return manifest.model_copy(update={"rule": rule.model_copy(update=changed)})


def _scores(found: Sequence[Case], manifest: Manifest, changed: Mapping[str, object]) -> dict[str, Counter[str]]:
    """kind and truth -> how many are right, have the right label whatever the call, and are present, unsure, absent."""
    scores: dict[str, Counter[str]] = {}
    for case in found:
        finding = found_in(case, ruled(manifest, case, changed))
        told = scores.setdefault(f"{case.kind} {case.truth}", Counter())
        told.update({finding.call: 1, "right": right(finding, case), "label": finding.label == case.truth})
    return scores


def _say(changed: Mapping[str, object], scores: Mapping[str, Counter[str]]) -> None:
    print(changed or "as it serves")
    for key, told in sorted(scores.items()):
        calls = {call: told[call] for call in ("present", "unsure", "absent")}
        studies = sum(calls.values())
        shares = f"{told['right'] / studies:.3f} called right, {told['label'] / studies:.3f} with the right label"
        print(f"  {key:24} {studies:5} studies, {shares}; {', '.join(f'{count} {call}' for call, count in calls.items())}")


def _row(case: Case, finding: Finding) -> dict[str, object]:
    inside, dice = key_inside(finding, case), region_dice(finding, case)
    tumour, suspect = case.masks.any((1, 2)), _suspect(finding, len(case.maps))
    return {
        "run": case.run,
        "kind": case.kind,
        "study": case.name,
        "truth": case.truth,
        "slices": len(case.maps),
        "call": finding.call,
        "label": finding.label,
        "probability": f"{finding.probability:.3f}",
        "key_inside": "" if inside is None else int(inside),
        "dice": "" if dice is None else f"{dice:.3f}",
        "tumour_slices": int(tumour.sum()),
        "found": int((tumour & suspect).sum()),
        "false": int((suspect & ~tumour).sum()),
    }


def key_inside(finding: Finding, case: Case) -> bool | None:
    """Whether the best key slice shows the tumour; None where there is nothing to find, or no key slice."""
    row = _key(finding)
    return None if row is None or not case.masks.any() else bool(case.masks[row].any())


def region_dice(finding: Finding, case: Case) -> float | None:
    """Of the region on the best key slice against the mask there; None where one of them is empty."""
    row = _key(finding)
    if row is None or not finding.region or not case.masks[row].any():
        return None
    drawn = Image.new("1", case.masks.shape[:0:-1])
    ImageDraw.Draw(drawn).polygon([(x / 2, y / 2) for x, y in finding.region], fill=1)
    region = np.asarray(drawn)
    return 2 * float((region & case.masks[row]).sum()) / float(region.sum() + case.masks[row].sum())


def _suspect(finding: Finding, slices: int) -> NDArray[np.bool_]:
    """(slice,): whether it counts as one with a tumour, its neighbours asked."""
    return np.isin(np.arange(slices), [int(source.frame or 1) - 1 for source in finding.suspect_sources])


def _key(finding: Finding) -> int | None:
    return int(finding.key_sources[0].frame or 1) - 1 if finding.key_sources else None


if __name__ == "__main__":
    app()
