"""From the anatomy's gradient echo to what a clinical scanner shows: a T1 spin echo after contrast, and an invented T2.

What takes up gadolinium in every head takes it up in each of these, healthy or not: arteries and veins, dural sinuses, falx, choroid
plexus, pineal, the pituitary, its stalk and the cavernous sinuses, and the lining of the nose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scripts.phantom.anatomy import CSF, GLAND, GREY, MIDLINE, WHITE, Anatomy
from scripts.phantom.fields import Box, Volume, box_around, brighten, ellipsoid, field, mix, step, tube

GALEN: Sequence[Sequence[float]] = ((90, 108, 80), (90, 94, 79), (90, 86, 82), (90, 80, 84))  # internal cerebral veins and what they become
STRAIGHT: Sequence[Sequence[float]] = ((90, 80, 84), (90, 58, 70), (90, 34, 56))  # along the tentorium, to the confluence
SIGMOID: Sequence[Sequence[float]] = ((31, 84, 40), (35, 87, 30), (45, 94, 16), (50, 98, 2))  # this and the next: left, mirrored for right
CAROTID: Sequence[Sequence[float]] = ((70, 116, 22), (74, 122, 34), (76, 131, 37), (76.5, 136, 41), (75, 131, 47))
BODY_PLEXUS: Sequence[Sequence[float]] = ((67, 88, 86), (74, 99, 92), (81, 114, 88), (87, 122, 83))
FALX_EDGE = (90.0, 108.0, 78.0)  # what its lower edge arches over
ATRIUM, CAVERNOUS, PINEAL, NOSE = (64.5, 85.0, 80.0), (77.5, 129.0, 39.0), (90.0, 97.0, 72.0), (90.0, 165.0, 22.0)


# --- sequences --------------------------------------------------------------------------------------------------------


def spin_echo(plain: Anatomy, rng: np.random.Generator) -> Volume:
    """T1 before contrast: against a gradient echo, grey matter is closer to white matter, and fat far brighter."""
    fat = rng.uniform(1.2, 2.0)
    inside = _table((0, CSF, GREY, WHITE, 255), (0, rng.uniform(44.0, 56.0), rng.uniform(92.0, 105.0), WHITE, 230))
    outside = _table((0, 40, 70, 100, 150, 200, 255), (0, 36, 80, 114, 150 * (1 + fat) / 2, 190 * fat, 215 * fat))
    return _within(plain, inside, outside)


def t2(plain: Anatomy) -> Volume:
    """A T2 made of T1: fluid bright, white matter dark, fat fairly bright, air and bone dark."""
    inside = _table((0, 12, 28, 45, 70, GREY, WHITE, 140), (0, 0, 220, 230, 150, 115, 82, 60))
    outside = _table((0, 10, 40, 90, 190, 255), (0, 5, 35, 45, 150, 200))
    return _within(plain, inside, outside)


def white_matter(plain: Anatomy) -> Volume:
    """Share of white matter in each voxel: where oedema spreads."""
    return plain.brain * _table((0, GREY + 6, WHITE - 6, 255), (0, 0, 1, 1))[plain.stored]


def _table(anatomy: Sequence[float], shown: Sequence[float]) -> Volume:
    """What each of the 256 stored values becomes."""
    return np.interp(np.arange(256), anatomy, shown).astype(np.float32)


def _within(plain: Anatomy, inside: Volume, outside: Volume) -> Volume:
    """The table `inside` in the brain, `outside` beyond its coverings, blended in between."""
    volume = outside[plain.stored]
    mix(volume, plain.brain, inside[plain.stored])
    return volume


# --- contrast agent ---------------------------------------------------------------------------------------------------


def enhance(t1: Volume, plain: Anatomy, rng: np.random.Generator) -> None:
    """Gadolinium, in place."""
    level = WHITE * rng.uniform(1.4, 1.9)  # of blood
    _small_vessels(t1, plain, level, rng)
    _sagittal_sinus(t1, plain, level, rng)
    _transverse_sinuses(t1, plain, level, rng)
    for line, radius in ((GALEN, 1.1), (STRAIGHT, 1.7)):
        _vessel(t1, line, radius, level)
    _plexus(t1, plain, level, rng)
    _sella(t1, plain, rng)
    _skull_base(t1, plain, rng)


def _small_vessels(t1: Volume, plain: Anatomy, level: float, rng: np.random.Generator) -> None:
    """Curves in the sulci and on the surface: two noises vanish together along curves."""
    fluid = np.flatnonzero((plain.stored > 22) & (plain.stored < 90) & (plain.depth > -1.5) & (plain.depth < 28.0))
    away = np.hypot(*(field(t1.shape, 11, rng).ravel()[fluid] for _ in range(2)))
    signal = t1.reshape(-1)
    signal[fluid] += np.clip(2.0 - away / 0.1, 0.0, 1.0) * np.maximum(level - signal[fluid], 0.0)


def _sagittal_sinus(t1: Volume, plain: Anatomy, level: float, rng: np.random.Generator) -> None:
    """A triangle on the inner table, growing towards the back, and below it the falx."""
    box = (slice(MIDLINE - 8, MIDLINE + 9), slice(0, t1.shape[1]), slice(56, t1.shape[2]))
    x, y, z = np.ogrid[box]
    across, vault = np.abs(x - MIDLINE).astype(np.float32), plain.vault[box]
    wide = np.interp(y, [60.0, 185.0], [1.0, 0.5]) * np.clip(0.45 * (3.5 - vault), 0.0, 3.4)
    along = step(z - 58.0 - 0.25 * np.maximum(y - 60.0, 0.0), 3.0)
    brighten(t1[box], step(wide - across - 0.3, 0.8) * step(vault + 5.5, 1.0) * along, level)
    falx = step(1.0 - across, 0.6) * step(24.0 - vault, 6.0) * step(vault - 2.0, 2.0) * (plain.stored[box] < 80)
    floor = np.interp(y, [34, 80, 150, 190], [56, 84, 62, 58])  # tentorium, then the base of the skull up to the crista galli
    arch = step(ellipsoid(box, FALX_EDGE, (90.0, 46.0, 30.0)) - 1.0, 0.12) * step(z - floor, 6.0)
    sheet = falx * arch * step(field(vault.shape, 16, rng) + 0.5, 0.8)
    brighten(t1[box], 0.5 * sheet, 0.5 * (WHITE + level))


def _transverse_sinuses(t1: Volume, plain: Anatomy, level: float, rng: np.random.Generator) -> None:
    """From the confluence along the inner table to the temporal bone, and down; one side is often the larger."""
    box = (slice(18, 163), slice(14, 90), slice(30, 66))
    x, y, z = np.ogrid[box]
    course = np.interp(y, [24.0, 45.0, 70.0, 88.0], [55.0, 50.0, 45.0, 40.0])
    left, right = rng.uniform(1.6, 3.0), rng.uniform(2.2, 3.6)
    half = np.interp(x, [MIDLINE - 12, MIDLINE + 12], [left, right])
    flat = step((half - np.abs(z - course)).astype(np.float32), 1.0) * step(0.7 * half - np.abs(plain.vault[box] + 2.0), 1.0)
    brighten(t1[box], flat * step(88.0 - y.astype(np.float32), 2.0), level)
    _vessel(t1, SIGMOID, float(left), level)
    _vessel(t1, _mirrored(SIGMOID), float(right), level)


def _plexus(t1: Volume, plain: Anatomy, level: float, rng: np.random.Generator) -> None:
    """In the fluid of the lateral ventricles: a clump in each atrium, a thread on the floor of each body; and the pineal."""
    for side in (lambda points: points, _mirrored):
        [centre] = side([ATRIUM])
        box = box_around(centre, 14.0, t1.shape)
        clump = step(1.0 - ellipsoid(box, centre, (4.0, 8.0, 7.0)), 0.2) * step(field(t1[box].shape, 4, rng) - 0.1, 0.5)
        brighten(t1[box], clump * _fluid(plain, box), 0.85 * level)
        _vessel(t1, side(BODY_PLEXUS), 0.9, 0.85 * level, plain)
    box = box_around(PINEAL, 7.0, t1.shape)
    brighten(t1[box], step(1.0 - ellipsoid(box, PINEAL, (3.2, 4.5, 3.0)), 0.25) * (plain.stored[box] > 45), 0.9 * level)


def _sella(t1: Volume, plain: Anatomy, rng: np.random.Generator) -> None:
    """Gland and stalk, and on either side the cavernous sinus, bright around the dark, fast blood of the carotid."""
    gland, sinus = WHITE * rng.uniform(1.2, 1.45), WHITE * rng.uniform(1.05, 1.35)
    for side in (lambda points: points, _mirrored):
        [centre] = side([CAVERNOUS])
        box = box_around(centre, 13.0, t1.shape)
        filled = step(1.0 - ellipsoid(box, centre, (5.0, 10.0, 6.0)), 0.15) * step(field(t1[box].shape, 5, rng) + 0.8, 0.6)
        brighten(t1[box], filled * (plain.stored[box] > 32), sinus)
    carotids(t1)
    box = box_around(GLAND, 10.0, t1.shape)
    brighten(t1[box], step(1.0 - ellipsoid(box, GLAND, (7.5, 5.5, 3.6)), 0.15) * (plain.stored[box] > 55), gland)
    _vessel(t1, ((90, 130, 44), (90, 128, 50), (90, 125, 54)), 1.2, gland)


def carotids(t1: Volume, aside: float = 0.0) -> None:
    """Fast blood gives a spin echo no signal; `aside` is how many mm a mass between them has moved each."""
    for side in (-1.0, 1.0):
        line = [(MIDLINE + side * (MIDLINE - x + aside), y, z) for x, y, z in CAROTID]
        box = box_around(line[2], 24.0, t1.shape)
        mix(t1[box], 0.85 * step(2.3 - tube(box, line), 0.7), 24.0)


def _skull_base(t1: Volume, plain: Anatomy, rng: np.random.Generator) -> None:
    """The lining of nose and sinuses, and the venous plexus between the muscles below the skull."""
    box = (slice(40, 141), slice(60, 205), slice(0, 50))
    stored, outside = plain.t1[box], step(-plain.depth[box] - 4.0, 2.0)
    soft = outside * step(stored - 45.0, 5.0) * step(130.0 - stored, 25.0)  # mucosa and muscle, not fat
    nose = step(1.0 - ellipsoid(box, NOSE, (30.0, 40.0, 30.0)), 0.15)
    plexus = step(field(stored.shape, 8, rng) - 0.5, 0.5)
    t1[box] *= 1.0 + rng.uniform(0.3, 0.6) * soft * np.maximum(nose, plexus)


def _vessel(t1: Volume, line: Sequence[Sequence[float]], radius: float, level: float, only_fluid: Anatomy | None = None) -> None:
    """Blood in a tube around `line`; where `only_fluid` is given, as far as there is fluid."""
    points = np.array(line)
    reach = float(np.abs(points - points.mean(0)).max()) + radius + 2.0
    box = box_around(points.mean(0), reach, t1.shape)
    weight = step(radius - tube(box, line), 0.8)
    brighten(t1[box], weight if only_fluid is None else weight * _fluid(only_fluid, box), level)


def _fluid(plain: Anatomy, box: Box) -> NDArray[np.bool_]:
    return np.asarray(plain.stored[box] < 65)


def _mirrored(points: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """The same on the other side of the head."""
    return [(2.0 * MIDLINE - x, y, z) for x, y, z in points]
