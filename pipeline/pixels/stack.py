"""stack: planes -> one ordered stack. Pure geometry; what a reader must know of it is said in whole sentences.

Positions are projected on the normal of the slices (PS3.3 C.7.6.2.1.1); any order of arrival gives the same stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.language import Said, said
from pipeline.orientation import dot, is_possible, normal
from pipeline.records import GAP, Orientation, Source, Vector

_SAME_PLACE = 0.01  # mm along the normal; nearer than this, two slices lie in the same place
_SAME_TURN = 0.01  # of a direction cosine, half a degree: some scanners round them differently from slice to slice
_UNEVEN = 0.1  # of the usual distance
_TILT = 1.0  # degrees
_MOST_STACKS = 100  # that are told apart: thousands of frames, each turned otherwise, are not to cost the square of their number


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame and how it lies in the patient, as its header says."""

    source: Source
    number: tuple[int, int]  # InstanceNumber, frame: in which order they were acquired, as far as one can know
    shape: tuple[int, int]  # rows, columns
    spacing: tuple[float, float] | None = None  # mm
    orientation: Orientation | None = None  # direction cosines of rows, of columns
    position: Vector | None = None  # mm, of the centre of the first pixel
    location: float | None = None  # Slice Location, mm: only asked where there are no positions
    group: str = ""  # Stack ID: slices that a multi-frame object itself holds together
    echo: float = 0.0  # ms; 0 where it is not said
    kind: tuple[object, ...] = ()  # what else tells pictures of one place apart: phase, b-value, component


@dataclass(frozen=True, slots=True)
class Stack:
    """One ordered stack: of one size, one orientation, one slice for each place."""

    planes: tuple[Plane, ...]
    orientation: Orientation | None
    between: float | None  # mm, the median
    positions: tuple[float, ...]  # mm along the normal, growing; empty where unknown
    remarks: tuple[str, ...]


def arranged(planes: Sequence[Plane]) -> Stack:
    """The largest stack among `planes` (at least one), in order. Ties go to the one acquired first."""
    crooked = sum(p.orientation is not None and not is_possible(p.orientation) for p in planes)
    ordered = sorted((_straight(p) for p in planes), key=_age)
    best, others = _largest(ordered)
    remarks = [*_crooked(crooked, len(planes)), *_left_out(best[0], others, len(planes))]
    axis = _axis(best)
    if axis is None:
        return Stack(tuple(best), best[0].orientation, None, (), (*remarks, *_unplaced(best, said("remarks.by_number"))))
    if best[0].position is None or best[0].orientation is None:
        remarks += _unplaced(best, said("remarks.by_location"))
    kept = _one_for_each_place(best, axis)
    if len(kept) < len(best):
        remarks.append(said("remarks.same_place", count=len(best) - len(kept), total=len(planes)))
    kept.sort(key=axis)
    positions = tuple(round(axis(plane), 3) for plane in kept)
    between = round(float(np.median(np.diff(positions))), 3) if len(kept) > 1 else None
    remarks += [*_gaps(positions, between), *_sheared(kept)]
    return Stack(tuple(kept), best[0].orientation, between, positions, tuple(remarks))


def _age(plane: Plane) -> tuple[tuple[int, int], str, int]:
    return plane.number, plane.source.sop_instance_uid, plane.source.frame or 0


def _straight(plane: Plane) -> Plane:
    """Without an orientation that is none."""
    if plane.orientation is None or is_possible(plane.orientation):
        return plane
    return replace(plane, orientation=None, position=None)


def _largest(ordered: list[Plane]) -> tuple[list[Plane], list[Plane]]:
    """The largest set of planes that can be one stack, and the rest."""
    together: list[list[Plane]] = []
    alone: list[Plane] = []
    grouped = len({plane.group for plane in ordered}) < len(ordered)  # else each frame names a stack of its own, which says nothing
    for plane in ordered:
        found = next((stack for stack in together if _why_apart(stack[0], plane, grouped) is None), None)
        if found is not None:
            found.append(plane)
        elif len(together) < _MOST_STACKS:
            together.append([plane])
        else:
            alone.append(plane)
    best = max(together, key=len)
    return best, [plane for stack in together if stack is not best for plane in stack] + alone


def _why_apart(one: Plane, other: Plane, grouped: bool = True) -> Said | None:
    """Why two planes cannot belong to one stack, as the middle of a sentence."""
    if one.shape != other.shape:
        return said("remarks.size")
    if not _same_turn(one.orientation, other.orientation):
        return said("remarks.orientation")
    if (one.position is None) != (other.position is None):
        return said("remarks.unplaced") if other.position is None else said("remarks.placed")
    if not _same_spacing(one.spacing, other.spacing):
        return said("remarks.spacing")
    return said("remarks.object") if grouped and one.group != other.group else None


