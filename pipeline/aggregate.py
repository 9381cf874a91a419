"""aggregate: slice by slice evidence -> one finding for the study.

    leave out slices with little head | ask the neighbour | pool cells | doubt | mean of the strongest slices | probability | call

A tumour goes on in the neighbouring slice, a false cell does not: a cell that no neighbour supports is lowered, and one at the end of a
tumour that was missed by a little is raised. Of some labels healthy heads show evidence, too (a normal sella after contrast looks like a
pituitary tumour): slices of such a label must show so much more before anything is present. All tumours of such a slice are lowered alike.
The numbers are the manifest's StudyRule. They are not calibrated on whole studies; card and report say so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest, StudyRule
from pipeline.records import GAP, Affine, Finding, Geometry, Pixels, Point, Prediction

_RAYS = 48  # corners of a region


class Evidence(NamedTuple):
    """What the network said about the slices of a study, before it is weighed."""

    logits: Pixels  # (slice, label)
    maps: Pixels | None  # (slice, label, row, column)
    head_area: Pixels  # (slice,)
    geometry: Geometry


class Weighed(NamedTuple):
    """The study's answer and what it stands on."""

    scores: Pixels  # (slice, label), supported by neighbours and doubted; the absent label is 0; -inf where little head is
    supported: Pixels | None  # (slice, label, row, column)
    probabilities: NDArray[np.float64]  # (label,)
    label: int
    call: str


def aggregate(prediction: Prediction, manifest: Manifest) -> Finding:
    """One finding for the slices of `prediction`."""
    found = Evidence(prediction.logits, prediction.evidence, prediction.head_area, prediction.geometry)
    weighed = weigh(found, manifest)
    names, absent = manifest.label_names, manifest.absent
    label = names.index(absent) if weighed.call == "absent" else weighed.label
    keys = key_rows(weighed, prediction.geometry, names.index(absent), manifest.rule) if weighed.call != "absent" else []
    suspect = np.flatnonzero(_any(weighed.scores, names.index(absent)) > 0)
    return Finding(
        label=names[label],
        call=weighed.call,  # type: ignore[arg-type]
        probability=float(weighed.probabilities[label]),
        probabilities={name: float(p) for name, p in zip(names, weighed.probabilities, strict=True)},
        key_sources=tuple(prediction.sources[row] for row in keys),
        region=_region(weighed, keys[0], label, prediction.to_source, manifest) if keys and names[label] != absent else (),
        suspect_sources=tuple(prediction.sources[row] for row in suspect),
    )


def deciding_rows(found: Evidence, manifest: Manifest) -> list[int]:
    """The slices that decide: those of the label that is called, or for absent and unsure those with most evidence of any tumour."""
    scores = _asked(weigh(found, manifest), manifest.label_names.index(manifest.absent))
    return [int(row) for row in np.argsort(-scores, kind="stable")[: manifest.rule.strongest]]


def weigh(found: Evidence, manifest: Manifest) -> Weighed:
    """The study rule."""
    rule, absent = manifest.rule, manifest.label_names.index(manifest.absent)
    step = _neighbour_step(found.geometry.between, rule, len(found.logits))
    near = _near(found.geometry, step, len(found.logits))
    supported = None if found.maps is None else _supported(found.maps - found.maps[:, absent, None], step, near, rule.raised)
    if supported is None:
        relative = (found.logits - found.logits[:, absent, None])[..., None, None]
        scores = _supported(relative, step, near, rule.raised)[..., 0, 0]
    else:
        scores = _strongest_mean(supported.reshape(*supported.shape[:2], -1), rule.strongest_cells, axis=2)
    scores = np.where(found.head_area[:, None] < rule.smallest_head * found.head_area.max(), -np.inf, scores)
    asked = np.isfinite(scores).all(1)
    if asked.sum() >= rule.strongest:  # a single slice may only graze a tumour
        scores = _doubted(scores, absent, manifest)
    probabilities = _softmax(_strongest_mean(scores[asked], rule.strongest, axis=0) / rule.temperature)
    label = int(probabilities.argmax())
    return Weighed(scores, supported, probabilities, label, _call(1.0 - probabilities[absent], label == absent, rule))


