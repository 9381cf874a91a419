"""Heads with a tumour painted into them: Colin 27 (scripts/anatomy), after simulated contrast, T1 and an invented T2.

    anatomy | sequence | contrast agent | push aside | tumour

All arrays are (181, 217, 181) on a 1 mm grid, axes to the patient's right, front and top, in the intensities of the anatomy
(white matter 112). Everything that varies hangs on the seed. For demo and tests: nothing here is, or was made from, a patient.

The bounds were chosen by what the bundled network recognises: gliomas only where it names them right (parietal and occipital ones it mostly
calls meningioma), fat hardly brighter than in the anatomy, falx and front of the sagittal sinus without contrast (it sees glioma there).
So these phantoms show that the path works; how good the network is they do not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Tumour = Literal["glioma", "meningioma", "pituitary", "none"]
Volume = NDArray[np.float32]
Box = tuple[slice, slice, slice]

ANATOMY = Path(__file__).with_name("anatomy") / "colin27.npz"
CSF, GREY, WHITE = 38.0, 85.0, 112.0  # intensities of the anatomy, read off its histogram
MIDLINE = 90  # voxels; the falx
GLAND = (90.0, 131.0, 42.0)  # voxels; the pituitary gland of this head
ATRIA = ((66.0, 85.0, 79.0), (114.0, 85.0, 79.0))  # voxels; choroid plexus of the lateral ventricles
CAVERNOUS = ((79.0, 128.0, 40.0), (101.0, 128.0, 40.0))  # voxels; the sinuses beside the gland
NOSE = (90.0, 165.0, 22.0)  # voxels; nasal cavity and sinuses around it


@dataclass(frozen=True, slots=True)
class Head:
    """One painted head; `lesion` is what a reader would outline: enhancing tumour with its core, without oedema."""

    t1: Volume
    t2: Volume
    lesion: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Anatomy:
    t1: Volume
    depth: Volume  # mm below the brain's surface; negative outside the brain
    vault: Volume  # the same, with the fissures smoothed away


@cache
def anatomy() -> Anatomy:
    """The head everything is painted into."""
    with np.load(ANATOMY) as archive:
        t1 = archive["t1"].astype(np.float32)
        brain = np.unpackbits(archive["brain"])[: t1.size].reshape(t1.shape)
    half = brain[::2, ::2, ::2] > 0  # distances on 2 mm are good enough and eight times as fast
    distance = 2.0 * (ndimage.distance_transform_edt(half) - ndimage.distance_transform_edt(~half)).astype(np.float32)
    depth, vault = (_enlarge(ndimage.gaussian_filter(distance, sigma), t1.shape) for sigma in (0.8, 4.0))
    return Anatomy(t1, depth, vault)


def paint(tumour: Tumour, seed: int) -> Head:
    """A head with `tumour` in it. The same seed gives the same head, voxel by voxel."""
    if tumour not in get_args(Tumour):
        raise ValueError(f"no tumour is called {tumour!r}; there are {', '.join(get_args(Tumour))}")
    rng = np.random.default_rng([seed, get_args(Tumour).index(tumour)])
    plain = anatomy()
    head = Head(_contrast_agent(_spin_echo(plain, rng), plain, rng), _t2(plain), np.zeros(plain.t1.shape, bool))
    if tumour == "glioma":
        _glioma(head, plain, rng)
    elif tumour == "meningioma":
        _meningioma(head, plain, rng)
    elif tumour == "pituitary":
        _pituitary(head, rng)
    fade = np.clip((np.arange(head.t1.shape[2], dtype=np.float32) + 1.0) / 14.0, 0.0, 1.0)  # the anatomy ends here, the neck does not:
    return Head(head.t1 * fade, head.t2 * fade, head.lesion)  # as where a head coil ends


# --- sequences and contrast -------------------------------------------------------------------------------------------


def _spin_echo(plain: Anatomy, rng: np.random.Generator) -> Volume:
    """T1 as a spin echo shows it: against the anatomy's gradient echo, grey matter is closer to white matter, and fat brighter."""
    grey = rng.uniform(97.0, 102.0)
    inside = np.interp(plain.t1, [0.0, CSF, GREY, WHITE, 255.0], [0.0, 46.0, grey, WHITE, 255.0])
    return _within(plain, inside, rng.uniform(1.1, 1.22) * plain.t1)


