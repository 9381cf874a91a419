"""Examples: what every layout is read into. Arrays and names of files; nothing else of what was read leaves this room."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Recipe
from pipeline.prepare import prepare
from pipeline.records import Slices

FOLDS = ("0", "1", "2", "3", "4")
SEALED_FOLD = FOLDS[-1]  # for the gate alone; every choice but those of model_report.FOOTNOTE was made on the others
FEW_VOXELS = 40  # of tumour: a slice with fewer is neither tumour nor free of it
_NO_TUMOUR = {"no", "none", "normal", "healthy", "control", "negative"}


class DataError(Exception):
    """Data that cannot be read; the message says which file, what is wrong and what is expected."""


class BadFile(DataError):
    """One file that cannot be read, or whose mask does not fit it. The others can still be learnt from: --skip-bad."""


@dataclass(frozen=True)
class Examples:
    """Prepared slices; row i of everything is slice i."""

    images: NDArray[np.float16]  # (n, size, size), 0..1: `prepare`'s grey before mean and deviation
    masks: NDArray[np.uint8]  # (n, size, size), 1 inside the tumour
    labels: NDArray[np.int64]  # (n,), index into the model's labels
    names: tuple[str, ...]  # file, and slice of a volume
    sources: tuple[str, ...]  # figshare, web, volume, dicom, healthy, or what slices.csv says
    planes: tuple[str, ...]
    parts: tuple[str, ...]  # what can be left out together: fold of a picture, patient of a volume, name of a healthy head
    blocks: tuple[str, ...]  # neighbours of one patient, a volume, a head in one plane: what a bootstrap draws whole
    sealed: NDArray[np.bool_]  # (n,), never trained on

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_]) -> Examples:
        """The examples where `rows` is true."""
        columns = (self.names, self.sources, self.planes, self.parts, self.blocks)
        names, sources, planes, parts, blocks = (tuple(compress(column, rows)) for column in columns)
        arrays = (self.images[rows], self.masks[rows], self.labels[rows])
        return Examples(*arrays, names, sources, planes, parts, blocks, self.sealed[rows])


def join(parts: Sequence[Examples]) -> Examples:
    """All of `parts`, in order."""
    return Examples(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.masks for p in parts]),
        np.concatenate([p.labels for p in parts]),
        tuple(name for p in parts for name in p.names),
        tuple(source for p in parts for source in p.sources),
        tuple(plane for p in parts for plane in p.planes),
        tuple(part for p in parts for part in p.parts),
        tuple(block for p in parts for block in p.blocks),
        np.concatenate([p.sealed for p in parts]),
    )


class Job(NamedTuple):
    """One picture, series or volume that a layout found and nobody has read yet."""

    file: str
    read: Callable[[], Examples]  # raises BadFile


@dataclass(frozen=True)
class Classes:
    """The model's labels, and the words that people use for them."""

    labels: tuple[str, ...]
    absent: str

    def named(self, word: str) -> str | None:
        """The label that `word` means: glioma_tumor, Glioma and gliomas are one; healthy, normal and no_tumor are the absent label."""
        plain = _plain(word)
        if plain in _NO_TUMOUR:
            return self.absent
        return next((label for label in self.labels if _plain(label) == plain), None)

    def index(self, word: str, where: Path) -> int:
        """Raises DataError, with the nearest label, where `word` is none of them."""
        label = word if word in self.labels else self.named(word)
        if label is None:
            raise DataError(f"{where}: label {self.unknown(word)}")
        return self.labels.index(label)

    def unknown(self, word: str) -> str:
        """What is said of a word that means no label, with the nearest one where there is one."""
        near = difflib.get_close_matches(word.lower(), self.labels, 1)
        return f"{word!r} is none of {', '.join(self.labels)}{f'; is it {near[0]}?' if near else ''}"

    @property
    def clear(self) -> int:
        """Index of the absent label."""
        return self.labels.index(self.absent)


def _plain(word: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", word.lower())
    letters = re.sub(r"(tumou?rs?|adenomas?)$", "", letters) or letters
    return letters.removesuffix("s") if letters.endswith("mas") else letters


def prepared(slices: Slices, mask: NDArray[np.bool_], recipe: Recipe, where: Path) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Grey and mask (slice, size, size) through the same geometry. Raises BadFile where their sizes differ."""
    if mask.shape != slices.pixels.shape:
        raise BadFile(f"{where}: a mask of {mask.shape[1:]} for a slice of {slices.pixels.shape[1:]} pixels; they must have one size")
    as_it_is = recipe.model_copy(update={"foreground": 0.0, "percentile": 100.0, "mean": 0.0, "std": 1.0, "channels": 1})
    inside = Slices(slices.sources, mask.astype(np.float32), slices.spacing, slices.between, slices.orientation)
    grey = prepare(slices, recipe).tensor[:, 0] * recipe.std + recipe.mean
    return grey.astype(np.float16), (prepare(inside, as_it_is).tensor[:, 0] > 0.5).astype(np.uint8)
