"""decode: a Series of files -> Slices: pixels in modality units, ordered along the normal of the slices.

pydicom and its codec plugins read the pixels; a Dataset is born and dies in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut

from pipeline.records import Instance, Pixels, Series, Slices, Source

Vector = tuple[float, ...]
_SAME_PLACE = 0.01  # mm; nearer than this, two slices lie in the same place


class Undecodable(Exception):
    """Pixels that cannot be read; the message names the instance, never what it says of a patient."""

    def __init__(self, sop_instance_uid: str, cause: str) -> None:
        super().__init__(f"instance {sop_instance_uid}: {cause}")
        self.sop_instance_uid = sop_instance_uid


@dataclass(frozen=True)
class _Plane:
    """One decoded frame and how it lies in the patient."""

    source: Source
    number: int  # InstanceNumber, or the frame's
    pixels: Pixels  # (row, column)
    spacing: tuple[float, float] | None
    orientation: Vector | None  # six direction cosines
    position: Vector | None  # mm, of the first pixel
    more_is_darker: bool  # MONOCHROME1 (PS3.3 C.7.6.3.1.2)

    @property
    def depth(self) -> float | None:
        """Distance of the plane from the origin along its normal, mm."""
        if self.orientation is None or self.position is None:
            return None
        return float(np.cross(self.orientation[:3], self.orientation[3:]) @ np.array(self.position))


def decode(series: Series) -> Slices:
    """The slices of `series` that lie in one orientation, ordered, one for each place. Raises Undecodable."""
    planes = [plane for instance in series.instances for plane in _planes(instance)]
    stack = _ordered(_largest_stack(planes))
    depths = [plane.depth for plane in stack if plane.depth is not None]
    pixels = np.stack([plane.pixels for plane in stack])
    return Slices(
        sources=tuple(plane.source for plane in stack),
        pixels=pixels.max() + pixels.min() - pixels if stack[0].more_is_darker else pixels,
        spacing=stack[0].spacing or (1.0, 1.0),
        between=float(np.median(np.diff(depths))) if len(depths) > 1 else None,
        orientation=stack[0].orientation,  # type: ignore[arg-type]
        positions=tuple(depths) if len(depths) == len(stack) else (),
    )


def _planes(instance: Instance) -> list[_Plane]:
    try:
        ds = dcmread(instance.path)
        pixels = _modality_units(ds)
        return [_plane(instance, ds, k, frame, len(pixels)) for k, frame in enumerate(pixels)]
    except Exception as error:
        raise Undecodable(instance.sop_instance_uid, f"pixels cannot be read ({type(error).__name__})") from error


def _modality_units(ds: Dataset) -> Pixels:
    """(frame, row, column) after rescale."""
    pixels = ds.pixel_array
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    if "PerFrameFunctionalGroupsSequence" in ds:
        scaled = [_rescaled(frame, _groups(ds, k)) for k, frame in enumerate(pixels)]
        pixels = np.stack(scaled)
    else:
        pixels = apply_modality_lut(pixels, ds)
    return np.asarray(pixels, dtype=np.float32)


def _rescaled(frame: np.ndarray[Any, Any], groups: list[Dataset]) -> Pixels:
    """A frame by its own Pixel Value Transformation (PS3.3 C.7.6.16.2.9)."""
    item = _item(groups, "PixelValueTransformationSequence")
    slope, intercept = (float(item.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))) if item else (1.0, 0.0)
    return np.asarray(frame * slope + intercept, dtype=np.float32)


def _groups(ds: Dataset, frame: int) -> list[Dataset]:
    """Where to look for an attribute of a frame: its own functional groups, then the shared ones (PS3.3 C.7.6.16)."""
    return [*ds.get("PerFrameFunctionalGroupsSequence", [])[frame : frame + 1], *ds.get("SharedFunctionalGroupsSequence", [])]


def _item(groups: list[Dataset], keyword: str) -> Dataset | None:
    found = (group[keyword].value for group in groups if keyword in group)
    return next((sequence[0] for sequence in found if sequence), None)


def _plane(instance: Instance, ds: Dataset, k: int, pixels: Pixels, frames: int) -> _Plane:
    groups = _groups(ds, k)
    measures = _item(groups, "PixelMeasuresSequence") or ds
    orientation = _item(groups, "PlaneOrientationSequence") or ds
    position = _item(groups, "PlanePositionSequence") or ds
    spacing = _numbers(measures, "PixelSpacing", 2)
    return _Plane(
        source=Source(instance.sop_instance_uid, k + 1 if frames > 1 or "NumberOfFrames" in ds else None),
        number=k + 1 if frames > 1 else int(ds.get("InstanceNumber") or 0),
        pixels=pixels,
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        orientation=_numbers(orientation, "ImageOrientationPatient", 6),
        position=_numbers(position, "ImagePositionPatient", 3),
        more_is_darker=ds.PhotometricInterpretation == "MONOCHROME1",
    )


def _numbers(ds: Dataset, keyword: str, count: int) -> Vector | None:
    value = ds.get(keyword)
    if value is None or isinstance(value, str | float | int) or len(value) != count:
        return None
    numbers = tuple(float(v) for v in value)
    return numbers if np.isfinite(numbers).all() else None


def _largest_stack(planes: list[_Plane]) -> list[_Plane]:
    """The planes that share size and orientation; of several such sets the one with most."""

    def kind(plane: _Plane) -> tuple[object, ...]:
        return plane.pixels.shape, tuple(round(c, 2) for c in plane.orientation or ())

    groups = [list(group) for _, group in groupby(sorted(planes, key=lambda p: str(kind(p))), key=kind)]
    return max(groups, key=len)


def _ordered(planes: list[_Plane]) -> list[_Plane]:
    """By projection on the normal, else by number. Of several slices in one place (phases, echoes) the last acquired stays."""
    by_number = sorted(planes, key=lambda p: (p.number, p.source))
    if any(plane.depth is None for plane in planes):
        return by_number
    places = {round((plane.depth or 0.0) / _SAME_PLACE): plane for plane in by_number}
    return [places[place] for place in sorted(places)]
