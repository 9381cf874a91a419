"""How many of 100 phantoms each variant of the bundled network reads rightly: a markdown table, by tumour and plane.

    python -m scripts.phantom_scores                                              # 9 axial, 8 coronal, 8 sagittal of each kind
    python -m scripts.phantom_scores --axial 1 --others 1                         # 12 of them, to see that it works
    python -m scripts.phantom_scores --csv docs/measured/phantoms.csv             # also one line for each answer

Right is: the painted tumour present, or a healthy head without one. Each variant answers as it does in service, so where int8 answers,
fp32 reads the slices that decide too. All heads are one anatomy, of which the network has learnt others (seeds from 5000 on): the
table tells whether a change broke something, not how good the network is on people.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from tqdm import tqdm

from listener import logs
from listener.headers import studies
from models import registry
from models.registry import Model
from pipeline.records import Finding, Variant
from pipeline.run import analyze
from scripts.make_phantom import write_study
from scripts.phantom.paint import TUMOURS, Tumour
from scripts.phantom.scan import FRAMES, Plane

MODEL = "brain_tumor_4class"
VARIANTS: tuple[Variant, Variant] = ("fp32", "int8")


class Phantom(NamedTuple):
    tumour: Tumour
    plane: Plane
    seed: int


class Answer(NamedTuple):
    """One line of the CSV; `call`, `label` and `probability` are empty where the study was declined, `right` is 1 or 0."""

    tumour: Tumour
    plane: Plane
    seed: int
    variant: Variant
    call: str
    label: str
    probability: str
    right: int


def phantoms(axial: int, others: int) -> Iterator[Phantom]:
    """Seeds from 1; those of one head in all its planes follow each other, so that it is painted once."""
    for tumour in TUMOURS:
        for seed in range(1, max(axial, others) + 1):
            yield from (Phantom(tumour, plane, seed) for plane in FRAMES if seed <= (axial if plane == "axial" else others))


def answers(phantom: Phantom, models: dict[Variant, Model]) -> list[Answer]:
    """What each variant says about the phantom's T1 series."""
    with tempfile.TemporaryDirectory() as folder:
        [study] = studies(write_study(Path(folder), **phantom._asdict(), series=("t1",)))
        return [_answer(phantom, variant, analyze(study, [model], datetime.now(UTC)).finding) for variant, model in models.items()]


def _answer(phantom: Phantom, variant: Variant, finding: Finding | None) -> Answer:
    """One answer against what was painted."""
    if finding is None:
        return Answer(*phantom, variant, "", "", "", 0)
    wanted = ("notumor", "absent") if phantom.tumour == "none" else (phantom.tumour, "present")
    right = int((finding.label, finding.call) == wanted)
    return Answer(*phantom, variant, finding.call, finding.label, f"{finding.probability:.4f}", right)


def table(found: Sequence[Answer]) -> str:
    """Markdown: a row for each plane and tumour, a column for each variant; "9/10" is nine of ten right. The last row counts all."""
    variants = list(dict.fromkeys(answer.variant for answer in found))
    lines = [["plane", "painted", *variants], ["---"] * (2 + len(variants))]
    for plane in FRAMES:
        for tumour in TUMOURS:
            here = [answer for answer in found if (answer.plane, answer.tumour) == (plane, tumour)]
            if here:
                lines.append([plane, "no tumour" if tumour == "none" else tumour, *(_share(here, variant) for variant in variants)])
    lines.append(["all", "", *(_share(found, variant, percent=True) for variant in variants)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(found: Sequence[Answer], variant: Variant, *, percent: bool = False) -> str:
    right = [answer.right for answer in found if answer.variant == variant]
    return f"{sum(right)}/{len(right)}" + (f" ({sum(right) / len(right):.0%})" if percent else "")


def write(found: Sequence[Answer], path: Path) -> None:
    """One line for each answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(Answer._fields)
        lines.writerows(found)


def main(
    axial: Annotated[int, typer.Option(min=1, help="seeds 1 to this in the axial plane")] = 9,
    others: Annotated[int, typer.Option(min=0, help="seeds 1 to this in the coronal and the sagittal plane")] = 8,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="also write every answer to this file")] = None,
) -> None:
    """Prints the table."""
    logs.configure("console", "warning")
    loaded = {variant: registry.load(MODEL, variant=variant, shadow_rate=0.0) for variant in VARIANTS}
    models = {variant: model for variant, model in loaded.items() if model.selector.variant == variant}
    found: list[Answer] = []
    for phantom in tqdm(list(phantoms(axial, others)), unit="phantom", mininterval=5):
        found += answers(phantom, models)
    print(table(found))
    if csv_file is not None:
        write(found, csv_file)


if __name__ == "__main__":
    typer.run(main)
