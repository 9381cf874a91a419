"""Slices that belong to nobody: ellipses with balls, rings and noise, each another, as a network would be fed them."""

from __future__ import annotations

import numpy as np

from models.manifest import Recipe
from models.runtime import Floats


def heads(recipe: Recipe, count: int, seed: int = 0) -> Floats:
    """(count, channels, size, size)."""
    rng = np.random.default_rng(seed)
    grey = np.stack([_head(rng, recipe.size) for _ in range(count)])
    return np.ascontiguousarray(np.repeat(((grey - recipe.mean) / recipe.std)[:, None], recipe.channels, axis=1), dtype=np.float32)


def _head(rng: np.random.Generator, size: int) -> np.ndarray:
    y, x = (np.mgrid[:size, :size] - size / 2 + 0.5) / (size / 2)
    inside = (x / rng.uniform(0.5, 0.8)) ** 2 + (y / rng.uniform(0.6, 0.9)) ** 2
    plain = np.where(inside < 1, np.where(inside > 0.85, rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.6)), 0.0)
    away, reach = np.hypot(x - rng.uniform(-0.35, 0.35), y - rng.uniform(-0.4, 0.4)), rng.uniform(0, 0.3)
    ball = np.where(away < reach, rng.uniform(0.7, 1.0), plain)
    ring = np.where(np.abs(away - reach) < 0.05, rng.uniform(0.6, 0.95), plain * (away > reach))
    return np.clip((ball, ring, plain)[rng.integers(3)] + rng.normal(0, rng.uniform(0.01, 0.08), (size, size)), 0, 1)
