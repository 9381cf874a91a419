"""What the manifest's `[typical]` says: between which values nearly all learnt slices lie. Training calls it on what it fed the network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.manifest import Recipe, Trait
from pipeline.records import Pixels
from pipeline.typical import traits

WITHIN = (0.1, 99.9)  # percentiles of the learnt slices
LEAST_SHARE = 0.2  # of the picture that is head; a study's slices with little head are not asked either


def ranges(tensors: Iterable[Pixels], recipe: Recipe) -> dict[Trait, tuple[float, float]]:
    """(low, high) of each trait over prepared slices, in parts of (slice, channel, size, size); nothing where none shows enough head."""
    parts = [traits(tensor, recipe) for tensor in tensors]
    found: dict[Trait, Pixels] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    asked = found["share"] >= LEAST_SHARE
    if not asked.any():
        return {}
    ends = {name: np.percentile(values[asked], WITHIN) for name, values in found.items()}
    return {name: (round(float(low), 4), round(float(high), 4)) for name, (low, high) in ends.items()}
