"""How slices lie: odd stacks are analysed, what cannot be is said in the report, not by a failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from corpus import Object, case, changed, each, head, one, picture, put
from objects import AXIAL, CORONAL, SAGITTAL, pixels
from pydicom import Dataset
from pydicom.dataset import FileDataset

ALIKE = "its pictures are empty"


def at(ds: FileDataset, *position: float, orientation: Sequence[float] | None = None) -> FileDataset:
    ds.ImagePositionPatient = list(position)
    if orientation is not None:
        ds.ImageOrientationPatient = list(orientation)
    return ds


@case("oblique-15-degrees", "analysed")
def oblique(uid: str) -> Sequence[Object]:
    c, s = round(math.cos(math.radians(15)), 6), round(math.sin(math.radians(15)), 6)
    return [at(ds, 0, -5 * k * s, 5 * k * c, orientation=[1, 0, 0, 0, c, s]) for k, ds in enumerate(head(uid))]


@case("gantry-tilt", "analysed")
def tilt(uid: str) -> Sequence[Object]:
    return [at(ds, 0, 2.0 * k, 5 * k) for k, ds in enumerate(head(uid, 5))]


@case("gap-in-the-stack", "analysed")
def gap(uid: str) -> Sequence[Object]:
    return [ds for k, ds in enumerate(head(uid, 8)) if k not in (3, 4)]


@case("uneven-spacing", "analysed")
def uneven(uid: str) -> Sequence[Object]:
    return [at(ds, 0, 0, z) for ds, z in zip(head(uid, 5), (0, 1, 4, 9, 30), strict=True)]


@case("duplicates", "analysed")
def duplicates(uid: str) -> Sequence[Object]:
    again = head(uid)
    for k, ds in enumerate(again):
        ds.SOPInstanceUID = f"{uid}.7.{k}"
    return [*head(uid), *again]


@case("same-instance-twice", "analysed")
def twice(uid: str) -> Sequence[Object]:
    return [*head(uid), *head(uid)]


@case("same-place-other-pixels", "analysed")
def phases(uid: str) -> Sequence[Object]:
    later = head(uid, first=4)
    for k, ds in enumerate(later):
        at(ds, 0, 0, 5 * (k + 1))
    return [*head(uid), *later]


@case("mixed-orientations", "analysed")
def mixed(uid: str) -> Sequence[Object]:
    return [*head(uid, 4), *(at(ds, 0, 5 * k, 0, orientation=CORONAL) for k, ds in enumerate(head(uid, 2, first=5)))]


@case("three-planes-without-saying-localizer", "declined", "localizer|orientation|plane")
def three_planes(uid: str) -> Sequence[Object]:
    return [at(ds, 0, 0, 0, orientation=o) for ds, o in zip(head(uid), (AXIAL, CORONAL, SAGITTAL), strict=True)]


@case("sizes-differ", "analysed")
def sizes(uid: str) -> Sequence[Object]:
    small = head(uid, 1, first=4)[0]
    pixels(small, picture(1, 16))
    return [*head(uid), small]


@case("spacing-differs", "analysed")
def spacing(uid: str) -> Sequence[Object]:
    return [changed(ds, put(PixelSpacing=[k, k])) for k, ds in enumerate(head(uid), 1)]


@case("numbers-reversed", "analysed")
def backwards(uid: str) -> Sequence[Object]:
    return [changed(ds, put(InstanceNumber=9 - k)) for k, ds in enumerate(head(uid))]


@case("all-in-one-place", "analysed")
def one_place(uid: str) -> Sequence[Object]:
    return [at(ds, 0, 0, 0) for ds in head(uid)]


@case("single-slice", "analysed")
def single(uid: str) -> Sequence[Object]:
    return head(uid, 1)


@case("single-coronal-slice", "analysed")
def coronal(uid: str) -> Sequence[Object]:
    return [at(head(uid, 1)[0], 0, 0, 0, orientation=CORONAL)]


@case("one-pixel", "declined", ALIKE)
def one_pixel(uid: str) -> Sequence[Object]:
    ds = head(uid, 1)[0]
    pixels(ds, np.ones((1, 1), np.uint16))
    return [ds]


@case("wide-strip", "analysed")
def strip(uid: str) -> Sequence[Object]:
    made = head(uid)
    for ds in made:
        pixels(ds, np.tile(picture(1)[16:18], (1, 20)))
    return made


def _same(name: str, **attributes: Any) -> None:
    each(name, "analysed", change=put(**attributes))


_same("orientation-zero", ImageOrientationPatient=[0, 0, 0, 0, 0, 0])
_same("orientation-parallel", ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
_same("orientation-skewed", ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0])
_same("orientation-too-long", ImageOrientationPatient=[2, 0, 0, 0, 2, 0])
_same("orientation-rounded", ImageOrientationPatient=[0.99, 0, 0, 0, 0.99, 0])
_same("left-handed", ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])
_same("upside-down", ImageOrientationPatient=[1, 0, 0, 0, -1, 0])
_same("without-position-and-orientation", ImagePositionPatient=None, ImageOrientationPatient=None)
_same("numbers-equal", InstanceNumber=1)
_same("numbers-equal-without-positions", InstanceNumber=1, ImagePositionPatient=None)
_same("thick-slices", SliceThickness="60")
_same("spacing-between-negative", SpacingBetweenSlices="-5")
_same("pixels-uneven", PixelSpacing=[0.2, 4])
each("pixels-too-coarse", "declined", "pixels of 10.0 mm", change=put(PixelSpacing=[0.1, 10]))
_same("head-as-small-as-a-fly", PixelSpacing=[0.001, 0.001])
one("one-slice-far-away", "analysed", change=put(ImagePositionPatient=[0, 0, 1e6]))
one("one-slice-without-orientation", "analysed", change=put(ImageOrientationPatient=None))
one("one-slice-turned-by-a-hair", "analysed", change=put(ImageOrientationPatient=[1, 0, 0.001, 0, 1, 0.001]))


# --- Enhanced multi-frame (PS3.3 A.36, C.7.6.16) --------------------------------------------------------------------------


def enhanced(uid: str, frames: int = 4) -> FileDataset:
    """A T1 head as one Enhanced MR object."""
    from scripts.phantom.enhanced import to_enhanced

    made = head(uid, frames)
    for ds in made:
        ds.AcquisitionDate, ds.AcquisitionTime, ds.FlipAngle, ds.NumberOfAverages = "20260105", "090000", "90", "1"
        ds.SpacingBetweenSlices, ds.WindowCenter, ds.WindowWidth = "5", "450", "900"
    meta = made[0].file_meta
    ds = to_enhanced(made, series_uid=f"{uid}.1", sop_instance_uid=f"{uid}.1.1", dimensions_uid=f"{uid}.3")
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    return ds  # type: ignore[return-value]


def _enhanced(name: str, state: Any = "analysed", reason: str = "", **attributes: Any) -> None:
    case(f"enhanced-{name}", state, reason)(lambda uid: [changed(enhanced(uid), put(**attributes))])


def _frames(name: str, change: Any, state: Any = "analysed", reason: str = "") -> None:
    """`change` gets the list of per-frame functional groups."""
    case(f"enhanced-{name}", state, reason)(lambda uid: [changed(enhanced(uid), lambda ds: change(ds.PerFrameFunctionalGroupsSequence))])


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


_enhanced("plain")
_enhanced("without-shared-groups", SharedFunctionalGroupsSequence=None)
_enhanced("without-per-frame-groups", PerFrameFunctionalGroupsSequence=None)
_enhanced("without-any-groups", SharedFunctionalGroupsSequence=None, PerFrameFunctionalGroupsSequence=None)
_enhanced("empty-groups", SharedFunctionalGroupsSequence=[], PerFrameFunctionalGroupsSequence=[])
_enhanced("groups-of-empty-items", SharedFunctionalGroupsSequence=[Dataset()], PerFrameFunctionalGroupsSequence=[Dataset()] * 4)
_enhanced("without-dimension-index", DimensionIndexSequence=None, DimensionOrganizationSequence=None)
_enhanced("dimension-index-nonsense", DimensionIndexSequence=[_item(DimensionIndexPointer=0x7FE00010)])
_enhanced("more-frames-than-sent", "quarantined", "bytes|frames", NumberOfFrames=9)
_enhanced("fewer-frames-than-sent", NumberOfFrames=2)
_enhanced("without-number-of-frames", NumberOfFrames=None)
_frames("short-groups", lambda groups: groups.pop())
_frames("extra-groups", lambda groups: groups.append(groups[0]))
_frames("one-frame-without-position", lambda groups: groups[1].pop("PlanePositionSequence"))
_frames("positions-empty", lambda groups: [setattr(g, "PlanePositionSequence", []) for g in groups])
_frames("all-frames-in-one-place", lambda groups: [setattr(g, "PlanePositionSequence", groups[0].PlanePositionSequence) for g in groups])
for _name, _values in (("short", [1]), ("huge", [2**32 - 1] * 2)):
    _frames(
        f"dimension-values-{_name}",
        lambda groups, v=_values: [setattr(g.FrameContentSequence[0], "DimensionIndexValues", v) for g in groups],
    )
_frames(
    "slope-not-a-number",
    lambda groups: [
        setattr(g, "PixelValueTransformationSequence", [_item(RescaleSlope="1e40", RescaleIntercept="0", RescaleType="US")]) for g in groups
    ],
)


@case("enhanced-two-orientations", "analysed")
def enhanced_two(uid: str) -> Sequence[Object]:
    ds = enhanced(uid, 5)
    for group in ds.PerFrameFunctionalGroupsSequence[3:]:
        group.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(CORONAL))]
    return [ds]


@case("enhanced-three-planes-without-saying-localizer", "declined", "localizer \\(slices in three planes\\)")
def enhanced_three(uid: str) -> Sequence[Object]:
    ds = enhanced(uid, 3)
    for group, orientation in zip(ds.PerFrameFunctionalGroupsSequence, (AXIAL, CORONAL, SAGITTAL), strict=True):
        group.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(orientation))]
    return [ds]


@case("enhanced-and-classic-in-one-series", "analysed")
def enhanced_and_classic(uid: str) -> Sequence[Object]:
    return [enhanced(uid), *(changed(ds, put(SOPInstanceUID=f"{uid}.5.{k}")) for k, ds in enumerate(head(uid)))]
