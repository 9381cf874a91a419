"""What the manifest's `[typical]` says: between which values nearly all learnt slices lie. Training calls it on what it fed the network."""

from __future__ import annotations

import numpy as np

from models.manifest import Recipe, Trait
from pipeline.records import Pixels
from pipeline.typical import traits

WITHIN = (0.1, 99.9)  # percentiles of the learnt slices


def ranges(tensor: Pixels, recipe: Recipe) -> dict[Trait, tuple[float, float]]:
    """(low, high) of each trait over prepared slices (slice, channel, size, size)."""
    found = {name: np.percentile(values, WITHIN) for name, values in traits(tensor, recipe).items()}
    return {name: (round(float(low), 4), round(float(high), 4)) for name, (low, high) in found.items()}
