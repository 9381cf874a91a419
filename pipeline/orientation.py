"""orientation: direction cosines (PS3.3 C.7.6.2.1.1) -> how a slice lies in the patient. choose, decode and prepare all ask here."""

from __future__ import annotations

import math
from typing import Final

from pipeline.records import Orientation, PlaneName, Vector

PLANES: Final[tuple[PlaneName, ...]] = ("sagittal", "coronal", "axial")  # by the patient axis (L, P, S) next to the normal
_AXES = ("LR", "PA", "HF")  # where a patient axis leads to, and where from
_LEAN = 0.1  # 6 degrees; a direction that leans less has no letter of the other axis
_RIGHT = 0.02  # how far direction cosines may be from unit length and from right angles


def is_possible(orientation: Orientation) -> bool:
    """Whether the direction cosines are two directions at right angles."""
    along_row, along_column = orientation[:3], orientation[3:]
    lengths = math.hypot(*along_row), math.hypot(*along_column)
    return all(abs(length - 1) <= _RIGHT for length in lengths) and abs(dot(along_row, along_column)) <= _RIGHT  # false for NaN


def normal(orientation: Orientation | None) -> Vector | None:
    """Unit vector across the slice; None where the object does not say how it lies, or says nonsense."""
    if orientation is None:
        return None
    o = orientation
    n = (o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3])
    length = math.hypot(*n)
    return (n[0] / length, n[1] / length, n[2] / length) if 0.5 < length < 2 else None


def axis(across: Vector) -> int:
    """The patient axis next to a normal."""
    sizes = [abs(c) for c in across]
    return sizes.index(max(sizes))


def plane(orientation: Orientation | None) -> PlaneName:
    """The nearest of the three."""
    across = normal(orientation)
    return PLANES[axis(across)] if across else "unknown"


def tilt(across: Vector) -> float:
    """Degrees between the nearest plane and the slice."""
    return math.degrees(math.acos(min(max(abs(c) for c in across), 1.0)))


def dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def letters(orientation: Orientation) -> list[str]:
    """Where rows and columns lead to, "L" and "P" in an axial slice, the main direction first (PS3.3 C.7.6.1.1.1)."""
    return [_letters(orientation[:3]), _letters(orientation[3:])]


def _letters(direction: Vector) -> str:
    leaning = sorted((abs(part), k) for k, part in enumerate(direction) if abs(part) > _LEAN)
    return "".join(_AXES[k][direction[k] < 0] for _, k in reversed(leaning))
