"""The three tumours as a textbook shows them on T1 after contrast, painted into a head in place, T2 along with it.

push aside | oedema | mass                glioma: in the white matter of a hemisphere, an irregular ring around a dark core
                                          meningioma: on the dura, bright, even and sharp, with a tail
                                          pituitary: bright and rounded, from the sella up to the chiasm
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.phantom.anatomy import GLAND, MIDLINE, WHITE, Anatomy, inwards
from scripts.phantom.contrast import carotids
from scripts.phantom.fields import Box, Point, Volume, blob, box_around, ellipsoid, field, mix, pick, step


@dataclass(frozen=True, slots=True)
class Head:
    """One painted head; `lesion` is what a reader would outline: enhancing tumour with its core, without oedema."""

    t1: Volume
    t2: Volume
    white: Volume  # share of white matter
    lesion: NDArray[np.bool_]


# --- glioma -----------------------------------------------------------------------------------------------------------


def glioma(head: Head, plain: Anatomy, rng: np.random.Generator) -> None:
    """A ring, 22 to 48 mm across, of uneven thickness around a dead core, with up to two lobes and up to two satellites, in oedema."""
    radius = float(rng.uniform(11.0, 24.0))
    centre = _in_white_matter(plain, radius, rng)
    push(head, plain, centre, radius, 0.6)
    box = box_around(centre, 1.5 * radius + 28.0, head.t1.shape)
    below = blob(box, centre, radius * rng.uniform(0.8, 1.2, 3), 0.14, rng)
    _efface(head, plain, box, below, 0.8 * radius + 8.0)
    _oedema(head, plain, box, below, rng.uniform(8.0, 18.0), rng)
    bright, core = WHITE * rng.uniform(1.3, 1.8), WHITE * rng.uniform(0.45, 0.72)
    _ring(head, plain, box, below, bright, core, rng)
    for far, sizes in ((0.75, (0.4, 0.65)), (1.25, (0.12, 0.25))):  # lobes, satellites
        for _ in range(rng.integers(0, 3)):
            small = radius * float(rng.uniform(*sizes))
            away = rng.standard_normal(3)
            beside = centre + away / np.linalg.norm(away) * (far * radius + (small if far > 1 else 0.0))
            near = box_around(beside, 1.6 * small + 3.0, head.t1.shape)
            _ring(head, plain, near, blob(near, beside, np.full(3, small), 0.12, rng), bright, core, rng)


def _in_white_matter(plain: Anatomy, radius: float, rng: np.random.Generator) -> Point:
    """Deep in a hemisphere, above the tentorium, on one side."""
    x, y, z = np.ogrid[tuple(slice(n) for n in plain.t1.shape)]
    deep = (plain.vault > 0.8 * radius + 6.0) & (plain.stored > 104) & (plain.depth > 5.0)
    hemisphere = (np.abs(x - MIDLINE) > 0.7 * radius + 12.0) & (z > np.where(y < 95, 76, 52)) & (z < 132)
    return pick(deep & hemisphere, rng)


def _oedema(head: Head, plain: Anatomy, box: Box, below: Volume, reach: float, rng: np.random.Generator) -> None:
    """Water in the white matter around a mass: fingers between the gyri, fading out."""
    spread = step(reach + 5.0 * field(below.shape, 12, rng) + below, 5.0)
    weight = spread * head.white[box] * step(plain.depth[box], 1.0)
    mix(head.t1[box], weight, WHITE * rng.uniform(0.62, 0.8))
    mix(head.t2[box], weight, 190.0)


def _efface(head: Head, plain: Anatomy, box: Box, below: Volume, reach: float) -> None:
    """Swollen brain closes its sulci: fluid gives way to grey matter, the nearer the more."""
    fluid = np.clip((90.0 - head.t1[box]) / 25.0, 0.0, 1.0) * step(20.0 - plain.vault[box], 6.0)
    weight = 0.8 * fluid * step(plain.vault[box] - 1.0, 2.0) * step(below + reach, 8.0)
    mix(head.t1[box], weight, 97.0)
    mix(head.t2[box], weight, 120.0)


def _ring(head: Head, plain: Anatomy, box: Box, below: Volume, bright: float, core: float, rng: np.random.Generator) -> None:
    """Ragged enhancing rim, here thick and there thin, dead core with strands in it; `below` is mm below the mass's surface."""
    shape, radius = below.shape, float(below.max())
    below = below + 0.8 * field(shape, 4, rng)
    mass = step(plain.depth[box], 1.0) * step(below, 1.0)
    thickness = np.maximum((1.0 + 0.12 * radius) * rng.uniform(0.7, 1.5) * (1.0 + 0.6 * field(shape, 8, rng)), 0.8)
    strands = step(field(shape, max(0.4 * radius, 4.0), rng) - rng.uniform(0.7, 1.6), 0.5)
    rim = np.maximum(step(thickness - below, 1.2), 0.8 * strands)
    uneven = np.clip(1.0 + 0.15 * field(shape, 8, rng) + 0.12 * field(shape, 3, rng), 0.55, 1.5)
    mix(head.t1[box], mass, rim * bright * uneven + (1.0 - rim) * (core + 7.0 * field(shape, 5, rng)))
    mix(head.t2[box], mass, rim * 130.0 + (1.0 - rim) * (205.0 + 12.0 * field(shape, 6, rng)))
    head.lesion[box] |= mass > 0.5


