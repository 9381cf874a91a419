"""Folds "0".."4": patients stay whole, and every class is in every fold where it has patients enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

FOLDS = 5


def folds(groups: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Group -> fold. Row i is a slice (or a file) of `groups[i]`, the groups of one label in their original order.

    Each label's groups are cut into five runs of about as many rows. Runs, not a lottery: neighbours in the order of a collection are
    often one patient that nobody knows of, and so they seldom come apart. A group counts for the label of its first row.
    """
    sizes, label_of = Counter(groups), dict(zip(reversed(groups), reversed(labels), strict=True))
    totals: Counter[str] = Counter()
    for group, size in sizes.items():
        totals[label_of[group]] += size
    fold: dict[str, str] = {}
    before: Counter[str] = Counter()
    for group, size in sizes.items():  # in order of first appearance
        label = label_of[group]
        fold[group] = str(
            FOLDS - 1 - int((before[label] + size / 2) * FOLDS / totals[label])
        )  # the first run is sealed: a small set has one
        before[label] += size
    return fold