def _same_turn(one: Orientation | None, other: Orientation | None) -> bool:
    if one is None or other is None:
        return one is other
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= _SAME_TURN


def _same_spacing(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= 0.01 * max(a, b) for a, b in zip(one, other, strict=True))


def _axis(stack: list[Plane]) -> Callable[[Plane], float] | None:
    """How far a plane lies along the stack, mm: along the normal, else by Slice Location; None where neither is said."""
    across = normal(stack[0].orientation)
    if across is not None and stack[0].position is not None:
        return lambda plane: dot(across, plane.position or (0.0, 0.0, 0.0))
    locations = [plane.location for plane in stack if plane.location is not None]
    if len(stack) > 1 and len(locations) == len(stack) and min(np.diff(sorted(locations))) > _SAME_PLACE:
        return lambda plane: plane.location or 0.0
    return None


def _one_for_each_place(stack: list[Plane], axis: Callable[[Plane], float]) -> list[Plane]:
    """Of several echoes or phases in the same places one whole set: complete, magnitude, of the first echo, the last acquired.

    The first echo is the least T2-weighted one; the last phase is the one after contrast. Without a whole set the last of each place.
    """
    places = _places(stack, axis)
    if len(places) < len(stack):
        kinds: dict[tuple[object, ...], list[Plane]] = {}
        for plane in stack:
            kinds.setdefault((plane.echo, *plane.kind), []).append(plane)
        best = max(kinds.values(), key=lambda one: (len(_places(one, axis)), _is_magnitude(one[0]), -one[0].echo, _age(one[-1])))
        alone = _places(best, axis)
        places = alone if 2 * len(alone) > len(places) else places
    return [max(place, key=_age) for place in places]


def _is_magnitude(plane: Plane) -> bool:
    """Whether it is no phase, real or imaginary picture of an object that holds these, too (PS3.3 C.8.13.3.1.2)."""
    return not {"PHASE", "REAL", "IMAGINARY"} & set(plane.kind)


def _places(stack: list[Plane], axis: Callable[[Plane], float]) -> list[list[Plane]]:
    """Planes that lie in the same place, place by place."""
    places: list[list[Plane]] = []
    reached = -np.inf
    for depth, plane in sorted(((axis(plane), plane) for plane in stack), key=lambda pair: (pair[0], _age(pair[1]))):
        if depth - reached > _SAME_PLACE:
            places.append([])
            reached = depth
        places[-1].append(plane)
    return places


def _left_out(kept: Plane, others: list[Plane], total: int) -> list[Said]:
    reasons = Counter(_why_apart(kept, plane) or said("remarks.stack") for plane in others)
    return [said("remarks.left_out", count=count, total=total, why=why) for why, count in reasons.items()]


def _crooked(count: int, total: int) -> list[Said]:
    return [said("remarks.crooked", count=count, total=total)] if count else []


def _unplaced(stack: list[Plane], remark: Said) -> list[Said]:
    return [] if len(stack) == 1 else [remark]


def _gaps(positions: tuple[float, ...], between: float | None) -> list[Said]:
    """Sentences on slices that are missing, and on uneven spacing."""
    if between is None:
        return []
    steps = np.diff(positions)
    wide, usual = steps[steps > GAP * between], steps[steps <= GAP * between]
    remarks = []
    if wide.size:
        missing = int(np.maximum(np.rint(wide / between) - 1, 1).sum())
        key = "remarks.gap" if wide.size == 1 else "remarks.gaps"
        remarks.append(said(key, count=missing, width=_range(wide), between=float(between)))
    if np.ptp(usual) > _UNEVEN * between:
        remarks.append(said("remarks.uneven", width=_range(usual)))
    return remarks


def _range(millimetres: NDArray[np.float64]) -> Said:
    low, high = round(float(millimetres.min()), 1), round(float(millimetres.max()), 1)
    return said("remarks.mm", mm=low) if low == high else said("remarks.mm_range", low=low, high=high)


def _sheared(stack: list[Plane]) -> list[Said]:
    """Gantry tilt: from slice to slice the first pixel moves along the slice, too, so the stack is no upright box."""
    first, last = stack[0], stack[-1]
    across = normal(first.orientation)
    if len(stack) < 2 or first.position is None or last.position is None or across is None:
        return []
    way = np.subtract(last.position, first.position)
    up = abs(float(way @ across))
    aside = float(np.linalg.norm(way - (way @ across) * np.array(across)))
    angle = float(np.degrees(np.arctan2(aside, up)))
    if angle <= _TILT or aside <= max(first.spacing or (1.0, 1.0)):
        return []
    return [said("remarks.tilted", degrees=round(angle))]
