"""How far numbers would move with other patients: whole blocks are drawn again, never single slices.

Slices of one patient are alike, so that a bootstrap of slices would promise more than the data know (Cameron, Gelbach, Miller,
Bootstrap-based improvements for inference with clustered errors, Review of Economics and Statistics 90(3), 2008).
Percentiles: Efron, Tibshirani, An introduction to the bootstrap, 1993, chapter 13. The same seed, the same draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2000
CHUNK = 100  # rounds at once where every slice has a weight of its own
Doubles = NDArray[np.float64]


def draws(units: NDArray[np.intp], rounds: int = ROUNDS, seed: int = 0) -> Doubles:
    """(round, unit): how often each unit is drawn; as many as there are, with replacement."""
    if not units.size:
        return np.zeros((rounds, 0))
    count = int(units.max()) + 1
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=rounds).astype(np.float64)


def summed(units: NDArray[np.intp], values: Doubles) -> Doubles:
    """(unit, column): `values` (slice, column) added up."""
    found = np.zeros((int(units.max()) + 1 if units.size else 0, values.shape[1]))
    np.add.at(found, units, values)
    return found


def chunks(units: NDArray[np.intp], drawn: Doubles) -> Iterator[Doubles]:
    """Weights (some rounds, slice): a slice counts as often as its unit was drawn."""
    for first in range(0, len(drawn), CHUNK):
        yield drawn[first : first + CHUNK, units]


def interval(values: Doubles) -> tuple[float, float]:
    """Two-sided 95 % over rounds; nan where no round could be measured."""
    low, high = _quantiles(values, 0.025, 0.975)
    return low, high


def upper(values: Doubles) -> float:
    """One-sided 95 % upper bound over rounds; nan where no round could be measured."""
    return _quantiles(values, 0.95)[0]


def intervals(values: Mapping[str, Doubles]) -> dict[str, tuple[float, float]]:
    """`interval` of each; those that could not be measured are left out."""
    found = {name: interval(rounds) for name, rounds in values.items()}
    return {name: bounds for name, bounds in found.items() if not np.isnan(bounds).any()}


def _quantiles(values: Doubles, *shares: float) -> list[float]:
    known = values[~np.isnan(values)]
    return [float(q) for q in np.quantile(known, shares)] if known.size else [float("nan")] * len(shares)
