"""Readers of foreign formats: folders of tumour MRI -> arrays to learn from, through the same `pipeline.prepare` that serves.

    slices.csv + pictures + masks, volumes.csv + NIfTI + masks, a healthy head > Slices > prepare > Examples

DIR/slices.csv names pictures (file, label, plane, mask, source, fold), DIR/volumes.csv whole heads (file, mask, label, patient).
DIR/slices.csv is required, DIR/volumes.csv is not. Nothing of what is read leaves this room but arrays and file names.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from models.manifest import Recipe
from pipeline.prepare import prepare
from pipeline.records import Pixels, Slices, Source

SEALED_FOLD, SEALED_PATIENT = "4", "btp06"  # for the gate alone; every choice but one (model_report.FOOTNOTE) was made on the others
SQUEEZED = 0.62  # width / height below which a "no tumour" picture was squeezed by whoever collected it
WIDEN = 1.3  # mm between columns that makes such a head look like a head again
FEW_VOXELS = 40  # of tumour: a slice with fewer is neither tumour nor free of it
EMPTY = 0.03  # share of the square that must be head for a slice of a healthy head to be worth learning
ANATOMY = Path(__file__).parent / "anatomy" / "colin27.npz"

# Slice axis of a right-anterior-superior volume: its plane, and (columns, rows) direction in DICOM's L, P, S patient axes
PLANES: dict[int, tuple[str, tuple[float, float, float, float, float, float]]] = {
    0: ("sagittal", (0, -1, 0, 0, 0, 1)),  # columns to the front, rows to the top
    1: ("coronal", (-1, 0, 0, 0, 0, 1)),  # columns to the right, rows to the top
    2: ("axial", (-1, 0, 0, 0, -1, 0)),  # columns to the right, rows to the front
}


class DataError(Exception):
    """Data that cannot be read; the message says which file, what is wrong and what is expected."""


@dataclass(frozen=True)
class Examples:
    """Prepared slices; row i of everything is slice i."""

    images: NDArray[np.float16]  # (n, size, size), 0..1: `prepare`'s grey before mean and deviation
    masks: NDArray[np.uint8]  # (n, size, size), 1 inside the tumour
    labels: NDArray[np.int64]  # (n,), index into the model's labels
    names: tuple[str, ...]  # file, and slice of a volume
    sources: tuple[str, ...]  # figshare, web, volume, healthy
    planes: tuple[str, ...]
    sealed: NDArray[np.bool_]  # (n,), never trained on

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_]) -> Examples:
        """The examples where `rows` is true."""
        names, sources, planes = (tuple(compress(words, rows)) for words in (self.names, self.sources, self.planes))
        return Examples(self.images[rows], self.masks[rows], self.labels[rows], names, sources, planes, self.sealed[rows])


def join(parts: Sequence[Examples]) -> Examples:
    """All of `parts`, in order."""
    return Examples(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.masks for p in parts]),
        np.concatenate([p.labels for p in parts]),
        tuple(name for p in parts for name in p.names),
        tuple(source for p in parts for source in p.sources),
        tuple(plane for p in parts for plane in p.planes),
        np.concatenate([p.sealed for p in parts]),
    )


def load(data: Path, recipe: Recipe, labels: Sequence[str], absent: str) -> Examples:
    """Everything under `data`. Raises DataError."""
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; --data wants a folder with slices.csv (and volumes.csv) in it")
    parts = [_picture(data, row, recipe, labels, absent) for row in tqdm(_rows(data / "slices.csv", _SLICE_COLUMNS), "pictures")]
    if (data / "volumes.csv").exists():
        parts += [_volume(data, row, recipe, labels, absent) for row in tqdm(_rows(data / "volumes.csv", _VOLUME_COLUMNS), "volumes")]
    return join(parts)


_SLICE_COLUMNS = ("file", "label", "plane", "mask", "source", "fold")
_VOLUME_COLUMNS = ("file", "mask", "label", "patient")


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.exists():
        raise DataError(f"{path}: no such file; it names the slices to learn from, with the columns {', '.join(columns)}")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise DataError(f"{path}: no rows, or no column {', '.join(missing)}; expected {', '.join(columns)}")
    return rows


def _index(labels: Sequence[str], label: str, where: Path) -> int:
    if label not in labels:
        raise DataError(f"{where}: label {label!r} is none of {', '.join(labels)}")
    return list(labels).index(label)


def _picture(data: Path, row: dict[str, str], recipe: Recipe, labels: Sequence[str], absent: str) -> Examples:
    """One picture: its own volume of one slice, without a known orientation."""
    label, pixels = _index(labels, row["label"], data / row["file"]), _grey(data / row["file"])
    mask = _grey(data / row["mask"]) > 127 if row["mask"] else np.zeros(pixels.shape, bool)
    squeezed = row["label"] == absent and pixels.shape[1] / pixels.shape[0] < SQUEEZED
    slices = Slices((Source(row["file"]),), pixels[None], spacing=(1.0, WIDEN if squeezed else 1.0))
    images, masks = _prepared(slices, mask[None], recipe, data / (row["mask"] or row["file"]))
    sealed = np.array([row["fold"] == SEALED_FOLD])
    return Examples(images, masks, np.array([label]), (row["file"],), (row["source"],), (row["plane"],), sealed)


def _grey(path: Path) -> Pixels:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"), dtype=np.float32)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: not a picture that can be read ({error}); the csv beside it names it") from error


def _volume(data: Path, row: dict[str, str], recipe: Recipe, labels: Sequence[str], absent: str) -> Examples:
    """One head, axial; slices without signal, and slices with a few voxels of tumour, are left out."""
    tumour, clear = _index(labels, row["label"], data / row["file"]), _index(labels, absent, data / row["file"])
    volume, zooms = _nifti(data / row["file"])
    mask, _ = _nifti(data / row["mask"])
    slices = cut(volume, 2, row["file"], spacing=(zooms[1], zooms[0]), between=zooms[2])
    if mask.shape != volume.shape:
        raise DataError(f"{data / row['mask']}: a mask of {mask.shape} for a volume of {volume.shape}; they must have one size")
    inside = mask.transpose(2, 1, 0) > 0
    images, masks = _prepared(slices, inside, recipe, data / row["mask"])
    voxels = inside.sum((1, 2))
    keep = (slices.pixels.max((1, 2)) > 0) & ((voxels == 0) | (voxels > FEW_VOXELS))
    found = Examples(
        images,
        masks,
        np.where(voxels > 0, tumour, clear).astype(np.int64),
        tuple(f"{row['file']} slice {k}" for k in range(len(images))),
        ("volume",) * len(images),
        ("axial",) * len(images),
        np.full(len(images), row["patient"] == SEALED_PATIENT),
    )
    return found.take(keep)


def _nifti(path: Path) -> tuple[Pixels, tuple[float, ...]]:
    """Voxels with the axes to the right, the front and the top, and their size in mm."""
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        return np.asarray(image.get_fdata(dtype=np.float32)), tuple(float(z) for z in image.header.get_zooms()[:3])
    except (OSError, ImageFileError) as error:
        raise DataError(f"{path}: not a NIfTI volume that can be read ({error})") from error


def cut(volume: Pixels, axis: int, name: str, *, spacing: tuple[float, float], between: float) -> Slices:
    """A right-anterior-superior volume, cut across `axis`: columns run along the first axis that is left, rows along the second."""
    pixels = np.ascontiguousarray(np.moveaxis(volume, axis, 0).transpose(0, 2, 1), dtype=np.float32)
    sources = tuple(Source(name, k + 1) for k in range(len(pixels)))
    return Slices(sources, pixels, spacing, between, PLANES[axis][1])


def _prepared(slices: Slices, mask: NDArray[np.bool_], recipe: Recipe, where: Path) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Grey and mask through the same geometry. Raises DataError where their sizes differ."""
    if mask.shape != slices.pixels.shape:
        raise DataError(f"{where}: a mask of {mask.shape[1:]} for a slice of {slices.pixels.shape[1:]} pixels; they must have one size")
    as_it_is = recipe.model_copy(update={"foreground": 0.0, "percentile": 100.0, "mean": 0.0, "std": 1.0, "channels": 1})
    inside = Slices(slices.sources, mask.astype(np.float32), slices.spacing, slices.between, slices.orientation)
    grey = prepare(slices, recipe).tensor[:, 0] * recipe.std + recipe.mean
    return grey.astype(np.float16), (prepare(inside, as_it_is).tensor[:, 0] > 0.5).astype(np.uint8)