def _t2(plain: Anatomy) -> Volume:
    """A T2 made of T1: fluid bright, white matter dark, fat fairly bright, air and bone dark."""
    inside = np.interp(plain.t1, [0.0, 12.0, 28.0, 45.0, 70.0, GREY, WHITE, 140.0], [0.0, 0.0, 220.0, 230.0, 150.0, 115.0, 82.0, 60.0])
    outside = np.interp(plain.t1, [0.0, 10.0, 40.0, 90.0, 190.0, 255.0], [0.0, 5.0, 35.0, 45.0, 150.0, 200.0])
    return _within(plain, inside, outside)


def _within(plain: Anatomy, inside: NDArray[Any], outside: NDArray[Any]) -> Volume:
    """`inside` in the brain, `outside` beyond its coverings, blended in between."""
    weight = _step(plain.depth + 1.5, 2.0)
    return np.asarray(weight * inside + (1.0 - weight) * outside, dtype=np.float32)


def _contrast_agent(t1: Volume, plain: Anatomy, rng: np.random.Generator) -> Volume:
    """What lights up in every head after gadolinium: vessels, sagittal sinus, choroid plexus, gland and its sinuses, mucosa."""
    x, y, z = np.ogrid[tuple(slice(n) for n in t1.shape)]
    depth = plain.depth
    across = np.abs(x - MIDLINE)
    tubes = np.hypot(_field(t1.shape, 14, rng), _field(t1.shape, 14, rng)) < 0.09  # two noises vanish together along curves
    _raise(t1, tubes & (depth > -1) & (depth < 28) & (t1 < 80), 165.0)
    taper = np.clip((130.0 - y) / 60.0, 0.0, 1.0)  # the sagittal sinus grows towards the back
    _raise(t1, (across < taper * (2.2 - 0.5 * plain.vault)) & (np.abs(plain.vault + 2.5) < 2.5) & (z > 60), 155.0)
    for centre in ATRIA:
        near = _ellipsoid(t1.shape, centre, (6.0, 11.0, 9.0)) < 1
        _raise(t1, near & (t1 < 65) & (_field(t1.shape, 5, rng) > 0.3), 160.0)
    _raise(t1, (_ellipsoid(t1.shape, GLAND, (7.0, 5.5, 4.0)) < 1) & (t1 > 70), 150.0)
    for centre in CAVERNOUS:
        near = (_ellipsoid(t1.shape, centre, (5.0, 9.0, 5.5)) < 1) & (t1 > 45)
        _raise(t1, near & (_field(t1.shape, 5, rng) > -0.2), 135.0)
    nose = _step(1.0 - _ellipsoid(t1.shape, NOSE, (34.0, 38.0, 28.0)), 0.15) * _step(-depth - 4.0, 2.0)
    t1 *= 1.0 + 0.35 * nose * ((t1 > 55) & (t1 < 160))  # mucosa
    return t1


def _raise(t1: Volume, where: NDArray[np.bool_], level: float) -> None:
    t1[where] = np.maximum(t1[where], level)


# --- tumours ----------------------------------------------------------------------------------------------------------


