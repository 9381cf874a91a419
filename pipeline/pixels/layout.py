"""layout: a file -> how its pixels lie in it, and in the patient. Reads the header only, and believes it only within limits.

A Dataset is born and dies in this file and its neighbour `places`.
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset

from pipeline.attributes import capitals, integer, item, number, value
from pipeline.part10 import FLOATS, HEADER, PIXELS, after_meta, encoding, inflated
from pipeline.pixels import places
from pipeline.pixels.limits import Limits, NoSlice, Unreadable
from pipeline.pixels.stack import Plane
from pipeline.records import Instance, Pixels
from pipeline.syntaxes import BIG_ENDIAN, DEFLATED, NATIVE, why_not

_UNDEFINED = 0xFFFFFFFF
_LARGEST = float(np.finfo(np.float32).max)
_READ = [
    tag_for_keyword(keyword)
    for keyword in (
        *places.READ, "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
        "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept",
        "ModalityLUTSequence", "ExtendedOffsetTable",
    )
]  # fmt: skip


class Element(NamedTuple):
    """Where the pixel data lie."""

    tag: int
    vr: str | None
    length: int  # of the value as the header says, bytes
    start: int  # of the value, bytes from the start of the file, or of the inflated data set
    held: int  # bytes that there are from `start` on; 0 where they are not inflated yet


@dataclass(frozen=True, slots=True)
class Samples:
    """How a stored word becomes a number (PS3.5 8.1.1)."""

    allocated: int  # bits of a word
    stored: int  # bits of it that are the pixel's; the others may hold an overlay
    high_bit: int
    signed: bool
    floating: bool
    big_endian: bool


class Lut(NamedTuple):
    """A Modality LUT (PS3.3 C.11.1.1)."""

    first: int  # the stored value that is mapped to table[0]
    table: Pixels


@dataclass(frozen=True, slots=True)
class Layout:
    """What must be known of an instance to read its frames; frame k is planes[k] and scales[k]."""

    instance: Instance
    rows: int
    columns: int
    samples: Samples
    pixels: Element
    body: int  # where the data set begins in the file, bytes
    offsets: tuple[int, ...]  # Extended Offset Table
    more_is_darker: bool  # MONOCHROME1 (PS3.3 C.7.6.3.1.2)
    padding: tuple[int, int] | None  # stored values from, to that are no pixels (PS3.3 C.7.5.1.1.2)
    lut: Lut | None
    scales: tuple[tuple[float, float], ...]  # rescale slope, intercept
    planes: tuple[Plane, ...]
    remarks: tuple[str, ...]  # keys of the language

    @property
    def size(self) -> int:
        """Bytes of one frame, uncompressed."""
        return self.rows * self.columns * self.samples.allocated // 8


def read(instance: Instance, limits: Limits) -> Layout:
    """The layout of the instance's file. Raises Unreadable, and what pydicom raises on bytes that are no DICOM."""
    if reason := why_not(instance.transfer_syntax_uid):
        raise Unreadable(f"{reason}; send it in another transfer syntax, Explicit VR Little Endian for one")
    with instance.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        body = after_meta(cast(BinaryIO, mapped))
        deflated = instance.transfer_syntax_uid == DEFLATED
        stream = io.BytesIO(inflated(mapped[body:], HEADER)) if deflated else cast(BinaryIO, mapped)
        ds, pixels = _before_pixels(stream, instance.transfer_syntax_uid)
        held = 0 if deflated else len(mapped) - pixels.start
    return _layout(instance, ds, pixels._replace(held=held), body, limits)


def _before_pixels(stream: BinaryIO, syntax: str) -> tuple[Dataset, Element]:
    """The attributes that are asked for, and the pixel data element. Large values that nobody asks for are passed over unread."""
    found: list[Element] = []

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        if int(tag) in PIXELS:
            found.append(Element(int(tag), vr, length, stream.tell(), 0))
        return bool(found)

    try:
        ds = read_dataset(stream, *encoding(syntax), stop_when=stop, specific_tags=_READ)
    except (ValueError, EOFError, struct.error, NotImplementedError) as error:  # as pydicom says that an element is none
        raise Unreadable("its attributes are damaged or sent incompletely; send it again") from error
    if not found or found[0].length == 0:
        raise NoSlice("it holds no pixel data")
    return ds, found[0]


