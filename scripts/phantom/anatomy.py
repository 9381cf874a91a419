"""The head that everything is painted into: Colin 27 (scripts/anatomy), and where in it things are.

All arrays are (181, 217, 181) on a 1 mm grid, axes to the patient's right, front and top, in the intensities of the anatomy.
Places are voxels of it, read off its slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.phantom.fields import Point, Volume, enlarge, step

FILE = Path(__file__).parents[1] / "anatomy" / "colin27.npz"
CSF, GREY, WHITE = 38.0, 85.0, 112.0  # intensities of the anatomy, read off its histogram
MIDLINE = 90
GLAND = (90.0, 131.0, 41.0)  # the pituitary in its sella: 15 mm wide, 11 long, 6 high, on the roof of the sphenoid sinus


@dataclass(frozen=True, slots=True)
class Anatomy:
    stored: NDArray[np.uint8]  # T1, gradient echo, without contrast
    t1: Volume  # the same
    depth: Volume  # mm below the brain's surface; negative outside the brain
    vault: Volume  # the same, with the fissures smoothed away: 0 a little inside the dura
    brain: Volume  # 1 in the brain, 0 beyond its coverings


@cache
def anatomy() -> Anatomy:
    """The head, read and measured once per process."""
    with np.load(FILE) as archive:
        stored = np.ascontiguousarray(archive["t1"])
        brain = np.unpackbits(archive["brain"])[: stored.size].reshape(stored.shape)
    half = brain[::2, ::2, ::2] > 0  # distances on 2 mm are good enough and eight times as fast
    distance = 2.0 * (ndimage.distance_transform_edt(half) - ndimage.distance_transform_edt(~half)).astype(np.float32)
    depth, vault = (_upon(ndimage.gaussian_filter(distance, sigma), stored.shape) for sigma in (0.6, 4.0))
    return Anatomy(stored, stored.astype(np.float32), depth, vault, step(depth + 1.5, 2.0))


def _upon(half: Volume, shape: tuple[int, ...]) -> Volume:
    """Every second voxel -> every voxel. The spline wants a control point beyond each end."""
    return enlarge(np.pad(half, 1, mode="edge"), shape)


def inwards(depth: Volume, point: Point) -> Point:
    """Unit vector at `point` that leads deeper."""
    i, j, k = (slice(max(int(p) - 4, 0), int(p) + 5) for p in point)
    slope = np.array([component.mean() for component in np.gradient(depth[i, j, k])])
    return np.asarray(slope / np.linalg.norm(slope), dtype=np.float64)
