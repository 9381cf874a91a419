"""Fingerprints: is it the same picture, mirrored, turned, squeezed or saved anew? Small grey pictures of the head, compared in eight ways.

The threshold is measured on the set that the bundled network learnt from: 2.2 million pairs that cannot be one patient (volumes of two
patients; a volume and a picture; two kinds of tumour in one collection) reach 0.930 at most. `python -m scripts.datasets DIR` prints it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Recipe
from pipeline.prepare import prepare, resample
from pipeline.records import Slices

SIDE = 32  # pixels; fewer confuse heads of one shape; more see the contrast of a copy and not the head
COPY = 0.985  # one picture, however it was mirrored, turned, squeezed and saved; neighbouring slices seldom come so near
NEAR = 0.94  # the same head
HEAD = 0.1  # of the bright end: darker is background
_EDGE = 0.02  # share of a row or column that must be head for the head to begin there
_AT_ONCE = 512
Floats = NDArray[np.float32]


class Pair(NamedTuple):
    first: int  # rows of what was compared
    second: int
    likeness: float  # correlation, 1 at most
    turned: bool  # is one of them mirrored, or turned, against the other?


def fingerprint(grey: Floats) -> Floats:
    """(SIDE, SIDE) of a picture (row, column): its head from edge to edge, mean 0, length 1; all 0 of an empty one."""
    head = _head(grey)
    small = resample(head[None].astype(np.float32), (1 / head.shape[0], 1 / head.shape[1]), SIDE)[0]
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / np.float32(length) if length > 1e-3 else np.zeros_like(small)


def fingerprint_of(slices: Slices, recipe: Recipe) -> Floats:
    """Of the first slice, as training will see it: so what is apart here is no leak there."""
    shown: Floats = prepare(slices, recipe).tensor[0, 0] * np.float32(recipe.std) + np.float32(recipe.mean)
    return fingerprint(shown.astype(np.float16).astype(np.float32))


def fingerprints(pictures: Sequence[Floats] | NDArray[np.float16]) -> Floats:
    """(n, SIDE, SIDE)."""
    return np.stack([fingerprint(np.asarray(picture, np.float32)) for picture in pictures])


def _head(grey: Floats) -> Floats:
    on = grey > HEAD * np.percentile(grey[::4, ::4], 99.5)
    rows, columns = (np.flatnonzero(on.mean(axis) > _EDGE) for axis in (1, 0))
    if len(rows) < 2 or len(columns) < 2:
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def turns(prints: Floats) -> Iterator[Floats]:
    """The eight orientations of (n, SIDE, SIDE); the first is `prints` itself."""
    for quarter in range(4):
        turned = np.rot90(prints, quarter, (1, 2))
        yield from (turned, turned[:, :, ::-1])


def alike(prints: Floats, groups: Sequence[str], least: float = NEAR) -> list[Pair]:
    """Pairs of different `groups` that are at least so alike, the most alike first. n = 4000 takes two seconds."""
    flat = prints.reshape(len(prints), -1)
    turned = [np.ascontiguousarray(turn).reshape(len(prints), -1).T for turn in turns(prints)]
    number = {group: k for k, group in enumerate(dict.fromkeys(groups))}
    group = np.array([number[word] for word in groups])
    found: list[Pair] = []
    for start in range(0, len(prints), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        upright, best = _best(flat[rows], turned)
        first, second = np.nonzero((best >= least) & (group[rows, None] != group[None]))
        here = zip(first.tolist(), second.tolist(), strict=True)
        found += [Pair(start + i, j, float(best[i, j]), bool(upright[i, j] < best[i, j])) for i, j in here if start + i < j]
    return sorted(found, key=lambda pair: -pair.likeness)


def most_alike(prints: Floats, groups: Sequence[str]) -> tuple[int, float]:
    """How many pairs of different `groups` there are, and how alike the most alike of them is. "" is no group."""
    rows = [k for k, group in enumerate(groups) if group]
    if not rows:
        return 0, -1.0
    prints, sizes = prints[rows], Counter(groups[k] for k in rows)
    flat = prints.reshape(len(rows), -1)
    turned = [np.ascontiguousarray(turn).reshape(len(rows), -1).T for turn in turns(prints)]
    number = {group: k for k, group in enumerate(sizes)}
    group = np.array([number[groups[k]] for k in rows])
    greatest = -1.0
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        other = _best(flat[part], turned)[1][group[part, None] != group[None]]
        greatest = max(greatest, float(other.max(initial=-1.0)))
    return (len(rows) ** 2 - sum(size**2 for size in sizes.values())) // 2, greatest


def _best(flat: Floats, turned: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Likeness of each row of `flat` to each column, as they are and in the best of the eight orientations."""
    upright: Floats = flat @ turned[0]
    best = upright.copy()
    for turn in turned[1:]:
        np.maximum(best, flat @ turn, out=best)
    return upright, best


def clusters(count: int, pairs: Sequence[Pair]) -> list[int]:
    """For each of `count` rows the first row that it hangs together with through `pairs`; itself, where it is alone."""
    root = list(range(count))

    def find(k: int) -> int:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for pair in pairs:
        first, second = sorted((find(pair.first), find(pair.second)))
        root[second] = first
    return [find(k) for k in range(count)]