# --- meningioma -------------------------------------------------------------------------------------------------------


def meningioma(head: Head, plain: Anatomy, rng: np.random.Generator) -> None:
    """A mass, 22 to 48 mm across, broad on the dura, that dents the brain and leaves a cleft of fluid; half of them with oedema."""
    radius = float(rng.uniform(11.0, 24.0))
    centre, inward, side = _on_dura(plain, radius, rng)
    push(head, plain, centre, radius, 0.85)
    box = box_around(centre, 1.3 * radius + 22.0, head.t1.shape)
    below = blob(box, centre, radius * (1.15 - 0.35 * np.abs(inward)) * rng.uniform(0.92, 1.08, 3), 0.08, rng)
    x = np.ogrid[box][0].astype(np.float32)
    inside = step(plain.vault[box] + 3.5, 0.8)
    room = inside * step(side * (x - MIDLINE) + 1.5, 0.8) if side else inside  # the falx holds
    _efface(head, plain, box, below, 0.3 * radius + 4.0)
    if rng.random() < 0.5:
        _oedema(head, plain, box, below, rng.uniform(4.0, 12.0), rng)
    cleft = 0.8 * room * step(below + 1.5, 0.6) * step(plain.vault[box] - 3.0, 1.0)
    mix(head.t1[box], cleft, 56.0)
    mix(head.t2[box], cleft, 210.0)
    bright = WHITE * rng.uniform(1.35, 1.8)
    mix(head.t1[box], _tail(plain, box, below, radius, side), 0.95 * bright)
    mass = room * step(below, 0.7)
    mix(head.t1[box], mass, bright * (1.0 + 0.06 * field(below.shape, 9, rng)))
    mix(head.t2[box], mass, 128.0 + 4.0 * field(below.shape, 6, rng))
    head.lesion[box] = mass > 0.5


def _on_dura(plain: Anatomy, radius: float, rng: np.random.Generator) -> tuple[Point, Point, int]:
    """The middle of a mass on convexity, falx or sphenoid wing, where it grows to, and for the falx to which side (1 or -1; else 0)."""
    x, y, z = np.ogrid[tuple(slice(n) for n in plain.t1.shape)]
    side, where = int(rng.choice([-1, 1])), rng.random()
    if where < 0.25:
        falx = (x == MIDLINE) & (plain.vault > 3.0) & (plain.vault < 26.0) & (z > 104)
        across = np.array([1.0, 0.0, 0.0])
        return pick(falx, rng) + 0.6 * radius * side * across, across, side
    if where < 0.4:
        surface = np.add([MIDLINE + side * 34.0, 153.0, 47.0], rng.uniform(-3.0, 3.0, 3))  # the sphenoid wing
    else:
        surface = pick((np.abs(plain.vault) < 1.0) & (z > 84) & (np.abs(x - MIDLINE) > 18) & (y > 40), rng)
    inward = inwards(plain.vault, surface)
    return surface + rng.uniform(0.0, 0.4) * radius * inward, inward, 0


