"""curate: a public download -> slices.csv, slices/ and masks/: each picture once, in folds that keep heads whole.

    pictures > fingerprints > copies out > groups, blocks > folds > OUT

Public sets hold one picture several times, mirrored, in two classes and on both sides of their own split, which is not believed.
"""

from __future__ import annotations

import csv
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from tqdm import tqdm

from pipeline.records import Pixels
from scripts.datasets.downloads import Picture, pictures
from scripts.datasets.examples import BadFile, Classes, DataError
from scripts.datasets.folds import FOLDS, folds
from scripts.datasets.layouts import tell
from scripts.datasets.pictures import COLUMNS, TABLE, single
from scripts.datasets.prints import COPY, NEAR, Floats, Pair, alike, clusters, fingerprint_of
from scripts.model_card import ABSENT, LABELS, RECIPE

RUN = 8  # neighbours of the original numbering that make a block where patients are unknown: most often one patient in one plane
WRITTEN = ("file", "label", "plane", "mask", "source", "group", "block", "fold", "width", "height")
assert set(COLUMNS) <= set(WRITTEN)


@dataclass
class Curated:
    """What is kept, row by row, and what was found on the way."""

    kept: list[Picture]
    groups: list[str]  # the cluster of near-duplicates of each
    blocks: list[str]
    folds: list[str]
    told: list[str] = field(default_factory=list)  # lines for the summary


app = typer.Typer(add_completion=False)


@app.command()
def main(
    source: Annotated[Path, typer.Argument(help="The download, unpacked.")],
    out: Annotated[Path, typer.Argument(help="Folder to make. One that is not empty is refused, unless --replace.")],
    patients: Annotated[
        Path | None, typer.Option(help="Cheng's MATLAB files: pictures that are copies of them get their patient as block.")
    ] = None,
    replace_old: Annotated[bool, typer.Option("--replace", help="Replace OUT, if this command made it.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without files that cannot be read.")] = False,
) -> None:
    """Makes the layout that `make train DATA=OUT` learns from out of a public download.

    SOURCE is BRISC 2025 (brisc2025_train_00001_gl_ax_t1.jpg ..., with the masks of its segmentation task), Cheng's MATLAB files
    (1.mat ...), or a folder per class (Training/glioma_tumor/ ...). Of each picture one copy is kept, however it was mirrored, turned,
    squeezed or saved anew; a picture in two classes is left out. Slices that show one head stay in one fold. Fold 4 is for the gate alone.

    \b
    python -m scripts.curate brisc2025/ data/brisc
    python -m scripts.curate brisc2025/ data/brisc --patients figshare1512427/
    python -m scripts.curate kaggle/ data/kaggle --replace --skip-bad
    make train DATA=data/brisc
    """
    try:
        print(curate(source, out, patients, replace_old=replace_old, skip_bad=skip_bad))
    except DataError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


def curate(source: Path, out: Path, patients: Path | None = None, *, replace_old: bool = False, skip_bad: bool = False) -> str:
    """Writes OUT; returns the summary. OUT is there whole or not at all. Raises DataError."""
    _may_write(source, out, replace_old)
    classes = Classes(tuple(label.name for label in LABELS), ABSENT)
    layout, found, bad = pictures(source, classes)
    found, prints, more = _printed(found)
    tell([*bad, *more], skip_bad)
    if not found:
        raise DataError(f"{source}: {layout}, but no picture that can be read")
    if patients:
        found = _with_patients(found, prints, *_printed(pictures(patients, classes)[1])[:2])
    curated = sifted(found, prints)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _write(curated, part)
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)
    return _summary(layout, len(found), len(bad) + len(more), curated)


def _may_write(source: Path, out: Path, replace_old: bool) -> None:
    if source.resolve() == out.resolve() or source.resolve() in out.resolve().parents or out.resolve() in source.resolve().parents:
        raise DataError(f"{out}: OUT and SOURCE must lie beside each other, not one in the other")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not replace_old:
            raise DataError(f"{out}: not empty; give another OUT, or --replace")
        if {path.name for path in out.iterdir()} != {TABLE, "slices", "masks"}:
            raise DataError(f"{out}: holds more than {TABLE}, slices and masks, so not only this command made it; give another OUT")


def _printed(found: Sequence[Picture]) -> tuple[list[Picture], Floats, list[BadFile]]:
    """The pictures that can be read, with their fingerprints."""
    kept, prints, bad = [], [], []
    for picture in tqdm(found, "fingerprints"):
        try:
            prints.append(fingerprint_of(single(picture.name, _checked(picture)), RECIPE))
            kept.append(picture)
        except BadFile as error:
            bad.append(error)
    return kept, np.array(prints, np.float32), bad


def _checked(picture: Picture) -> Pixels:
    """Raises BadFile, also where its mask has another size."""
    pixels, drawn = picture.pixels(), picture.drawn()
    if drawn is not None and drawn.shape != pixels.shape:
        raise BadFile(
            f"{picture.mask or picture.path}: a mask of {drawn.shape} for a slice of {pixels.shape} pixels; they must have one size"
        )
    return pixels


def _with_patients(found: Sequence[Picture], prints: Floats, known: Sequence[Picture], known_prints: Floats) -> list[Picture]:
    """`found`, each that is a copy of a picture whose patient is known with that patient and source."""
    sides = ["found"] * len(found) + ["known"] * len(known)
    named: dict[int, Picture] = {}
    for pair in alike(np.concatenate([prints, known_prints]), sides, COPY):  # the most alike first
        named.setdefault(min(pair.first, pair.second), known[max(pair.first, pair.second) - len(found)])
    return [replace(p, patient=named[k].patient, source=named[k].source) if k in named else p for k, p in enumerate(found)]