def bundled_head(recipe: Recipe, clear: int, every: int = 3) -> Examples:
    """The healthy head that ships with the phantoms (scripts/anatomy), in three planes, whole and as brain alone; label `clear`."""
    with np.load(ANATOMY) as archive:
        head = archive["t1"].astype(np.float32)
        brain = np.unpackbits(archive["brain"])[: head.size].reshape(head.shape).astype(bool)
    return join([*_planes(head, "colin27", recipe, clear, every), *_planes(head * brain, "colin27 brain", recipe, clear, every)])


def healthy_head(path: Path, recipe: Recipe, clear: int, every: int = 1) -> Examples:
    """A healthy head from a NIfTI file, in three planes; sealed, because what is measured on it must not be learnt. Raises DataError."""
    volume, zooms = _nifti(path)
    found = join(list(_planes(volume, path.name, recipe, clear, every, zooms)))
    return replace(found, sealed=np.ones(len(found), bool))


def _planes(
    head: Pixels, name: str, recipe: Recipe, clear: int, every: int, zooms: Sequence[float] = (1.0, 1.0, 1.0)
) -> Iterator[Examples]:
    for axis, (plane, _) in PLANES.items():
        across, down = (zooms[k] for k in range(3) if k != axis)
        slices = cut(head, axis, name, spacing=(down, across), between=zooms[axis])
        images, masks = _prepared(slices, np.zeros(slices.pixels.shape, bool), recipe, Path(name))
        rows = [k for k in range(0, len(images), every) if (images[k] > recipe.foreground).mean() > EMPTY]
        yield Examples(
            images[rows],
            masks[rows],
            np.full(len(rows), clear, np.int64),
            tuple(f"{name} {plane} {k}" for k in rows),
            ("healthy",) * len(rows),
            (plane,) * len(rows),
            np.zeros(len(rows), bool),
        )
