"""Healthy heads: the one that ships with the phantoms, and any that a NIfTI file holds; every slice of them is free of tumour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import Recipe
from pipeline.records import Pixels
from scripts.datasets.examples import Examples, join, prepared
from scripts.datasets.volumes import PLANES, cut, nifti

EMPTY = 0.03  # share of the square that must be head for a slice of a healthy head to be worth learning
ANATOMY = Path(__file__).parents[1] / "anatomy" / "colin27.npz"


def bundled_head(recipe: Recipe, clear: int, every: int = 3) -> Examples:
    """The healthy head that ships with the phantoms (scripts/anatomy), in three planes, whole and as brain alone; label `clear`."""
    head, brain = _bundled()
    return join([*_planes(head, "colin27", recipe, clear, every), *_planes(head * brain, "colin27 brain", recipe, clear, every)])


def middles(recipe: Recipe) -> dict[str, Pixels]:
    """Plane -> the slice through the middle of the bundled head, (size, size), 0..1."""
    head, _ = _bundled()
    found = {}
    for axis, (plane, _) in PLANES.items():
        slices = cut(np.take(head, [head.shape[axis] // 2], axis), axis, plane, spacing=(1.0, 1.0), between=1.0)
        [found[plane]], _ = prepared(slices, np.zeros(slices.pixels.shape, bool), recipe, ANATOMY)
    return {plane: image.astype(np.float32) for plane, image in found.items()}


def _bundled() -> tuple[Pixels, NDArray[np.bool_]]:
    """Head and brain, with the axes to the right, the front and the top."""
    with np.load(ANATOMY) as archive:
        head = archive["t1"].astype(np.float32)
        return head, np.unpackbits(archive["brain"])[: head.size].reshape(head.shape).astype(bool)


def healthy_head(path: Path, recipe: Recipe, clear: int, every: int = 1) -> Examples:
    """A healthy head from a NIfTI file, in three planes; sealed, because what is measured on it must not be learnt. Raises DataError."""
    volume, zooms = nifti(path)
    found = join(list(_planes(volume, path.name, recipe, clear, every, zooms)))
    return replace(found, sealed=np.ones(len(found), bool))


def _planes(
    head: Pixels, name: str, recipe: Recipe, clear: int, every: int, zooms: Sequence[float] = (1.0, 1.0, 1.0)
) -> Iterator[Examples]:
    for axis, (plane, _) in PLANES.items():
        across, down = (zooms[k] for k in range(3) if k != axis)
        slices = cut(head, axis, name, spacing=(down, across), between=zooms[axis])
        images, masks = prepared(slices, np.zeros(slices.pixels.shape, bool), recipe, Path(name))
        rows = [k for k in range(0, len(images), every) if (images[k] > recipe.foreground).mean() > EMPTY]
        yield Examples(
            images[rows],
            masks[rows],
            np.full(len(rows), clear, np.int64),
            tuple(f"{name} {plane} {k}" for k in rows),
            ("healthy",) * len(rows),
            (plane,) * len(rows),
            (name.split()[0],) * len(rows),
            (f"{name} {plane}",) * len(rows),
            np.zeros(len(rows), bool),
        )