def sifted(found: Sequence[Picture], prints: Floats) -> Curated:
    """One copy of each picture, with group, block and fold."""
    near = alike(prints, [picture.name for picture in found], NEAR)
    copies = [pair for pair in near if pair.likeness >= COPY]
    keep, told = _one_of_each(found, clusters(len(found), copies), copies)
    place = {row: k for k, row in enumerate(keep)}
    pairs = [Pair(place[p.first], place[p.second], p.likeness, p.turned) for p in near if p.first in place and p.second in place]
    kept = [found[row] for row in keep]
    groups = [kept[k].name for k in clusters(len(kept), pairs)]
    heads = _together(groups, [picture.patient or picture.name for picture in kept])
    fold_of = folds(heads, [picture.series for picture in kept])
    fold = [fold_of[head] for head in heads]
    blocks = _blocks(kept, fold)
    largest = max(Counter(heads).values(), default=0)
    told.append(f"{len(set(groups))} groups of near-duplicates, {len(set(blocks))} blocks; most slices that stay together: {largest}")
    return Curated(kept, groups, blocks, fold, told)


def _one_of_each(found: Sequence[Picture], cluster: Sequence[int], copies: Sequence[Pair]) -> tuple[list[int], list[str]]:
    """Rows that are kept - of copies one with a mask or a patient, if there is one - and what was found."""
    members: dict[int, list[int]] = {}
    for row, first in enumerate(cluster):
        members.setdefault(first, []).append(row)
    torn = [rows for rows in members.values() if len({found[row].label for row in rows}) > 1]
    whole = [rows for rows in members.values() if len({found[row].label for row in rows}) == 1]
    keep = sorted(min(rows, key=lambda row: (not (found[row].mask or found[row].patient), row)) for rows in whole)
    turned, lost = sum(pair.turned for pair in copies), sum(map(len, torn))
    told = [
        f"{sum(len(rows) - 1 for rows in whole)} copies left out; of {len(copies)} pairs of copies {turned} are mirrored or turned",
        f"{lost} pictures left out because the same picture stands in two classes",
    ]
    return keep, told + [f"  {' | '.join(found[row].path.name for row in rows)}" for rows in torn[:10]]


def _blocks(kept: Sequence[Picture], folds: Sequence[str]) -> list[str]:
    """The patient where one is known, else runs of neighbours of the original numbering that lie in one fold."""
    seen: Counter[str] = Counter()
    blocks = []
    for picture, fold in zip(kept, folds, strict=True):
        run = f"{picture.series}-{fold}"
        blocks.append(picture.patient or f"{run}-{seen[run] // RUN:03}")
        seen[run] += not picture.patient
    return blocks


def _together(*namings: Sequence[str]) -> list[str]:
    """The name of what each row hangs together with, by any of the namings."""
    pairs = []
    for naming in namings:
        first: dict[str, int] = {}
        pairs += [Pair(first.setdefault(name, row), row, 1.0, False) for row, name in enumerate(naming)]
    return [str(root) for root in clusters(len(namings[0]), pairs)]


def _write(curated: Curated, out: Path) -> None:
    (out / "slices").mkdir(parents=True)
    (out / "masks").mkdir()
    with (out / TABLE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, WRITTEN, lineterminator="\n")
        writer.writeheader()
        rows = zip(curated.kept, curated.groups, curated.blocks, curated.folds, strict=True)
        for picture, group, block, fold in tqdm(rows, "writing", total=len(curated.kept)):
            file, mask, (height, width) = _save(picture, out)
            words = (file, picture.label, picture.plane, mask, picture.source, group, block, fold, width, height)
            writer.writerow(dict(zip(WRITTEN, words, strict=True)))


def _save(picture: Picture, out: Path) -> tuple[str, str, tuple[int, ...]]:
    """Picture, mask and size, as the csv names them; pictures are copied as they are, MATLAB's become PNG."""
    pixels, drawn = picture.pixels(), picture.drawn()
    file, mask = f"slices/{picture.name}{picture.path.suffix.replace('.mat', '.png').lower()}", ""
    if picture.path.suffix == ".mat":
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(out / file)
    else:
        shutil.copyfile(picture.path, out / file)
    if drawn is not None and drawn.any():
        mask = f"masks/{picture.name}.png"
        Image.fromarray(drawn.astype(np.uint8) * 255).save(out / mask)
    return file, mask, pixels.shape


def _summary(layout: str, read: int, bad: int, curated: Curated) -> str:
    """What was found, and how many slices of each class and plane each fold has."""
    kinds = [f"{picture.label} {picture.plane}" for picture in curated.kept]
    count = Counter(zip(kinds, curated.folds, strict=True))
    lines = [f"{layout}: {read} pictures read, {bad} could not be, {len(curated.kept)} kept", *curated.told, ""]
    lines.append(f"{'':24}" + "".join(f"{f'fold {k}':>8}" for k in range(FOLDS)))
    lines += [f"{kind:24}" + "".join(f"{count[kind, str(k)]:8}" for k in range(FOLDS)) for kind in sorted(set(kinds))]
    return "\n".join([*lines, "", "Fold 4 is for the gate alone."])


if __name__ == "__main__":
    app()
