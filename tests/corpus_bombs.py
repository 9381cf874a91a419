"""Claims of more than there is, and files that are none. What they claim must cost nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from corpus import Object, case, changed, each, encoded, head, put, raw
from corpus_geometry import enhanced
from corpus_syntaxes import Bytes, compressed, labelled, relabelled
from objects import pixels
from pydicom import uid
from pydicom.encaps import generate_frames
from pydicom.tag import Tag

_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
TOO_MUCH = "more than the .* of one series"
each("bomb-frames", "quarantined", TOO_MUCH, change=put(NumberOfFrames="2147483647"))
each("bomb-frames-beyond-32-bit", "quarantined", TOO_MUCH, change=raw("NumberOfFrames", b"99999999999"))
each("bomb-65535x65535", "quarantined", TOO_MUCH, change=put(Rows=65535, Columns=65535))
each("bomb-samples", "declined", "greyscale", change=put(SamplesPerPixel=65535))
each("bomb-rle-frames", "quarantined", TOO_MUCH, change=lambda ds: put(NumberOfFrames="2147483647")(compressed(ds, uid.RLELossless)))
each("bomb-rle-65535x65535", "quarantined", TOO_MUCH, change=lambda ds: put(Rows=65535, Columns=65535)(compressed(ds, uid.RLELossless)))
case("bomb-enhanced-frames", "quarantined", TOO_MUCH)(lambda study_uid: [changed(enhanced(study_uid), put(NumberOfFrames="2147483647"))])


@case("bomb-j2k-blank", "quarantined", TOO_MUCH)
def blank(study_uid: str) -> Sequence[Object]:
    """An honest 1 x 20000 x 20000 codestream of one colour, copied into a claim of 500 frames: 800 MB a frame, 400 GB in all."""
    (ds,) = head(study_uid, 1)
    pixels(ds, np.zeros((64, 64), np.uint16))
    code = next(generate_frames(compressed(ds).PixelData, number_of_frames=1))
    size = code.index(b"\xff\x51") + 6
    code = code[:size] + struct.pack(">II", 20000, 20000) + code[size + 8 :]
    ds.Rows = ds.Columns = 20000
    ds.NumberOfFrames = 500
    return [labelled(ds, uid.JPEG2000Lossless, [code] * 500)]


def deflated(data: bytes, deflate: Bytes) -> bytes:
    """The data set behind the file meta information through `deflate`, labelled as deflated."""
    length = struct.unpack("<I", data[140:144])[0]
    made = relabelled(data[: 144 + length], uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
    return made + deflate(data[144 + length :])


def _deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


@case("bomb-deflated-1000-to-1", "skipped", "deflated")
def deflated_bomb(study_uid: str) -> Sequence[Object]:
    """A private element of 300 MB of nothing before the pixels, 300 kB on the wire."""
    (ds,) = head(study_uid, 1)
    data = encoded(ds)
    length = 300_000_000
    element = struct.pack("<HH2sHI", 0x0019, 0x1001, b"OB", 0, length)
    cut = data.index(struct.pack("<HH", 0x0020, 0x000D))
    assert Tag(0x0019, 0x1001) < Tag(0x0020, 0x000D)
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    start = 144 + struct.unpack("<I", data[140:144])[0]
    body = engine.compress(data[start:cut] + element)
    body += b"".join(engine.compress(b"\0" * 1_000_000) for _ in range(length // 1_000_000))
    body += engine.compress(data[cut:]) + engine.flush()
    return [deflated(data, lambda _: body)]


case("deflated-garbage", "skipped", "")(lambda study_uid: [deflated(encoded(ds), lambda _: b"\xff\xfe" * 300) for ds in head(study_uid)])
case("deflated-cut", "quarantined", "bytes")(
    lambda study_uid: [deflated(encoded(ds), lambda d: _deflate(d)[:-40]) for ds in head(study_uid)]
)
case("deflated-with-zlib-header", "skipped", "deflated")(lambda study_uid: [deflated(encoded(ds), zlib.compress) for ds in head(study_uid)])
case("says-deflated-is-not", "skipped", "")(lambda study_uid: [deflated(encoded(ds), bytes) for ds in head(study_uid)])


def _claims(name: str, tag: tuple[int, int], vr: bytes, length: int, state: Any, reason: str = "") -> None:
    """An element before the pixels that claims `length` bytes which are not there."""

    def build(study_uid: str) -> Sequence[Object]:
        made = []
        for data in map(encoded, head(study_uid)):
            cut = data.index(struct.pack("<HH", 0x0020, 0x000D))
            made.append(data[:cut] + struct.pack("<HH2sHI", *tag, vr, 0, length) + data[cut:])
        return made

    case(name, state, reason)(build)


_claims("private-element-claims-100-mb", (0x0019, 0x1001), b"OB", 100_000_000, "skipped")
_claims("private-element-claims-4-gib", (0x0019, 0x1001), b"UN", 0xFFFFFFFE, "skipped")
_claims("sequence-claims-100-mb", (0x0019, 0x1001), b"SQ", 100_000_000, "skipped")
_claims("sequence-without-end", (0x0019, 0x1001), b"SQ", 0xFFFFFFFF, "skipped")


def _nested(name: str, depth: int, state: Any, reason: str) -> None:
    """Sequences in sequences, each of undefined length, before the pixels."""
    opening = struct.pack("<HH2sHI", 0x0019, 0x1001, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + _DELIMITER

    def build(study_uid: str) -> Sequence[Object]:
        made = []
        for data in map(encoded, head(study_uid)):
            cut = data.index(struct.pack("<HH", 0x0020, 0x000D))
            made.append(data[:cut] + opening * depth + closing * depth + data[cut:])
        return made

    case(name, state, reason)(build)


_nested("nested-10-deep", 10, "analysed", "")
_nested("nested-10000-deep", 10_000, "quarantined", "nested")


@case("empty-file", "skipped")
def empty(study_uid: str) -> Sequence[Object]:
    return [b""]


@case("text-file", "skipped")
def text(study_uid: str) -> Sequence[Object]:
    return [b"Dear colleague,\n" * 40]


@case("preamble-only", "skipped")
def preamble(study_uid: str) -> Sequence[Object]:
    return [b"\0" * 128 + b"DICM"]


@case("zeros", "skipped")
def zeros(study_uid: str) -> Sequence[Object]:
    return [b"\0" * 5000]


@case("cut-in-the-header", "skipped")
def cut_header(study_uid: str) -> Sequence[Object]:
    return [encoded(ds)[:700] for ds in head(study_uid)]


@case("cut-in-the-pixels", "quarantined", "bytes")
def cut_pixels(study_uid: str) -> Sequence[Object]:
    return [encoded(ds)[:-500] for ds in head(study_uid)]


@case("trailing-garbage", "analysed")
def trailing(study_uid: str) -> Sequence[Object]:
    return [encoded(ds) + b"\0\0\0\0garbage!" for ds in head(study_uid)]


@case("trailing-padding", "analysed")
def padding(study_uid: str) -> Sequence[Object]:
    """Data Set Trailing Padding (PS3.10 7.2)."""
    return [encoded(ds) + b"\xfc\xff\xfc\xffOB\0\0\x08\0\0\0" + b"\0" * 8 for ds in head(study_uid)]


@case("without-preamble", "skipped")
def no_preamble(study_uid: str) -> Sequence[Object]:
    return [encoded(ds)[132:] for ds in head(study_uid)]
