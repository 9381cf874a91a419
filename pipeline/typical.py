"""typical: whether pictures look like those that the model learned from, by a few numbers of each prepared slice.

    share, brightness, contrast, sharpness of the head  ->  median over the slices that are asked  ->  within what the manifest says?

A network answers noise as surely as a head. This tells the crudest of what it never saw, and no more: a picture with usual numbers may
still be of another kind. Only a manifest that gives ranges is asked; the answer on pictures beyond them is unsure at best.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest, Recipe, Trait
from pipeline.records import Batch, Finding, Pixels

Values = NDArray[np.float64]  # (slice,)
_LEAST = 100  # pixels of head; with fewer there is nothing to measure


def doubted(finding: Finding, batch: Batch, manifest: Manifest) -> Finding:
    """The finding, or, on pictures unlike those that the model learned from, the same one called unsure, and why."""
    strange = unlike(batch, manifest)
    return replace(finding, call="unsure", unlike=strange) if strange else finding


def unlike(batch: Batch, manifest: Manifest) -> tuple[Trait, ...]:
    """The traits whose median over the slices with enough head lies outside of the manifest's ranges."""
    if not manifest.typical:
        return ()
    asked = batch.head_area >= manifest.rule.smallest_head * batch.head_area.max()
    measured = traits(batch.tensor[asked], manifest.recipe)
    medians = {name: float(np.median(values)) for name, values in measured.items()}
    return tuple(name for name, (low, high) in manifest.typical.items() if not low <= medians[name] <= high)


def traits(tensor: Pixels, recipe: Recipe) -> dict[Trait, Values]:
    """Numbers of each slice of a prepared tensor (slice, channel, size, size), by its first channel."""
    rows = np.array([_measured(picture * recipe.std + recipe.mean, recipe.foreground) for picture in tensor[:, 0]])
    share, brightness, contrast, sharpness = rows.reshape(-1, 4).T
    return {"share": share, "brightness": brightness, "contrast": contrast, "sharpness": sharpness}


def _measured(grey: Pixels, foreground: float) -> tuple[float, float, float, float]:
    """Of one slice, 0..1: how much of it is head; median of the head; from its 10th to its 90th percentile; mean step to the next pixel."""
    head = grey > foreground
    inside = grey[head]
    if inside.size < _LEAST:
        return float(head.mean()), 0.0, 0.0, 0.0
    dark, middle, bright = np.percentile(inside, (10, 50, 90))
    within = head[:, 1:] & head[:, :-1]
    steps = np.abs(np.diff(grey, axis=1))[within]
    return float(head.mean()), float(middle), float(bright - dark), float(steps.mean()) if steps.size else 0.0
