"""Parallel slices through a painted head, as a scanner would measure them: pose, partial volume, coil shading, Rician noise.

World coordinates are DICOM patient coordinates in mm (L, P, S), their origin near the middle of the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.phantom.anatomy import WHITE
from scripts.phantom.fields import Volume, stretch
from scripts.phantom.tumours import Head

Plane = Literal["axial", "coronal", "sagittal"]

CENTRE = np.array([90.0, 106.0, 84.0])  # voxel of the painted head that lies at the origin when nothing is turned
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
FIELD_OF_VIEW = 240.0  # mm
BEND = 217.0 / 5  # voxels between two points that are bent on their own
VENTRICLES, VENTRICLES_REACH = np.array([90.0, 106.0, 84.0]), 24.0  # voxels
LAYERS = np.arange(-2.0, 2.1)  # mm in a slice of 5: it shows their mean
WHITE_STORED = 450.0  # stored value of white matter: 12-bit scanners leave head room for fat and enhancement


@dataclass(frozen=True, slots=True)
class Frame:
    """How slices of a plane lie: direction of growing column, of growing row (PS3.3 C.7.6.2.1.1), and mm from slice to slice."""

    along_row: tuple[float, float, float]
    along_column: tuple[float, float, float]
    between: float  # thickness and gap, so that 24 slices cover the brain of this head
    extent: tuple[float, float]  # mm along the normal that the head fills

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.along_row, self.along_column).astype(np.float64)

    def tilted(self, tilt: float, turn: float) -> Frame:
        """The frame after `turn` degrees about its own normal, then `tilt` degrees about the left-right axis of the patient."""
        if not tilt and not turn:
            return self
        a = np.deg2rad(turn)
        row, column = np.array(self.along_row), np.array(self.along_column)
        about_x = _rotation(0, np.deg2rad(tilt))
        along_row, along_column = about_x @ (np.cos(a) * row + np.sin(a) * column), about_x @ (np.cos(a) * column - np.sin(a) * row)
        return replace(self, along_row=tuple(along_row.tolist()), along_column=tuple(along_column.tolist()))


FRAMES: dict[Plane, Frame] = {
    "axial": Frame((1, 0, 0), (0, 1, 0), 6.0, (-74.0, 72.0)),
    "coronal": Frame((1, 0, 0), (0, 0, -1), 7.0, (-86.0, 86.0)),
    "sagittal": Frame((0, 1, 0), (0, 0, -1), 6.0, (-72.0, 72.0)),
}


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of `slices` parallel slices, `size` x `size` pixels each; `centre` is where its middle lies on the normal, in mm.

    `tilt` and `turn`, in degrees, make it oblique: see Frame.tilted.
    """

    plane: Plane
    slices: int
    centre: float = 0.0
    size: int = 256
    field_of_view: float = FIELD_OF_VIEW  # mm
    thickness: float = 5.0  # mm
    tilt: float = 0.0
    turn: float = 0.0

    @property
    def frame(self) -> Frame:
        return FRAMES[self.plane].tilted(self.tilt, self.turn)

    @property
    def spacing(self) -> float:
        return self.field_of_view / self.size

    @property
    def offsets(self) -> NDArray[np.float64]:
        """Where each slice's middle lies on the normal, in mm."""
        steps = np.arange(self.slices) - (self.slices - 1) / 2
        return np.asarray(self.centre + steps * FRAMES[self.plane].between, dtype=np.float64)

    def origin(self, offset: float) -> NDArray[np.float64]:
        """Patient coordinates of the centre of the first pixel of the slice at `offset`: Image Position (Patient)."""
        frame = self.frame
        half = (self.size - 1) / 2 * self.spacing
        corner = frame.normal * offset - half * np.add(frame.along_row, frame.along_column)
        return np.asarray(corner, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Pose:
    """How a subject lies in the scanner, and how its head differs from the painted one.

    voxel = v + bend(v), with v = matrix @ patient coordinates + offset
    """

    matrix: NDArray[np.float64]  # (3, 3)
    offset: NDArray[np.float64]  # (3,)
    bend: NDArray[np.float64]  # (3, 6, 6, 6): mm along each axis, at points BEND apart around the head
    ventricles: float  # mm by which the walls of the lateral ventricles are moved in (their outside then is wider), or out

    def bent(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """(3, ...) mm to add to `voxels`."""
        at = voxels / BEND
        smooth = np.stack([ndimage.map_coordinates(grid, at, order=3, mode="nearest", prefilter=False) for grid in self.bend])
        away = (voxels.T - VENTRICLES).T / VENTRICLES_REACH
        return np.asarray(smooth + self.ventricles * away * np.exp(0.5 - 0.5 * (away**2).sum(0)), dtype=np.float64)


def pose(seed: int) -> Pose:
    """A few degrees of turn, a few per cent of size, a few mm of shift and of bend, as people lie and differ."""
    rng = np.random.default_rng([seed, 101])
    a, b, c = np.deg2rad(rng.uniform(-5.0, 5.0, 3))
    turn = _rotation(0, a) @ _rotation(1, b) @ _rotation(2, c)
    matrix = np.diag(1.0 / rng.uniform(0.94, 1.04, 3)) @ turn @ RAS_TO_LPS
    offset = CENTRE + matrix @ rng.uniform(-4.0, 4.0, 3)
    return Pose(matrix, offset, 4.0 * rng.standard_normal((3, 6, 6, 6)), rng.uniform(-4.0, 1.5))


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def stack_for(head: Head, where: Pose, plane: Plane, slices: int, size: int, tilt: float = 0.0, turn: float = 0.0) -> Stack:
    """A stack over the whole head; one too short for that moves to the lesion, where there is one."""
    frame = FRAMES[plane].tilted(tilt, turn)
    wanted = 0.0
    if head.lesion.any():
        voxel = np.argwhere(head.lesion).mean(0)
        wanted = float(frame.normal @ np.linalg.solve(where.matrix, voxel - where.offset))
    low, high = frame.extent
    half = min(slices * frame.between, high - low) / 2
    return Stack(plane, slices, float(np.clip(wanted, low + half, high - half)), size, tilt=tilt, turn=turn)


def cut(volume: Volume, where: Pose, stack: Stack) -> Volume:
    """(slice, row, column): the volume averaged over each slice's thickness, linearly interpolated."""
    across = where.matrix @ stack.frame.normal
    order = np.argsort(-np.abs(across), kind="stable")  # what lies in a slice lies together in memory: twice as fast
    volume = np.ascontiguousarray(volume.transpose(order))
    slices = np.zeros((stack.slices, stack.size, stack.size), np.float32)
    for into, offset in zip(slices, stack.offsets, strict=True):
        voxels = _voxels(where, stack, float(offset))[order]
        inside = np.logical_and.reduce([(v > -5.0) & (v < n + 5.0) for v, n in zip(voxels, volume.shape, strict=True)])
        layers = (voxels[:, inside] + (layer * stack.thickness / 5 * across[order])[:, None] for layer in LAYERS)
        into[inside] = np.mean([ndimage.map_coordinates(volume, layer, order=1) for layer in layers], axis=0)
    return slices


def _voxels(where: Pose, stack: Stack, offset: float) -> NDArray[np.float32]:
    """(3, row, column): which voxel each pixel of the slice at `offset` shows. Bends are smooth: every 16th of a slice is enough."""
    frame, steps = stack.frame, np.arange(stack.size)
    down, right = (where.matrix @ np.array(along) * stack.spacing for along in (frame.along_column, frame.along_row))
    start = (where.matrix @ stack.origin(offset) + where.offset)[:, None, None]
    straight = start + down[:, None, None] * steps[:, None] + right[:, None, None] * steps
    coarse = (np.arange(19) - 1) * (stack.size - 1) / 16  # one beyond each end, for the spline
    few = start + down[:, None, None] * coarse[:, None] + right[:, None, None] * coarse
    bend = stretch(stretch(where.bent(few).astype(np.float32), 1, stack.size), 2, stack.size)
    return np.asarray(straight + bend, dtype=np.float32)


def measure(ideal: Volume, seed: int) -> NDArray[np.uint16]:
    """Stored values (slice, row, column) of what a receive coil would deliver of `ideal`: shaded, noisy, magnitude."""
    rng = np.random.default_rng([seed, 103])
    shaded = ideal * (WHITE_STORED / WHITE) * _shading(ideal.shape, rng)
    deviation = WHITE_STORED * rng.uniform(0.012, 0.03)
    real, imaginary = deviation * rng.standard_normal((2, *ideal.shape), dtype=np.float32)
    magnitude = np.hypot(shaded + real, imaginary).round()
    return np.asarray(np.clip(magnitude, 0, 4095), dtype=np.uint16)


def _shading(shape: tuple[int, ...], rng: np.random.Generator) -> Volume:
    """A smooth gain about 1: tilted in the plane, and brighter towards the coil."""
    down, across = (np.linspace(-1.0, 1.0, n, dtype=np.float32) for n in shape[1:])
    tilt = rng.uniform(-0.08, 0.08, 2)
    gain = 1.0 + tilt[0] * down[:, None] + tilt[1] * across + rng.uniform(0.0, 0.12) * (down[:, None] ** 2 + across**2)
    return np.asarray(gain, dtype=np.float32)
