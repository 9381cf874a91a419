"""Whole heads as NIfTI that a volumes.csv names: file, mask, label, patient; fold and plane if need be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from models.manifest import Recipe
from pipeline.records import Pixels, Slices, Source
from scripts.datasets.examples import FEW_VOXELS, SEALED_FOLD, BadFile, Classes, DataError, Examples, Job, prepared
from scripts.datasets.folds import folds
from scripts.datasets.tables import rows_of

TABLE = "volumes.csv"
COLUMNS = ("file", "mask", "label", "patient")
SEALED_PATIENT = "btp06"  # of the volumes that the bundled network learnt from

# Slice axis of a right-anterior-superior volume: its plane, and (columns, rows) direction in DICOM's L, P, S patient axes
PLANES: dict[int, tuple[str, tuple[float, float, float, float, float, float]]] = {
    0: ("sagittal", (0, -1, 0, 0, 0, 1)),  # columns to the front, rows to the top
    1: ("coronal", (-1, 0, 0, 0, 0, 1)),  # columns to the right, rows to the top
    2: ("axial", (-1, 0, 0, 0, -1, 0)),  # columns to the right, rows to the front
}
_AXIS = {plane: axis for axis, (plane, _) in PLANES.items()}


def find(data: Path, recipe: Recipe, classes: Classes) -> list[Job]:
    """A job a row. Raises DataError."""
    rows = rows_of(data / TABLE, COLUMNS)
    for row in rows:
        classes.index(row["label"], data / row["file"])
        if row.get("plane") and row["plane"] not in _AXIS:
            raise DataError(f"{data / TABLE}: {row['file']} has the plane {row['plane']!r}; expected one of {', '.join(_AXIS)}")
    sealed = sealed_patients(rows)
    return [Job(row["file"], lambda row=row: _volume(data, row, recipe, classes, row["patient"] in sealed)) for row in rows]  # type: ignore[misc]


def sealed_patients(rows: Sequence[dict[str, str]]) -> set[str]:
    """Those of fold 4, where a column says so; else the bundled network's sealed patient; else the last fifth."""
    patients = [row["patient"] for row in rows]
    if any(row.get("fold") for row in rows):
        return {row["patient"] for row in rows if row["fold"] == SEALED_FOLD}
    if SEALED_PATIENT in patients:
        return {SEALED_PATIENT}
    return {patient for patient, fold in folds(patients, [row["label"] for row in rows]).items() if fold == SEALED_FOLD}


def _volume(data: Path, row: dict[str, str], recipe: Recipe, classes: Classes, sealed: bool) -> Examples:
    """One head, cut into the slices it was scanned in (axial, unless the row has another plane)."""
    volume, zooms = nifti(data / row["file"])
    if row["mask"]:
        mask, _ = nifti(data / row["mask"])
    elif classes.index(row["label"], data / row["file"]) == classes.clear:
        mask = np.zeros_like(volume)
    else:
        raise DataError(
            f"{data / TABLE}: {row['file']} is labelled {row['label']} and has no mask; without one nobody knows which slices show it"
        )
    if mask.shape != volume.shape:
        raise BadFile(f"{data / row['mask']}: a mask of {mask.shape} for a volume of {volume.shape}; they must have one size")
    axis = _AXIS[row.get("plane") or "axial"]
    across, down = (zooms[k] for k in range(3) if k != axis)
    slices = cut(volume, axis, row["file"], spacing=(down, across), between=zooms[axis])
    inside = cut(mask, axis, row["file"], spacing=(down, across), between=zooms[axis]).pixels > 0
    stem = Path(row["file"]).name.split(".")[0]
    tumour = classes.index(row["label"], data / row["file"])
    return of_head(
        slices,
        inside,
        recipe,
        data / (row["mask"] or row["file"]),
        (tumour, classes.clear),
        (row["file"], "volume", PLANES[axis][0], row["patient"], stem),
        sealed,
    )


def of_head(
    slices: Slices,
    inside: NDArray[np.bool_],
    recipe: Recipe,
    where: Path,
    labels: tuple[int, int],
    words: tuple[str, str, str, str, str],
    sealed: bool,
) -> Examples:
    """Slices of one head, `labels` (tumour, clear) from its mask; those without signal, and those with a few voxels of tumour, left out.

    `words`: file, source, plane, part, block. Raises BadFile.
    """
    images, masks = prepared(slices, inside, recipe, where)
    voxels, count = inside.sum((1, 2)), len(inside)
    keep = (slices.pixels.max((1, 2)) > 0) & ((voxels == 0) | (voxels > FEW_VOXELS))
    file, source, plane, part, block = words
    found = Examples(
        images,
        masks,
        np.where(voxels > 0, *labels).astype(np.int64),
        tuple(f"{file} slice {k}" for k in range(count)),
        (source,) * count,
        (plane,) * count,
        (part,) * count,
        (block,) * count,
        np.full(count, sealed),
    )
    return found.take(keep)


def nifti(path: Path) -> tuple[Pixels, tuple[float, ...]]:
    """Voxels with the axes to the right, the front and the top, and their size in mm. Raises BadFile."""
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        volume, zooms = np.asarray(image.get_fdata(dtype=np.float32)), tuple(float(z) for z in image.header.get_zooms()[:3])
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise BadFile(f"{path}: not a NIfTI volume that can be read ({error})") from error
    volume = volume.squeeze(tuple(range(3, volume.ndim))) if volume.shape[3:] == (1,) * (volume.ndim - 3) else volume
    if volume.ndim != 3:
        raise BadFile(f"{path}: {volume.ndim} dimensions, where a head has 3; take one volume out of it")
    return volume, zooms


def cut(volume: Pixels, axis: int, name: str, *, spacing: tuple[float, float], between: float) -> Slices:
    """A right-anterior-superior volume, cut across `axis`: columns run along the first axis that is left, rows along the second."""
    pixels = np.ascontiguousarray(np.moveaxis(volume, axis, 0).transpose(0, 2, 1), dtype=np.float32)
    sources = tuple(Source(name, k + 1) for k in range(len(pixels)))
    return Slices(sources, pixels, spacing, between, PLANES[axis][1])