def _glioma(head: Head, plain: Anatomy, rng: np.random.Generator) -> None:
    """An irregular mass in white matter: enhancing rim of uneven thickness, dark core, oedema that follows white matter."""
    x, y, z = np.ogrid[tuple(slice(n) for n in head.t1.shape)]
    radius = rng.uniform(13.0, 17.0)
    deep = (plain.depth > radius + 2) & (plain.depth < radius + 16) & (plain.t1 > 104)
    lobes = (y > 100) & (y < 156) & (z > 70) & (z < 112)  # frontal, insular, upper temporal; the network misnames others
    centre = _pick(deep & lobes & (np.abs(x - MIDLINE) > radius + 4), rng)
    _push(head, plain, centre, radius, 0.4)
    box, r = _around(centre, radius, radius + 32, head.t1.shape, rng, stretch=0.2)
    shape = r.shape
    r += radius * (0.20 * _field(shape, 16, rng) + 0.07 * _field(shape, 6, rng))
    inside = _step(plain.depth[box], 0.5)
    white = np.clip((head.t1[box] - 84.0) / 12.0, 0.0, 1.0)
    oedema = inside * white * _step(radius + rng.uniform(10.0, 20.0) + 4.0 * _field(shape, 12, rng) - r, 2.0)
    _mix(head.t1[box], oedema, 68.0)
    _mix(head.t2[box], oedema, 190.0)
    mass = inside * _step(radius - r, 1.0)
    thickness = radius * rng.uniform(0.14, 0.24) * (1.0 + 0.45 * _field(shape, 11, rng))
    rim = _step(thickness - (radius - r), 1.2)
    core = rng.uniform(46.0, 66.0) + 6.0 * _field(shape, 4, rng)
    _mix(head.t1[box], mass, rim * WHITE * rng.uniform(1.35, 1.65) * (1.0 + 0.14 * _field(shape, 6, rng)) + (1.0 - rim) * core)
    _mix(head.t2[box], mass, rim * 130.0 + (1.0 - rim) * (205.0 + 12.0 * _field(shape, 6, rng)))
    head.lesion[box] = mass > 0.5


def _meningioma(head: Head, plain: Anatomy, rng: np.random.Generator) -> None:
    """A bright, even, sharply bounded mass that sits broadly on the dura of the convexity and dents the brain."""
    _, y, z = np.ogrid[tuple(slice(n) for n in head.t1.shape)]
    surface = _pick((plain.depth > 0) & (plain.depth < 3) & (z > 92) & (y > 45) & (y < 180), rng)
    radius = rng.uniform(13.0, 19.0)
    centre = surface + rng.uniform(0.2, 0.5) * radius * _inwards(plain.depth, surface)
    _push(head, plain, centre, radius, 0.85)
    box, r = _around(centre, radius, radius + 24, head.t1.shape, rng, stretch=0.12)
    shape, depth = r.shape, plain.depth[box]
    r += radius * (0.08 * _field(shape, 14, rng) + 0.03 * _field(shape, 6, rng))
    intracranial = _step(plain.vault[box] + 4.0, 0.7)
    oedema = rng.choice([0.0, 0.8]) * intracranial * np.clip((head.t1[box] - 94.0) / 12.0, 0.0, 1.0) * _step(radius + 9.0 - r, 2.0)
    _mix(head.t1[box], oedema, 80.0)
    _mix(head.t2[box], oedema, 185.0)
    cleft = intracranial * _step(radius + 1.3 - r, 0.5) * _step(depth - 3.0, 0.8)
    _mix(head.t1[box], cleft, 62.0)
    _mix(head.t2[box], cleft, 200.0)
    tail = _step(1.6 * radius - r, 1.0) * _step(1.2 - np.abs(plain.vault[box] + 2.0), 0.5)
    _mix(head.t1[box], 0.7 * tail, 150.0)
    mass = intracranial * _step(radius - r, 0.6)
    _mix(head.t1[box], mass, WHITE * rng.uniform(1.4, 1.7) * (1.0 + 0.05 * _field(shape, 6, rng)))
    _mix(head.t2[box], mass, 128.0 + 4.0 * _field(shape, 5, rng))
    head.lesion[box] = mass > 0.5


def _pituitary(head: Head, rng: np.random.Generator) -> None:
    """A bright rounded mass that fills and widens the sella and rises towards the chiasm."""
    centre = np.array(GLAND) + rng.uniform([-1.5, -1.0, 2.0], [1.5, 1.0, 5.0])
    radii = rng.uniform([10.5, 10.0, 13.0], [13.5, 12.0, 16.0])
    radius = float(radii.mean())
    box, _ = _around(centre, radius, 26.0, head.t1.shape, rng, stretch=0.0)
    r = radius * _ellipsoid(head.t1.shape, tuple(centre), tuple(radii), box)
    r += radius * 0.09 * _field(r.shape, 9, rng)
    mass = _step(radius - r, 0.8)
    _mix(head.t1[box], mass, WHITE * rng.uniform(1.3, 1.6) * (1.0 + 0.1 * _field(r.shape, 5, rng)))
    _mix(head.t2[box], mass, 125.0 + 6.0 * _field(r.shape, 4, rng))
    head.lesion[box] = mass > 0.5


