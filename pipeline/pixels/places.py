"""places: a data set -> one Plane for each of its frames: how it lies in the patient, and what tells it from others in the same place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from pydicom import Dataset

from pipeline.attributes import capitals, integer, item, items, number, numbers, value
from pipeline.pixels.stack import Plane
from pipeline.records import Instance, Orientation, Source, Vector
from pipeline.sop_classes import OF_ONE_FRAME

READ = (
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence", "InstanceNumber", "SliceLocation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImageType", "AcquisitionNumber", "EchoTime"),
    *("TemporalPositionIdentifier", "DiffusionBValue"),
)
"""Keywords of the attributes that are asked for here."""

Group = Callable[[str], Dataset | None]
"""From the keyword of a functional group's sequence to its item for one frame; None where the object has none."""

_WHERE = (0x00200032, 0x00209056, 0x00209057, 0x00201041)  # position, stack, place in the stack, location: dimensions that say where


def functional_groups(ds: Dataset, frames: int) -> list[Group]:
    """For each frame where to look: its own functional groups, then the shared ones (PS3.3 C.7.6.16)."""
    own = items(ds, "PerFrameFunctionalGroupsSequence")
    shared = item(ds, "SharedFunctionalGroupsSequence")
    known: dict[str, Dataset | None] = {}

    def common(keyword: str) -> Dataset | None:
        if keyword not in known:
            known[keyword] = item(shared, keyword) if shared else None
        return known[keyword]

    def group(k: int) -> Group:
        return lambda keyword: (item(own[k], keyword) if k < len(own) else None) or common(keyword)

    return [group(k) for k in range(frames)]


def planes(instance: Instance, ds: Dataset, groups: Sequence[Group], shape: tuple[int, int]) -> Iterator[Plane]:
    """The planes of an object, classic or enhanced. What a classic object says of its one slice says nothing of several frames."""
    number_ = integer(ds, "InstanceNumber") or 0
    multi = len(groups) > 1 or (value(ds, "NumberOfFrames") is not None and instance.sop_class_uid not in OF_ONE_FRAME)
    whole = ds if len(groups) == 1 else Dataset()
    other = _other_dimensions(ds)
    for k, group in enumerate(groups):
        content = group("FrameContentSequence") or Dataset()
        spacing = numbers(group("PixelMeasuresSequence") or ds, "PixelSpacing", 2)
        yield Plane(
            source=Source(instance.sop_instance_uid, k + 1 if multi else None),
            number=(number_, k + 1),
            shape=shape,
            spacing=cast("tuple[float, float]", spacing) if spacing and min(spacing) > 0 else None,
            orientation=cast("Orientation | None", numbers(group("PlaneOrientationSequence") or ds, "ImageOrientationPatient", 6)),
            position=cast("Vector | None", numbers(group("PlanePositionSequence") or whole, "ImagePositionPatient", 3)),
            location=number(whole, "SliceLocation"),
            group=capitals(content, "StackID"),
            echo=number(ds, "EchoTime") or number(group("MREchoSequence") or Dataset(), "EffectiveEchoTime") or 0.0,
            kind=_kind(ds) if len(groups) == 1 and not content else _frame_kind(group, content, other),
        )


def _kind(ds: Dataset) -> tuple[object, ...]:
    """What tells classic slices in one place apart."""
    numbers_ = (number(ds, k) for k in ("TemporalPositionIdentifier", "DiffusionBValue", "AcquisitionNumber"))
    return capitals(ds, "ImageType"), *numbers_


def _frame_kind(group: Group, content: Dataset, other: list[int]) -> tuple[object, ...]:
    """The same of frames (PS3.3 C.7.6.16.2.2, C.8.13.5): what is written out, and the dimensions that do not say where."""
    diffusion = group("MRDiffusionSequence")
    frame_type = group("MRImageFrameTypeSequence") or group("CTImageFrameTypeSequence")
    index = value(content, "DimensionIndexValues")
    index = list(index) if hasattr(index, "__iter__") else [index]
    return (
        number(content, "TemporalPositionIndex"),
        number(diffusion, "DiffusionBValue") if diffusion else None,
        capitals(frame_type, "FrameType") if frame_type else "",
        capitals(frame_type, "ComplexImageComponent") if frame_type else "",
        tuple(index[k] for k in other if k < len(index)),
    )


def _other_dimensions(ds: Dataset) -> list[int]:
    """Which of the Dimension Index Values say something else than where a frame lies (PS3.3 C.7.6.17)."""
    pointers = [integer(dimension, "DimensionIndexPointer") for dimension in items(ds, "DimensionIndexSequence")]
    return [k for k, pointer in enumerate(pointers) if pointer not in _WHERE]
