"""How many phantoms each variant of the bundled network reads rightly: a markdown table, by tumour and plane.

    python -m scripts.phantom_scores --axial 10 --others 5

Right is: the painted tumour present, or a healthy head without one. Each variant answers as it does in service, so where int8 answers,
fp32 reads the slices that decide too. Phantoms were painted until the network knew them: a table for finding out whether a change
broke something, and no evidence of how good the network is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from tqdm import tqdm

from listener import logs
from listener.headers import studies
from models import registry
from models.registry import Model
from pipeline.records import Variant
from pipeline.run import analyze
from scripts.make_phantom import write_study
from scripts.paint import Tumour
from scripts.scan import FRAMES, Plane

MODEL = "brain_tumor_4class"
TUMOURS: tuple[Tumour, ...] = ("glioma", "meningioma", "pituitary", "none")
VARIANTS: tuple[Variant, Variant] = ("fp32", "int8")
Row = tuple[Tumour, Plane]


class Phantom(NamedTuple):
    tumour: Tumour
    seed: int
    plane: Plane


def phantoms(axial: int, others: int) -> Iterator[Phantom]:
    """Seeds from 1; those of one head in all its planes follow each other, so that it is painted once."""
    for tumour in TUMOURS:
        for seed in range(1, max(axial, others) + 1):
            yield from (Phantom(tumour, seed, plane) for plane in FRAMES if seed <= (axial if plane == "axial" else others))


def right(phantom: Phantom, models: dict[Variant, Model]) -> dict[Variant, bool]:
    """Whether each variant names what was painted."""
    wanted = ("notumor", "absent") if phantom.tumour == "none" else (phantom.tumour, "present")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_study(Path(folder), tumour=phantom.tumour, seed=phantom.seed, plane=phantom.plane, series=("t1",))
        [study] = studies(paths)
        findings = {variant: analyze(study, [model], datetime.now(UTC)).finding for variant, model in models.items()}
    return {variant: finding is not None and (finding.label, finding.call) == wanted for variant, finding in findings.items()}


def table(rows: dict[Row, list[dict[Variant, bool]]]) -> str:
    """Markdown: a row for each plane and tumour, a column for each variant; "9/10" is nine of ten right."""
    variants = list(next(iter(rows.values()))[0])
    lines = [["plane", "painted", *variants], ["---"] * (2 + len(variants))]
    for plane in FRAMES:
        for (tumour, of_plane), answers in rows.items():
            if of_plane == plane:
                scores = [f"{sum(answer[variant] for answer in answers)}/{len(answers)}" for variant in variants]
                lines.append([plane, "no tumour" if tumour == "none" else tumour, *scores])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    axial: Annotated[int, typer.Option(min=1, help="seeds 1 to this in the axial plane")] = 10,
    others: Annotated[int, typer.Option(min=0, help="seeds 1 to this in the coronal and the sagittal plane")] = 5,
) -> None:
    """Prints the table."""
    logs.configure("console", "warning")
    loaded = {variant: registry.load(MODEL, variant=variant, shadow_rate=0.0) for variant in VARIANTS}
    models = {variant: model for variant, model in loaded.items() if model.selector.variant == variant}
    rows: dict[Row, list[dict[Variant, bool]]] = {}
    for phantom in tqdm(list(phantoms(axial, others)), unit="phantom", mininterval=5):
        rows.setdefault((phantom.tumour, phantom.plane), []).append(right(phantom, models))
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
