"""prepare: Slices -> Batch, by the recipe of the manifest. Training feeds its pictures and volumes through here too.

    MR: canonical turn | normalise volume-wise | square, resample | the same in every channel | mean, deviation
    CT: canonical turn | square, resample      | one window of Hounsfield units a channel     | mean, deviation

Rows are resampled, then columns; the kernel is a triangle as wide as the coarser of the two grids, so that shrinking does not alias and
growing interpolates. What lies outside of the picture is background: no signal, or air.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.manifest import Recipe
from pipeline.intensity import AIR, DENSEST, normalise, windowed
from pipeline.language import said
from pipeline.orientation import axis, normal, plane, tilt
from pipeline.records import AS_STORED, Affine, Batch, Geometry, Orientation, Pixels, Slices, Turn

# Where rows and columns of a displayed picture should run, by the axis of the slice normal (DICOM patient axes are L, P, S):
# axial and coronal pictures show patient left on the right, sagittal ones the face on the left; heads and noses are up.
_DISPLAY = {
    0: (np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])),  # sagittal: columns to P, rows to I
    1: (np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0])),  # coronal: columns to L, rows to I
    2: (np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])),  # axial: columns to L, rows to P
}

_CACHED = 1 << 17  # pixels that are resampled at once: more would leave the cache between one tap and the next


def prepare(slices: Slices, recipe: Recipe) -> Batch:
    """`slices` as the tensor (slice, channel, size, size) that the recipe asks for."""
    turn = canonical_turn(slices.orientation) if recipe.canonical else AS_STORED
    spacing = slices.spacing[::-1] if turn.transpose else slices.spacing
    tensor, head_area = (_from_hounsfield if recipe.windows else _from_signal)(slices.pixels, turn, spacing, recipe)
    return Batch(
        sources=slices.sources,
        tensor=tensor,
        head_area=head_area,
        to_source=to_source(slices.pixels.shape[1:], slices.spacing, turn, recipe.size),
        recipe_id=recipe.id,
        geometry=_geometry(replace(slices, remarks=(*slices.remarks, *_doubts(slices, recipe))), turn),
    )


def _doubts(slices: Slices, recipe: Recipe) -> tuple[str, ...]:
    """What a reader must know of the values: around every head on CT there is air, unless they are not in Hounsfield units."""
    if recipe.windows and float(slices.pixels.min()) > recipe.air:
        return (said("remarks.no_air"),)
    return ()


def _from_signal(pixels: Pixels, turn: Turn, spacing: tuple[float, float], recipe: Recipe) -> tuple[Pixels, Pixels]:
    """Tensor and head area of pixels without a unit (MR)."""
    grey = resample(_turned(normalise(pixels, recipe), turn), spacing, recipe.size)  # (slice, size, size), 0..1
    head_area = (grey > recipe.foreground).mean((1, 2), dtype=np.float32)
    return np.repeat(_standardised(grey, recipe)[:, None], recipe.channels, axis=1), head_area


def _from_hounsfield(pixels: Pixels, turn: Turn, spacing: tuple[float, float], recipe: Recipe) -> tuple[Pixels, Pixels]:
    """Tensor and head area of pixels in Hounsfield units (CT). Resampled above air, so that what lies outside, 0, is air."""
    above_air = np.clip(pixels, AIR, DENSEST) - np.float32(AIR)
    hounsfield = resample(_turned(above_air, turn), spacing, recipe.size) + np.float32(AIR)
    head_area = (hounsfield > recipe.air).mean((1, 2), dtype=np.float32)
    return np.stack([_standardised(windowed(hounsfield, window), recipe) for window in recipe.windows], axis=1), head_area


def _standardised(shown: Pixels, recipe: Recipe) -> Pixels:
    """0..1 -> what the network eats. In place."""
    shown -= np.float32(recipe.mean)
    shown /= np.float32(recipe.std)
    return shown


def _geometry(slices: Slices, turn: Turn) -> Geometry:
    across = normal(slices.orientation)
    tilted = round(tilt(across), 1) if across else 0.0
    return Geometry(plane(slices.orientation), tilted, turn, slices.between, slices.positions, slices.remarks)


def canonical_turn(orientation: Orientation | None) -> Turn:
    """The turn that brings a slice nearest to radiological display; none where the object does not say how it lies."""
    across = normal(orientation)
    if orientation is None or across is None:
        return AS_STORED
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])  # direction of growing column, growing row
    right, down = _DISPLAY[axis(across)]
    transpose = bool(abs(along_row @ right) < abs(along_column @ right))
    if transpose:
        along_row, along_column = along_column, along_row
    return Turn(transpose, flip_rows=bool(along_column @ down < 0), flip_columns=bool(along_row @ right < 0))


def _turned(pixels: Pixels, turn: Turn) -> Pixels:
    if turn.transpose:
        pixels = pixels.transpose(0, 2, 1)
    return pixels[:, :: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]


def resample(pixels: Pixels, spacing: tuple[float, float], size: int) -> Pixels:
    """(slice, row, column) with `spacing` in mm -> (slice, size, size): padded to a square in mm with background (0), then resampled."""
    rows, columns = pixels.shape[1:]
    side = max(rows * spacing[0], columns * spacing[1])
    down, across = _taps(rows, spacing[0], side, size), _taps(columns, spacing[1], side, size)
    step = max(1, _CACHED // max(rows * columns, 1))
    resampled = np.empty((len(pixels), size, size), np.float32)
    for first in range(0, len(pixels), step):
        part = slice(first, first + step)
        halfway = np.ascontiguousarray(_along_rows(pixels[part], *down).transpose(0, 2, 1))  # (slice, column, size): whole rows move faster
        resampled[part] = _along_rows(halfway, *across).transpose(0, 2, 1)
    return resampled


def _along_rows(pixels: Pixels, index: NDArray[np.intp], weight: Pixels) -> Pixels:
    """(slice, row, column) -> (slice, size, column): each new row the weighted sum of its taps."""
    total = np.zeros((len(pixels), index.shape[1], pixels.shape[2]), np.float32)
    taken = np.empty_like(total)
    for i, w in zip(index, weight, strict=True):
        pixels.take(i, axis=1, out=taken, mode="clip")  # no index is beyond; "raise" would copy through a buffer
        taken *= w[:, None]
        total += taken
    return total


def _taps(length: int, step: float, side: float, size: int) -> tuple[NDArray[np.intp], Pixels]:
    """(tap, size) each: which source samples a target sample takes, and how much of them. What lies outside the source is background.

    Taps, not matrix products: those would wait for BLAS threads on cores that the network is using (100 times slower, measured).
    """
    out_step = side / size
    support = max(step, out_step)
    count = int(np.ceil(2 * support / step)) + 1
    centres = (np.arange(size) + 0.5 - size / 2) * out_step / step + length / 2 - 0.5  # in source samples
    index = np.ceil(centres - support / step).astype(np.intp) + np.arange(count)[:, None]
    weight = np.clip(1.0 - np.abs(index - centres) * step / support, 0.0, None)
    weight /= weight.sum(0)
    weight[(index < 0) | (index >= length)] = 0.0
    used = weight.any(1)
    return np.clip(index[used], 0, length - 1), weight[used].astype(np.float32)


def to_source(shape: tuple[int, ...], spacing: tuple[float, float], turn: Turn, size: int) -> Affine:
    """From network pixels back to pixels of the source image, undoing square, scale and turn."""
    rows, columns = shape
    side = max(rows * spacing[0], columns * spacing[1])
    turned = ((columns, spacing[1]), (rows, spacing[0]))
    (width, dx), (height, dy) = turned[::-1] if turn.transpose else turned
    x = _axis(width, dx, side, size, turn.flip_columns)  # along the turned picture's columns
    y = _axis(height, dy, side, size, turn.flip_rows)
    if turn.transpose:  # the turned picture's x is the source's row
        return Affine(0.0, y[0], y[1], x[0], 0.0, x[1], columns, rows)
    return Affine(x[0], 0.0, x[1], 0.0, y[0], y[1], columns, rows)


def _axis(length: int, step: float, side: float, size: int, flip: bool) -> tuple[float, float]:
    """Scale and offset of one axis, network pixels to source pixels."""
    scale, offset = side / size / step, (length - side / step) / 2
    return (-scale, length - offset) if flip else (scale, offset)
