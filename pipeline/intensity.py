"""intensity: from modality units to what a channel shows, for the volume as a whole; the numbers are the recipe's.

MR has no unit: a percentile of the foreground becomes 1. CT has one: windows on the Hounsfield scale.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.manifest import Recipe, Window
from pipeline.records import Pixels

AIR, DENSEST = -1000.0, 3071.0  # HU: of air by definition (PS3.3 C.11.1.1.2), and the end of 12-bit scanners' scale. Padding lies below
_BINS = 1 << 16
_AT_ONCE = 1 << 17  # values that are looked at at once: they stay in the cache
_DARKEST = 0.1  # percentile that is black where a volume stands on an offset


def normalise(pixels: Pixels, recipe: Recipe) -> Pixels:
    """Intensities to 0..1 for the volume as a whole: a percentile of its foreground becomes 1.

    The threshold of the foreground hangs on the 99.9th percentile, not on the maximum, so that one spike changes nothing.
    """
    pixels, ranks, top = _grounded(pixels, recipe)
    count = pixels.size - ranks.up_to(recipe.foreground * top)
    scale = ranks.at(pixels.size - count + (count - 1) * recipe.percentile / 100) if count and top > 0 else 1.0
    grey = np.empty_like(pixels)
    for shown, picture in zip(grey, pixels, strict=True):  # one by one: it is in the cache still when it is clipped
        np.clip(np.divide(picture, np.float32(scale), out=shown), 0.0, 1.0, out=shown)
    return grey


def _grounded(pixels: Pixels, recipe: Recipe) -> tuple[Pixels, Ranks, float]:
    """`pixels` with black near 0, and their 99.9th percentile.

    Signed values and volumes on an offset (+1024, say) are moved down, all others stay what they are.
    """
    ranks = Ranks(pixels)
    top = ranks.percentile(99.9)
    if ranks.lowest >= 0 and ranks.up_to(recipe.offset * top) * 100 >= _DARKEST * pixels.size:
        return pixels, ranks, top
    pixels = pixels - np.float32(ranks.percentile(_DARKEST))
    ranks = Ranks(pixels)
    return pixels, ranks, ranks.percentile(99.9)


def windowed(hounsfield: Pixels, window: Window) -> Pixels:
    """Hounsfield units to 0..1."""
    shown = np.subtract(hounsfield, np.float32(window.level - window.width / 2))
    shown /= np.float32(window.width)
    return np.clip(shown, 0.0, 1.0, out=shown)


class Ranks:
    """Order statistics of a volume, exact and without sorting it: one pass counts what falls into each bin, and only one bin is sorted.

    np.percentile gives the same to rounding and takes three times as long for each that is asked.
    """

    def __init__(self, values: Pixels) -> None:
        self._values = values.ravel(order="K")
        self.lowest, highest = float(self._values.min()), float(self._values.max())
        self._scale = np.float32((_BINS - 1) / (highest - self.lowest) if highest > self.lowest else 0.0)
        self._bins = np.empty(self._values.size, np.uint16)
        counts = np.zeros(_BINS, np.int64)
        for part, bins in self._parts():
            bins[:] = (part - np.float32(self.lowest)) * self._scale  # monotonic, so no rank changes
            counts += np.bincount(bins, minlength=_BINS)
        self._ends = counts.cumsum()  # how many values lie in a bin or below it

    def percentile(self, percent: float) -> float:
        return self.at((self._values.size - 1) * percent / 100)

    def at(self, rank: float) -> float:
        """The value at `rank` (0: the lowest), linear between neighbours."""
        below, above = int(np.floor(rank)), int(np.ceil(rank))
        first, last = map(int, np.searchsorted(self._ends, (below, above), side="right"))  # their bins; those in between are empty
        here: NDArray[np.float32] = np.concatenate([values[(bins >= first) & (bins <= last)] for values, bins in self._parts()])
        start = int(self._ends[first - 1]) if first else 0
        here.partition((below - start, above - start))
        value = float(here[below - start])
        return value + (float(here[above - start]) - value) * (rank - below)

    def up_to(self, value: float) -> int:
        """How many values are `value` or less."""
        return sum(int(np.count_nonzero(values <= value)) for values, _ in self._parts())

    def _parts(self) -> Iterator[tuple[Pixels, NDArray[np.uint16]]]:
        """Values and their bins, some of them at once."""
        for start in range(0, self._values.size, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            yield self._values[part], self._bins[part]
