"""A folder per class: glioma/, meningioma_tumor/, no tumor/ ..., perhaps below Training/ and Testing/, as the Kaggle sets come.

Nobody says which pictures are one patient's, so what looks alike stays together, and the public split, which leaks, is not believed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.manifest import Recipe
from scripts.datasets.examples import BadFile, Classes, DataError, Job
from scripts.datasets.folds import folds
from scripts.datasets.pictures import grey, picture, single
from scripts.datasets.prints import SIDE, Floats, alike, clusters, fingerprint_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}


def present(data: Path, classes: Classes) -> bool:
    return next(class_folders(data, classes), None) is not None


def class_folders(data: Path, classes: Classes) -> Iterator[tuple[Path, str]]:
    """Folder, and the label that its name means."""
    named = ((folder, classes.named(folder.name)) for folder in _folders(data))
    return ((folder, label) for folder, label in named if label is not None)


def _folders(data: Path) -> Iterator[Path]:
    """What may be of a class: right below `data`, or below a Training and a Testing."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        if folder.name.lower() in SPLITS:
            yield from _folders(folder)
        else:
            yield folder


def files(data: Path, classes: Classes) -> list[tuple[Path, str]]:
    """(file, label), label by label, each in the order of the numbers in the names; masks (..._mask.png) are none. Raises DataError where a
    folder with pictures is of no class: a misspelt one would be missed by nobody.
    """
    _refuse_other_pictures(data, classes)
    found = [(path, label) for folder, label in class_folders(data, classes) for path in _pictures(folder)]
    kept = [(path, label) for path, label in found if not path.stem.lower().endswith("_mask")]
    return sorted(kept, key=lambda item: (item[1], in_order(item[0].relative_to(data).as_posix())))


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _refuse_other_pictures(data: Path, classes: Classes) -> None:
    for folder in _folders(data):
        if classes.named(folder.name) is None and next(_pictures(folder), None) is not None:
            raise DataError(f"{folder}: rename it, or move it out of {data}: it holds pictures, and {classes.unknown(folder.name)}")


def in_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts im2 before im10."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d{0,18})", name)]


def find(data: Path, recipe: Recipe, classes: Classes) -> list[Job]:
    """A job a picture, in folds that keep what looks alike together. Raises DataError."""
    found = files(data, classes)
    names, labels = [path.relative_to(data).as_posix() for path, _ in found], [label for _, label in found]
    heads = _prints(found, recipe)
    blocks = [names[k] for k in clusters(len(found), alike(heads, names))]
    fold = folds(blocks, labels)
    tqdm.write(f"{data}: no patients are known, so only what looks alike is kept in one fold ({len(set(blocks))} groups)", file=sys.stderr)
    rows = [
        {
            "file": name,
            "label": label,
            "plane": "unknown",
            "mask": _mask(path, data),
            "source": "folder",
            "block": block,
            "fold": fold[block],
        }
        for (path, _), name, label, block in zip(found, names, labels, blocks, strict=True)
    ]
    return [Job(row["file"], lambda row=row: picture(data, row, recipe, classes)) for row in rows]  # type: ignore[misc]


def _mask(path: Path, data: Path) -> str:
    """Name_mask.png beside the picture, where somebody drew one."""
    mask = path.with_name(f"{path.stem}_mask.png")
    return mask.relative_to(data).as_posix() if mask.exists() else ""


def _prints(found: list[tuple[Path, str]], recipe: Recipe) -> Floats:
    """One that cannot be read is like none; it is listed when its turn comes."""
    prints = np.zeros((len(found), SIDE, SIDE), np.float32)
    for k, (path, _) in enumerate(tqdm(found, "looking for copies")):
        try:
            prints[k] = fingerprint_of(single(path.name, grey(path)), recipe)
        except BadFile:
            continue
    return prints
