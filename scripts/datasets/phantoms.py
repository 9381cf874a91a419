"""Phantoms to learn from: what takes up contrast in every head (sinuses, pituitary, plexus, mucosa) without a tumour, and with one.

Painted into one anatomy (scripts/phantom). Their seeds are not those that demo, tests and the model report read: there they are new heads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import Recipe
from pipeline.records import Pixels
from scripts.datasets.examples import Classes, Examples, join
from scripts.datasets.volumes import PLANES, cut, of_head
from scripts.phantom.paint import Tumour, paint

FIRST_SEED = 5000
EVERY, THICK = 8, 4  # mm from slice to slice, and mm that a slice shows the mean of


def phantoms(recipe: Recipe, classes: Classes, healthy: int = 6, others: int = 5) -> Examples:
    """Slices in three planes of `healthy` phantoms without tumour and `others` of each kind; source and part are "phantom"."""
    kinds: list[tuple[Tumour, int]] = [("none", healthy), ("glioma", others), ("meningioma", others), ("pituitary", others)]
    return join([_head(kind, FIRST_SEED + k, recipe, classes) for kind, count in kinds for k in range(count)])


def _head(tumour: Tumour, seed: int, recipe: Recipe, classes: Classes) -> Examples:
    head = paint(tumour, seed)
    labels = (classes.clear if tumour == "none" else classes.labels.index(tumour), classes.clear)
    found = []
    for axis, (plane, _) in PLANES.items():
        name = f"phantom {tumour} {seed} {plane}"
        slices, inside = (
            cut(_thick(volume, axis, seed % EVERY), axis, name, spacing=(1.0, 1.0), between=float(EVERY))
            for volume in (head.t1, head.lesion)
        )
        words = (name, "phantom", plane, "phantom", name)
        found.append(of_head(slices, inside.pixels > 0.5, recipe, Path(name), labels, words, sealed=False))
    return join(found)


def _thick(volume: Pixels | NDArray[np.bool_], axis: int, first: int) -> Pixels:
    """Thick slices across `axis`: another head begins at another place, so that its slices are others, too."""
    ends = range(first + THICK, volume.shape[axis] + 1, EVERY)
    return np.stack([np.take(volume, range(end - THICK, end), axis).mean(axis, dtype=np.float32) for end in ends], axis)