def _tail(plain: Anatomy, box: Box, below: Volume, radius: float, side: int) -> Volume:
    """Thickened dura that runs out from the mass, on the inner table or on the falx."""
    near = step(below + 0.6 * radius, 3.0)
    sheet = step(1.3 - np.abs(plain.vault[box] + 2.5), 0.6)
    if side:
        x = np.ogrid[box][0].astype(np.float32)
        sheet = step(1.2 - np.abs(x - MIDLINE), 0.6) * step(plain.vault[box] + 2.0, 1.0)
    return np.asarray(near * sheet, dtype=np.float32)


# --- pituitary tumour -------------------------------------------------------------------------------------------------


def pituitary(head: Head, plain: Anatomy, rng: np.random.Generator) -> None:
    """A mass, 18 to 40 mm high, that widens the sella and rises through its roof, often with a waist there; carotids on either side."""
    wide, sunk = float(rng.uniform(10.0, 15.5)), float(rng.uniform(0.0, 6.0))
    low = np.add(GLAND, [rng.uniform(-2.0, 2.0), rng.uniform(-1.0, 1.0), 2.0 - sunk])
    high = np.add(low, [rng.uniform(-2.0, 2.0), rng.uniform(-1.0, 2.0), rng.uniform(0.75, 1.1) * wide])
    push(head, plain, high, 0.9 * wide, 0.8)
    box = box_around(high, 2.6 * wide + 6.0, head.t1.shape)
    lower = blob(box, low, wide * np.array([1.05, 0.85, 0.85]), 0.05, rng)
    upper = blob(box, high, wide * rng.uniform([0.8, 0.75, 0.8], [1.0, 0.9, 1.0]), 0.06, rng)
    mass = step(np.maximum(lower, upper), 0.8)
    bright = WHITE * rng.uniform(1.25, 1.6) * (1.0 + 0.12 * field(mass.shape, 6, rng))
    if rng.random() < 0.2:  # a cyst
        at = high + rng.uniform(-0.25, 0.25, 3) * wide
        bright -= 0.35 * bright * step(1.0 - ellipsoid(box, at, wide * rng.uniform(0.25, 0.45, 3)), 0.2)
    mix(head.t1[box], mass, bright)
    mix(head.t2[box], mass, 125.0 + 6.0 * field(mass.shape, 5, rng))
    head.lesion[box] = mass > 0.5
    carotids(head.t1, aside=max(wide - 9.5, 0.0))


# --- room for it ------------------------------------------------------------------------------------------------------


def push(head: Head, plain: Anatomy, centre: Point, radius: float, strength: float) -> None:
    """Moves brain away from `centre`, as a mass that takes `strength` of its volume for itself would; the skull stays."""
    reach = 3.0 * radius
    box = box_around(centre, reach, head.t1.shape)
    r = np.maximum(ellipsoid(box, centre, (1.0, 1.0, 1.0)), 1e-3)
    origin = np.cbrt(np.maximum(r**3 - strength * radius**3, 0.0))  # where the tissue that is now at r came from
    movable = np.clip((plain.vault[box] + 2.0) / 8.0, 0.0, 1.0) * np.clip(2.0 - 2.0 * r / reach, 0.0, 1.0)
    factor = 1.0 + movable * (origin / r - 1.0)
    at = np.stack([c + factor * (g - c) - s.start for g, c, s in zip(np.ogrid[box], centre, box, strict=True)])
    for volume in (head.t1, head.t2, head.white):
        volume[box] = ndimage.map_coordinates(volume[box], at, order=1, mode="nearest")
