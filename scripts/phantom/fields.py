"""Tools to paint with on a 1 mm grid: smooth noise, distances, soft edges. All in float32 and, where it saves time, in a box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Point = NDArray[np.float64]
Box = tuple[slice, slice, slice]

NOISE_GAIN = 3.0  # a cubic B-spline between independent numbers of deviation 1 has a deviation of about 1 / 3 in three dimensions


def field(shape: Sequence[int], scale: float, rng: np.random.Generator) -> Volume:
    """Smooth noise, mean 0 and deviation about 1, whose bumps are about `scale` voxels apart."""
    coarse = rng.standard_normal([int(np.ceil(n / scale)) + 3 for n in shape]).astype(np.float32)
    return np.asarray(NOISE_GAIN * enlarge(coarse, shape), dtype=np.float32)


def enlarge(coarse: Volume, shape: Sequence[int]) -> Volume:
    """`coarse` as control points of a cubic B-spline, stretched over `shape`: smooth, and never beyond the control points."""
    for axis, n in enumerate(shape):
        coarse = stretch(coarse, axis, n)
    return coarse


def stretch(coarse: Volume, axis: int, n: int) -> Volume:
    """The same along one axis. The outermost control points lie just beyond the first and the last of the `n` values."""
    stretched = np.tensordot(_spline(coarse.shape[axis], n), coarse, (1, axis))
    return np.ascontiguousarray(np.moveaxis(stretched, 0, axis), dtype=np.float32)


@cache
def _spline(points: int, n: int) -> Volume:
    """(n, points): how much of each control point is in each of `n` values."""
    away = np.abs(np.linspace(1.0, points - 2.0, n)[:, None] - np.arange(points))
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2.0 - away, 0.0, None) ** 3 / 6
    return np.where(away < 1.0, near, far).astype(np.float32)


def box_around(centre: Sequence[float] | Point, reach: float, shape: Sequence[int]) -> Box:
    """The voxels within `reach` of `centre` along each axis, as far as there are any."""
    low = [max(int(c - reach), 0) for c in centre]
    high = [min(int(c + reach) + 2, n) for c, n in zip(centre, shape, strict=True)]
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    return i, j, k


def ellipsoid(box: Box, centre: Sequence[float] | Point, radii: Sequence[float] | Point) -> Volume:
    """Distance from `centre` in units of `radii`: 1 on the ellipsoid's surface."""
    squares = (((g - c) / r).astype(np.float32) ** 2 for g, c, r in zip(np.ogrid[box], centre, radii, strict=True))
    return np.asarray(np.sqrt(sum(squares)), dtype=np.float32)


def blob(box: Box, centre: Point, radii: Point, rough: float, rng: np.random.Generator) -> Volume:
    """mm below the surface of a lumpy ellipsoid, negative outside; `rough` is the height of its lumps as a share of its radius."""
    radius = float(radii.mean())
    surface = radius * (1.0 - ellipsoid(box, centre, radii))
    lumps = field(surface.shape, max(0.9 * radius, 5.0), rng) + 0.35 * field(surface.shape, max(0.35 * radius, 3.0), rng)
    return np.asarray(surface + rough * radius * lumps, dtype=np.float32)


def tube(box: Box, points: Sequence[Sequence[float]]) -> Volume:
    """mm from the line through `points`."""
    grid = np.ogrid[box]
    nearest = None
    for a, b in zip(np.array(points[:-1]), np.array(points[1:]), strict=True):
        along = b - a
        share = np.clip(sum((g - s) * d for g, s, d in zip(grid, a, along, strict=True)) / (along @ along), 0.0, 1.0)
        squares = sum((g - s - share * d) ** 2 for g, s, d in zip(grid, a, along, strict=True))
        nearest = squares if nearest is None else np.minimum(nearest, squares)
    return np.sqrt(np.asarray(nearest, dtype=np.float32))


def step(x: NDArray[np.floating[Any]], width: float) -> Volume:
    """From 0 to 1 where `x` crosses zero, over `width` on either side."""
    return np.asarray(np.clip(0.5 + 0.5 / width * x, 0.0, 1.0), dtype=np.float32)


def mix(volume: Volume, weight: Volume, value: Volume | float) -> None:
    """Lets `value` shine through in place, as far as `weight` says."""
    volume += weight * (value - volume)


def brighten(volume: Volume, weight: Volume, level: float) -> None:
    """The same, but never darker: what takes up contrast agent."""
    volume += weight * np.maximum(level - volume, 0.0)


def pick(place: NDArray[np.bool_], rng: np.random.Generator) -> Point:
    """One voxel of `place`."""
    return np.array(np.unravel_index(rng.choice(np.flatnonzero(place)), place.shape), dtype=np.float64)