# --- tools ------------------------------------------------------------------------------------------------------------


def _field(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Volume:
    """Smooth noise, mean 0 and deviation about 1, whose bumps are about `scale` voxels apart."""
    coarse = rng.standard_normal([int(np.ceil(n / scale)) + 2 for n in shape]).astype(np.float32)
    return np.asarray(1.5 * _enlarge(coarse, shape), dtype=np.float32)


def _enlarge(coarse: Volume, shape: tuple[int, ...]) -> Volume:
    """`coarse` stretched over `shape`, linear along each axis."""
    for axis, n in enumerate(shape):
        at = np.linspace(0.0, coarse.shape[axis] - 1.0, n, dtype=np.float32)
        low = np.minimum(at.astype(np.intp), coarse.shape[axis] - 2)
        part = (at - low.astype(np.float32)).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        coarse = coarse.take(low, axis) * (1 - part) + coarse.take(low + 1, axis) * part
    return np.asarray(coarse, dtype=np.float32)


def _pick(place: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """One voxel of `place`."""
    return np.array(np.unravel_index(rng.choice(np.flatnonzero(place)), place.shape), dtype=np.float64)


def _inwards(depth: Volume, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector at `point` that leads into the brain."""
    i, j, k = (slice(int(p) - 4, int(p) + 5) for p in point)
    slope = np.array([component.mean() for component in np.gradient(depth[i, j, k])])
    return np.asarray(slope / np.linalg.norm(slope), dtype=np.float64)


def _around(
    centre: NDArray[np.float64], radius: float, reach: float, shape: tuple[int, ...], rng: np.random.Generator, *, stretch: float
) -> tuple[Box, Volume]:
    """The box within `reach` of `centre`, and in it the distance in mm from the centre of an ellipsoid stretched by up to `stretch`."""
    low = np.maximum(centre - reach, 0).astype(int)
    high = np.minimum(centre + reach + 1, shape).astype(int)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    radii = radius * (1.0 + stretch * rng.uniform(-1.0, 1.0, 3))
    return box, radius * _ellipsoid(shape, tuple(centre), tuple(radii), box)


def _ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...], box: Box | None = None) -> Volume:
    """Distance from `centre` in units of `radii`: 1 on the ellipsoid's surface."""
    grid = np.ogrid[box or tuple(slice(n) for n in shape)]
    squares = (((g - c) / r).astype(np.float32) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(np.sqrt(sum(squares)), dtype=np.float32)


def _step(x: Volume, width: float) -> Volume:
    """From 0 to 1 where `x` crosses zero, over `width` on either side."""
    return np.asarray(np.clip(0.5 + 0.5 * x / width, 0.0, 1.0), dtype=np.float32)


def _mix(volume: Volume, weight: Volume, value: Volume | float) -> None:
    """Lets `value` shine through in place, as far as `weight` says."""
    volume += weight * (value - volume)


def _push(head: Head, plain: Anatomy, centre: NDArray[np.float64], radius: float, strength: float) -> None:
    """Moves brain away from `centre`, as a mass that takes `strength` of its volume for itself would; the skull stays."""
    reach = 2.6 * radius
    low = np.maximum(centre - reach, 0).astype(int)
    high = np.minimum(centre + reach + 1, head.t1.shape).astype(int)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    r = np.maximum(_ellipsoid(head.t1.shape, tuple(centre), (1.0, 1.0, 1.0), box), 1e-3)
    origin = np.cbrt(np.maximum(r**3 - strength * radius**3, 0.0))  # where the tissue that is now at r came from
    fixed = np.clip(plain.depth[box] / 8.0, 0.0, 1.0) * np.clip(3.0 - 3.0 * r / reach, 0.0, 1.0)
    factor = 1.0 + fixed * (origin / r - 1.0)
    grid = np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij")
    at = [c + factor * (g - c) for g, c in zip(grid, centre, strict=True)]
    for volume in (head.t1, head.t2):
        volume[box] = ndimage.map_coordinates(volume, at, order=1, mode="nearest")