def _layout(instance: Instance, ds: Dataset, pixels: Element, body: int, limits: Limits) -> Layout:
    rows, columns, frames = (_claimed(ds, keyword) for keyword in ("Rows", "Columns", "NumberOfFrames"))
    limits.check(rows, columns, frames)
    _check_grey(ds)
    samples = _samples(ds, pixels, instance.transfer_syntax_uid)
    longer = _check_length(pixels, instance.transfer_syntax_uid, rows * columns * frames * samples.allocated // 8)
    groups = places.functional_groups(ds, frames)
    scales = [_scale(group, ds) for group in groups]
    if None in scales and instance.headers.modality != "MR":  # elsewhere, as in Hounsfield units, the numbers themselves mean something
        raise Unreadable("its rescale slope or intercept is no usable number (RescaleSlope, RescaleIntercept); correct it at the source")
    return Layout(
        instance=instance,
        rows=rows,
        columns=columns,
        samples=samples,
        pixels=pixels,
        body=body,
        offsets=_offsets(ds),
        more_is_darker=capitals(ds, "PhotometricInterpretation") == "MONOCHROME1",
        padding=None if samples.floating else _padding(ds),
        lut=None if samples.floating else _lut(ds),
        scales=tuple(scale or (1.0, 0.0) for scale in scales),
        planes=tuple(places.planes(instance, ds, groups, (rows, columns))),
        remarks=tuple(_remarks(longer, None in scales)),
    )


def _remarks(longer: bool, unscaled: bool) -> Iterator[str]:
    """Keys of what is said of so many instances."""
    if longer:
        yield "remarks.longer"
    if unscaled:
        yield "remarks.unscaled"


def _claimed(ds: Dataset, keyword: str) -> int:
    count = integer(ds, keyword)
    if keyword == "NumberOfFrames":
        return max(count or 1, 1)
    if count is None or count < 1:
        raise Unreadable(f"its header does not say how large its picture is ({keyword}); send it again from the scanner")
    return count


def _check_grey(ds: Dataset) -> None:
    photometric = capitals(ds, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        raise NoSlice("its colours come from a palette, and only greyscale pictures are read")
    if (integer(ds, "SamplesPerPixel") or 1) != 1 or photometric.startswith(("RGB", "YBR", "ARGB", "CMYK", "HSV", "XYB")):
        raise NoSlice("it is a colour picture, and only greyscale pictures are read")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise NoSlice("its header does not say that it is a greyscale picture (PhotometricInterpretation)")


def _samples(ds: Dataset, pixels: Element, syntax: str) -> Samples:
    big = syntax == BIG_ENDIAN
    if bits := FLOATS.get(pixels.tag):
        return Samples(bits, bits, bits - 1, signed=True, floating=True, big_endian=big)
    allocated = integer(ds, "BitsAllocated") or 0
    if allocated not in (8, 16, 32):
        raise Unreadable(f"its pixels take {allocated} bits each (BitsAllocated), and 8, 16 or 32 can be read")
    stored = integer(ds, "BitsStored") or 0
    stored = stored if 1 <= stored <= allocated else allocated
    high_bit = integer(ds, "HighBit") or 0
    high_bit = high_bit if stored - 1 <= high_bit < allocated else stored - 1
    return Samples(allocated, stored, high_bit, signed=integer(ds, "PixelRepresentation") == 1, floating=False, big_endian=big)


def _check_length(pixels: Element, syntax: str, need: int) -> bool:
    """Whether uncompressed pixel data are longer than need be. Raises Unreadable where they are shorter."""
    native = syntax in NATIVE
    if native != (pixels.length != _UNDEFINED):
        are, say = ("in fragments", "uncompressed") if native else ("in one piece", "compressed")
        raise Unreadable(f"its pixel data are {are} though its transfer syntax says that they are {say}; send it again")
    if not native:
        return False
    held = pixels.length if syntax == DEFLATED else min(pixels.length, pixels.held)
    if held < need:
        raise Unreadable(f"its pixel data hold {held} bytes where {need} belong: sent incompletely; send it again")
    return held > need + 1  # one byte may pad to an even length


def _offsets(ds: Dataset) -> tuple[int, ...]:
    table = value(ds, "ExtendedOffsetTable")
    return tuple(np.frombuffer(table[: len(table) // 8 * 8], "<u8").tolist()) if isinstance(table, bytes) else ()


def _padding(ds: Dataset) -> tuple[int, int] | None:
    low = integer(ds, "PixelPaddingValue")
    if low is None:
        return None
    high = integer(ds, "PixelPaddingRangeLimit")
    return low, low if high is None else high


def _lut(ds: Dataset) -> Lut | None:
    sequence = item(ds, "ModalityLUTSequence")
    descriptor, data = (value(sequence, keyword) for keyword in ("LUTDescriptor", "LUTData")) if sequence else (None, None)
    if descriptor is None or data is None or len(descriptor) != 3:
        return None
    entries, first = int(descriptor[0]) or 2**16, int(descriptor[1])  # 0 stands for 2**16 (PS3.3 C.11.1.1.1)
    if integer(ds, "PixelRepresentation") == 1 and first >= 2**15:
        first -= 2**16
    words = _table(data, entries)
    if len(words) < entries:
        raise Unreadable(f"its modality LUT holds {len(words)} values where {entries} belong; send it again")
    return Lut(first, words[:entries].astype(np.float32))


def _table(data: Any, entries: int) -> NDArray[Any]:
    if isinstance(data, bytes):
        return np.frombuffer(data, "<u2" if len(data) >= 2 * entries else "u1", count=-1 if len(data) < 2 * entries else entries)
    return np.atleast_1d(np.asarray(data))


def _scale(group: places.Group, ds: Dataset) -> tuple[float, float] | None:
    """Slope and intercept of a frame: of its own Pixel Value Transformation (PS3.3 C.7.6.16.2.9), else of the object; None: unusable."""
    said = group("PixelValueTransformationSequence") or ds
    numbers = [1.0, 0.0]
    for k, keyword in enumerate(("RescaleSlope", "RescaleIntercept")):
        if value(said, keyword) in (None, ""):
            continue
        found = number(said, keyword)
        if found is None:
            return None
        numbers[k] = found
    slope, intercept = numbers
    return (slope, intercept) if slope and abs(slope) * 2**32 + abs(intercept) < _LARGEST else None
