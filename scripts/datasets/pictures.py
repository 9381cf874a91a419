"""Pictures that a slices.csv names: file, label, plane, mask, source, block, fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.manifest import Recipe
from pipeline.records import Pixels, Slices, Source
from scripts.datasets.examples import SEALED_FOLD, BadFile, Classes, DataError, Examples, Job, prepared
from scripts.datasets.tables import rows_of

TABLE = "slices.csv"
COLUMNS = ("file", "label", "plane", "mask", "source", "block", "fold")
PLANES = ("axial", "coronal", "sagittal", "unknown")
SQUEEZED = 0.62  # width / height below which a picture of a head was squeezed by whoever collected it, whatever it shows
WIDEN = 1.3  # mm between columns that makes such a head look like a head again


def find(data: Path, recipe: Recipe, classes: Classes) -> list[Job]:
    """A job a row. Raises DataError."""
    rows = rows_of(data / TABLE, COLUMNS)
    for row in rows:
        classes.index(row["label"], data / row["file"])  # every label is looked at before the first picture is
        if row["plane"] not in PLANES:
            raise DataError(f"{data / TABLE}: {row['file']} has the plane {row['plane']!r}; expected one of {', '.join(PLANES)}")
    return [Job(row["file"], lambda row=row: picture(data, row, recipe, classes)) for row in rows]  # type: ignore[misc]


def picture(data: Path, row: dict[str, str], recipe: Recipe, classes: Classes) -> Examples:
    """One picture: its own volume of one slice, without a known orientation. Raises BadFile."""
    label, pixels = classes.index(row["label"], data / row["file"]), grey(data / row["file"])
    mask = grey(data / row["mask"]) > 127 if row["mask"] else np.zeros(pixels.shape, bool)
    slices = single(row["file"], pixels)
    images, masks = prepared(slices, mask[None], recipe, data / (row["mask"] or row["file"]))
    sealed = np.array([row["fold"] == SEALED_FOLD])
    file, source, plane, fold, block = ((row[column],) for column in ("file", "source", "plane", "fold", "block"))
    return Examples(images, masks, np.array([label]), file, source, plane, fold, block, sealed)


def single(name: str, pixels: Pixels) -> Slices:
    """A picture (row, column) as a series of one slice; a squeezed head is widened. Its label is not asked: nothing that the network sees
    may hang on it.
    """
    squeezed = pixels.shape[1] / pixels.shape[0] < SQUEEZED
    return Slices((Source(name),), pixels[None], spacing=(1.0, WIDEN if squeezed else 1.0))


def grey(path: Path) -> Pixels:
    """(row, column), 0..255. Raises BadFile."""
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("L"), dtype=np.float32)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadFile(f"{path}: not a picture that can be read ({error})") from error