def _doubted(scores: Pixels, absent: int, manifest: Manifest) -> Pixels:
    """Every tumour of a slice lowered by what the rule doubts of them, each by how likely it is there; the absent label stays 0."""
    tumours = np.flatnonzero(np.arange(scores.shape[1]) != absent)
    doubt = np.array([manifest.rule.doubt.get(manifest.label_names[k], 0.0) for k in tumours], np.float32)
    there, lowered = np.ix_(np.isfinite(scores).all(1), tumours), scores.copy()
    likely = np.exp(scores[there] - scores[there].max(1, keepdims=True))
    lowered[there] -= (likely @ doubt / likely.sum(1))[:, None]
    return lowered


def _call(tumour: float, absent_is_likeliest: bool, rule: StudyRule) -> str:
    if tumour >= rule.present and not absent_is_likeliest:
        return "present"
    return "absent" if tumour < rule.absent and absent_is_likeliest else "unsure"


def _neighbour_step(between: float | None, rule: StudyRule, slices: int) -> int:
    """How many slices away the neighbour is: thin slices next to each other share their false cells too."""
    step = round(rule.neighbour_mm / between) if between else 1
    return min(max(step, 1), max(slices - 1, 1))


def _near(geometry: Geometry, step: int, slices: int) -> NDArray[np.bool_]:
    """(slices - step,): whether slice i and slice i + step are as near as they should be; across a gap they are no neighbours."""
    if geometry.between is None or len(geometry.positions) != slices:
        return np.ones(max(slices - step, 0), bool)
    at = np.array(geometry.positions)
    return np.asarray(at[step:] - at[:-step] <= GAP * step * geometry.between, dtype=bool)


def _supported(maps: Pixels, step: int, near: NDArray[np.bool_], raised: float) -> Pixels:
    """Each cell beside the better neighbour's evidence at the same place, where there is one: lowered to the mean of both, or `raised`
    by that share of the way. (slice, label, row, column).
    """
    nothing = np.full_like(maps[:step], -np.inf)
    apart = ~near[:, None, None, None]
    below, above = (np.where(apart, -np.inf, neighbour) for neighbour in (maps[:-step], maps[step:]))
    neighbour = np.maximum(np.concatenate([nothing, below]), np.concatenate([above, nothing]))
    way = np.where(neighbour < maps, 0.5, raised) * np.where(np.isfinite(neighbour), neighbour - maps, 0.0)
    return np.asarray(maps + way, dtype=np.float32)


def _strongest_mean(values: Pixels, count: int, axis: int) -> Pixels:
    """Mean of the `count` largest values along `axis`."""
    count = min(count, values.shape[axis])
    return np.asarray(np.sort(values, axis=axis).take(range(-count, 0), axis=axis).mean(axis), dtype=np.float32)


def _softmax(scores: Pixels) -> NDArray[np.float64]:
    exponents = np.exp(scores.astype(np.float64) - scores.max())
    return np.asarray(exponents / exponents.sum())


def _asked(weighed: Weighed, absent: int) -> Pixels:
    """(slice,): the evidence of the called tumour where one is present, else of any tumour."""
    return weighed.scores[:, weighed.label] if weighed.call == "present" else _any(weighed.scores, absent)


def _any(scores: Pixels, absent: int) -> Pixels:
    """(slice,): the evidence of the likeliest tumour."""
    return np.asarray(np.delete(scores, absent, axis=1).max(1))


