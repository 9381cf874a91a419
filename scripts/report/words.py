"""How the report says things: tables, shares, intervals, pictures, in markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

from models.tables import Estimate

NONE = "-"  # nothing was there to measure with


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def share(value: float) -> str:
    """0.956, or a dash."""
    return NONE if isnan(value) else f"{value:.3f}"


def ranged(found: Estimate) -> str:
    """0.956 (0.931-0.974), or a dash."""
    if isnan(found.value) or isnan(found.low):
        return share(found.value)
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def picture(name: str, says: str) -> str:
    """A plot of scripts/report/plots.py."""
    return f"![{says}](model-report/{name}.png)"


def section(title: str, *paragraphs: str) -> str:
    """A heading and what stands below it; empty paragraphs are left out."""
    return "\n\n".join([f"## {title}", *(paragraph for paragraph in paragraphs if paragraph)])


def both(one: str, two: str) -> str:
    """fp32's and int8's in one sentence."""
    return f"fp32 {one}, int8 {two}"
