"""Pixels: what is stored, how, and what stands for which grey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from corpus import SIZE, Object, State, case, changed, each, head, one, picture, put, raw
from corpus_geometry import ALIKE
from pydicom import Dataset
from pydicom.dataset import FileDataset

Values = np.ndarray[Any, Any]


def stored(ds: FileDataset, values: Values, **attributes: Any) -> FileDataset:
    """`values` as they are in memory; BitsStored and the like by `attributes`."""
    bits = values.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, int(values.dtype.kind == "i")
    data = values.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    put(**attributes)(ds)
    return ds


def kind(name: str, state: State, reason: str, make: Callable[[Values], Values], **attributes: Any) -> None:
    """A head whose pictures went through `make`."""
    case(name, state, reason)(lambda uid: [stored(ds, make(picture(k)), **attributes) for k, ds in enumerate(head(uid))])


kind("8-bit", "analysed", "", lambda p: (p // 4).astype(np.uint8))
kind("8-bit-odd-length", "analysed", "", lambda p: (p[:31, :31] // 4).astype(np.uint8), Rows=31, Columns=31)
kind("10-bit", "analysed", "", lambda p: p, BitsStored=10, HighBit=9)
kind("12-bit", "analysed", "", lambda p: p, BitsStored=12, HighBit=11)
kind("signed-16-bit", "analysed", "", lambda p: p.astype(np.int16) - 500)
kind("32-bit", "analysed", "", lambda p: p.astype(np.uint32) * 1000)
kind("64-bit", "quarantined", "BitsAllocated", lambda p: p.astype(np.uint64))
kind("high-bit-above", "analysed", "", lambda p: p << 4, BitsStored=12, HighBit=15)
kind("overlay-in-high-bits", "analysed", "", lambda p: p | 0x8000, BitsStored=12, HighBit=11)
kind("values-beyond-bits-stored", "analysed", "", lambda p: p, BitsStored=8, HighBit=7)
kind("negative-offset", "analysed", "", lambda p: p.astype(np.int16) - 1024, RescaleSlope="1", RescaleIntercept="-1024")
kind("all-zero", "declined", ALIKE, lambda p: p * 0)
kind("constant", "declined", ALIKE, lambda p: p * 0 + 77)
kind("saturated", "declined", ALIKE, lambda p: p * 0 + 65535)
kind("noise-only", "analysed", "", lambda p: np.random.default_rng(1).integers(0, 20, p.shape, np.uint16))
kind("one-bright-pixel", "analysed", "", lambda p: np.where(np.arange(p.size).reshape(p.shape) == 500, 65535, p).astype(np.uint16))
kind("monochrome1", "analysed", "", lambda p: 900 - p, PhotometricInterpretation="MONOCHROME1")
kind("padding-value", "analysed", "", lambda p: np.where(p == 0, 63536, p).astype(np.uint16), PixelPaddingValue=63536)
kind("everything-is-padding", "quarantined", "padding", lambda p: p, PixelPaddingValue=0xFFFF, PixelPaddingRangeLimit=0)
kind("slope-2", "analysed", "", lambda p: p, RescaleSlope="2", RescaleIntercept="-10")

kind("rgb", "declined", "greyscale", lambda p: np.stack([p // 4] * 3, -1).astype(np.uint8), SamplesPerPixel=3,
     PlanarConfiguration=0, PhotometricInterpretation="RGB")  # fmt: skip
kind("ybr-full-422", "declined", "greyscale", lambda p: np.stack([p // 4] * 2, -1).astype(np.uint8), SamplesPerPixel=3,
     PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL_422")  # fmt: skip
kind("palette", "declined", "greyscale", lambda p: (p // 4).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
kind("rgb-that-says-monochrome", "declined", "greyscale", lambda p: np.stack([p // 4] * 3, -1).astype(np.uint8), SamplesPerPixel=3)
kind("monochrome-that-says-rgb", "declined", "greyscale", lambda p: p, PhotometricInterpretation="RGB")

each("slope-zero", "analysed", change=raw("RescaleSlope", b"0"))
each("slope-nan", "analysed", change=raw("RescaleSlope", b"nan"))
each("slope-infinite", "analysed", change=raw("RescaleSlope", b"inf"))
each("slope-huge", "analysed", change=raw("RescaleSlope", b"1e30"))
each("slope-beyond-float", "analysed", change=raw("RescaleSlope", b"1e300"))
each("slope-negative", "analysed", change=raw("RescaleSlope", b"-1"))
each("slope-letters", "analysed", change=raw("RescaleSlope", b"one"))
each("intercept-without-slope", "analysed", change=put(RescaleIntercept="-1024"))
each("slope-without-intercept", "analysed", change=put(RescaleSlope="2"))
each("window-nonsense", "analysed", change=put(WindowCenter="0", WindowWidth="0"))
each("empty-pixels", "declined", "no pixel data", change=put(PixelData=b""))
each("pixels-one-byte-short", "quarantined", "bytes", change=lambda ds: put(PixelData=ds.PixelData[:-2])(ds))
each("pixels-too-long", "analysed", change=lambda ds: put(PixelData=ds.PixelData + b"\0" * 64)(ds))
each("pixels-twice-as-long", "analysed", change=lambda ds: put(PixelData=ds.PixelData * 2)(ds))
each("1-bit", "quarantined", "BitsAllocated", change=lambda ds: put(BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\xaa" * 128)(ds))
one("one-slice-torn", "quarantined", "bytes", change=put(PixelData=b"\0" * 10))
one("one-slice-8-bit", "analysed", change=lambda ds: stored(ds, (picture(1) // 4).astype(np.uint8)))
one("one-slice-colour", "analysed", change=lambda ds: stored(ds, np.zeros((SIZE, SIZE, 3), np.uint8), SamplesPerPixel=3,
    PlanarConfiguration=0, PhotometricInterpretation="RGB"))  # fmt: skip
one("one-slice-monochrome1", "analysed", change=lambda ds: stored(ds, 900 - picture(1), PhotometricInterpretation="MONOCHROME1"))
one("one-slice-slope", "analysed", change=put(RescaleSlope="3", RescaleIntercept="7"))


def _float(name: str, state: State, reason: str, keyword: str, make: Callable[[Values], Values], **attributes: Any) -> None:
    """Float Pixel Data and Double Float Pixel Data (PS3.3 C.7.6.24, C.7.6.25)."""

    def change(ds: FileDataset, values: Values) -> FileDataset:
        for absent in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            ds.pop(absent, None)
        ds.BitsAllocated = values.dtype.itemsize * 8
        setattr(ds, keyword, values.tobytes())
        put(**attributes)(ds)
        return ds

    case(name, state, reason)(lambda uid: [change(ds, make(picture(k))) for k, ds in enumerate(head(uid))])


_float("float-pixels", "analysed", "", "FloatPixelData", lambda p: p.astype(np.float32) / 7)
_float("double-pixels", "analysed", "", "DoubleFloatPixelData", lambda p: p.astype(np.float64) / 7)
_float("float-nan", "analysed", "", "FloatPixelData", lambda p: np.where(p == 0, np.nan, p).astype(np.float32))
_float("float-all-nan", "quarantined", "number", "FloatPixelData", lambda p: np.full(p.shape, np.nan, np.float32))
_float("float-infinite", "analysed", "", "FloatPixelData", lambda p: np.where(p > 500, np.inf, p).astype(np.float32))
_float("double-beyond-float", "quarantined", "numbers beyond", "DoubleFloatPixelData", lambda p: p.astype(np.float64) * 1e300)
_float("float-torn", "quarantined", "bytes", "FloatPixelData", lambda p: p[:4].astype(np.float32))


def _table(**attributes: Any) -> Callable[[Any], None]:
    """A Modality LUT Sequence of one item (PS3.3 C.11.1)."""

    def change(ds: Dataset) -> None:
        item = Dataset()
        item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [1024, 0, 16], list(range(1024)), "US"
        put(**attributes)(item)
        for element in item:
            element.VR = "LO" if element.keyword == "ModalityLUTType" else "US"
        ds.ModalityLUTSequence = [item]

    return change


each("modality-lut", "analysed", change=_table())
each("modality-lut-short", "quarantined", "LUT|table", change=_table(LUTData=[1, 2, 3]))
each("modality-lut-without-data", "analysed", change=_table(LUTData=None))
each("modality-lut-empty", "analysed", change=put(ModalityLUTSequence=[]))


@case("overlay-plane", "analysed")
def overlay(uid: str) -> Sequence[Object]:
    def change(ds: Dataset) -> None:
        ds.add_new(0x60000010, "US", SIZE)
        ds.add_new(0x60000011, "US", SIZE)
        ds.add_new(0x60000040, "CS", "G")
        ds.add_new(0x60000050, "SS", [1, 1])
        ds.add_new(0x60000100, "US", 1)
        ds.add_new(0x60000102, "US", 0)
        ds.add_new(0x60003000, "OW", b"\xff" * (SIZE * SIZE // 8))

    return [changed(ds, change) for ds in head(uid)]


@case("both-pixel-data-and-float", "analysed")
def both(uid: str) -> Sequence[Object]:
    return [changed(ds, put(FloatPixelData=picture(1).astype(np.float32).tobytes())) for ds in head(uid)]


@case("icon-and-pixels", "analysed")
def icon(uid: str) -> Sequence[Object]:
    """A tiny picture nested before the real one must not be taken for it."""

    def change(ds: Dataset) -> None:
        item = Dataset()
        item.Rows = item.Columns = 4
        item.SamplesPerPixel, item.PhotometricInterpretation, item.BitsAllocated, item.BitsStored = 1, "MONOCHROME2", 8, 8
        item.HighBit, item.PixelRepresentation, item.PixelData = 7, 0, b"\1" * 16
        ds.IconImageSequence = [item]

    return [changed(ds, change) for ds in head(uid)]