def key_rows(weighed: Weighed, geometry: Geometry, absent: int, rule: StudyRule) -> list[int]:
    """Slices to look at, best first: those with most evidence at one place in them and in the slices around, so that noise moves nothing.

    Where a tumour is present, only slices that show it; one of them at least.
    """
    scores = _asked(weighed, absent)
    labels = [weighed.label] if weighed.call == "present" else [k for k in range(weighed.scores.shape[1]) if k != absent]
    shown = scores > 0 if weighed.call == "present" and (scores > 0).any() else np.isfinite(scores)
    around = _along(_cells(weighed)[:, labels], np.isfinite(scores), geometry, rule)
    worth = _strongest_mean(around, rule.around_cells, axis=2).max(1)
    order = np.argsort(-np.where(shown, worth.round(3), -np.inf), kind="stable")  # rounded: the last bits break no ties
    return [int(row) for row in order[: rule.strongest] if shown[row]]


def _cells(weighed: Weighed) -> Pixels:
    """(slice, label, cell); one cell for a slice without a map."""
    if weighed.supported is None:
        return np.nan_to_num(weighed.scores, neginf=0.0)[..., None]
    return weighed.supported.reshape(*weighed.supported.shape[:2], -1)


def _along(cells: Pixels, asked: NDArray[np.bool_], geometry: Geometry, rule: StudyRule) -> Pixels:
    """The mean of each cell along the normal, by a triangle that ends `around_mm` away; slices that are not asked are left out."""
    steps = np.arange(len(cells)) * (geometry.between or rule.neighbour_mm)
    at = np.array(geometry.positions) if len(geometry.positions) == len(cells) else steps
    weight = asked.astype(np.float32)[:, None, None]
    total, weights = cells * weight, weight.copy()
    for k in range(1, len(cells)):
        share = np.clip(1.0 - (at[k:] - at[:-k]) / rule.around_mm, 0.0, None).astype(np.float32)[:, None, None]
        if not share.any():
            break
        for to, source in ((slice(k, None), slice(None, -k)), (slice(None, -k), slice(k, None))):
            total[to] += share * weight[source] * cells[source]
            weights[to] += share * weight[source]
    return np.asarray(total / np.maximum(weights, 1e-9), dtype=np.float32)


def _region(weighed: Weighed, row: int, label: int, to_source: Affine, manifest: Manifest) -> tuple[Point, ...]:
    """Where the network sees the label on one slice: a closed polygon around its strongest cell, in source pixels.

    From the strongest cell, rays go out to where the evidence falls below a share of its own; so the polygon never crosses itself.
    """
    if weighed.supported is None:
        return ()
    cells = weighed.supported[row, label]
    peak = np.unravel_index(int(cells.argmax()), cells.shape)
    if cells[peak] <= 0:
        return ()
    high, wide = (manifest.recipe.size / count for count in cells.shape)  # network pixels of a cell
    inside = cells - manifest.rule.outline * cells[peak]
    corners = [
        to_source((peak[1] + 0.5 + reach * dx) * wide, (peak[0] + 0.5 + reach * dy) * high)
        for dx, dy in ((np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, _RAYS, endpoint=False))
        for reach in [_reach(inside, (float(peak[0]), float(peak[1])), dy, dx)]
    ]
    points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in corners)
    return (*points, points[0])


def _reach(cells: Pixels, start: tuple[float, float], dy: float, dx: float) -> float:
    """How many cells a ray runs before what is above 0, linear between cell centres, ends; half a cell at least."""
    along = np.arange(0.0, max(cells.shape), 0.1)
    y, x = start[0] + along * dy, start[1] + along * dx
    gone = np.flatnonzero(_between_cells(cells, y, x) <= 0)
    return max(float(along[gone[0]]) if gone.size else float(along[-1]), 0.5)


def _between_cells(cells: Pixels, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear between centres of cells; half a cell beyond the last centre there is nothing."""
    rows, columns = cells.shape
    outside = (y < -0.5) | (y > rows - 0.5) | (x < -0.5) | (x > columns - 0.5)
    y, x = np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)
    top, left = np.minimum(y.astype(int), rows - 2), np.minimum(x.astype(int), columns - 2)
    v, u = y - top, x - left
    upper = cells[top, left] * (1 - u) + cells[top, left + 1] * u
    lower = cells[top + 1, left] * (1 - u) + cells[top + 1, left + 1] * u
    return np.where(outside, -1.0, upper * (1 - v) + lower * v)
