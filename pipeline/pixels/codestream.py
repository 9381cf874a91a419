"""codestream: compressed pixel data -> one codestream for each frame, and what it claims of itself, before anything is decoded."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

from pipeline.pixels.limits import Unreadable
from pipeline.syntaxes import ENCAPSULATED, JPEG_2000, RLE

_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_MOST_FRAGMENTS = 2**18  # of one object; more is no picture but a way to keep a reader busy
_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00\x00\x0cjP")  # JPEG and JPEG-LS, JPEG 2000, JP2
_RLE_RATIO = 64  # two bytes become 128 at most (PS3.5 G.3.1)


class Fragment(NamedTuple):
    start: int  # bytes from the start of the file
    length: int


class Claim(NamedTuple):
    """What a codestream says of its picture."""

    rows: int
    columns: int
    components: int
    bits: int  # of a sample


def codestreams(data: memoryview, start: int, frames: int, offsets: tuple[int, ...] = ()) -> list[list[Fragment]]:
    """The fragments of each frame of the encapsulated pixel data at `start` (PS3.5 A.4). Raises Unreadable.

    Offset tables are asked only where a frame may have several fragments; a table that does not fit is not believed.
    """
    table, fragments = _fragments(data, start)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    if frames == 1 and fragments:
        return [fragments]
    if len(fragments) < frames:
        raise Unreadable(f"its pixel data hold {len(fragments)} compressed frames where {frames} belong: sent incompletely; send it again")
    for starts in (_at(offsets, fragments), _at(table, fragments), _beginnings(data, fragments)):
        if len(starts) == frames and starts[0] == 0:
            ends = [*starts[1:], len(fragments)]
            return [fragments[a:b] for a, b in zip(starts, ends, strict=True)]
    raise Unreadable(f"its {len(fragments)} pieces of compressed pixel data cannot be told apart as {frames} frames; send it uncompressed")


def _fragments(data: memoryview, start: int) -> tuple[tuple[int, ...], list[Fragment]]:
    """Basic Offset Table, and the fragments after it. What is cut short is left out."""
    found: list[Fragment] = []
    while start + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, start)
        tag = group << 16 | element
        if tag != _ITEM:
            if tag != _END:
                raise Unreadable("its compressed pixel data are damaged (no item where one should begin); send it again")
            break
        if start + 8 + length > len(data):
            break
        found.append(Fragment(start + 8, length))
        if len(found) > _MOST_FRAGMENTS:
            raise Unreadable(f"its compressed pixel data come in more than {_MOST_FRAGMENTS} pieces; send it uncompressed")
        start += 8 + length
    if not found:
        raise Unreadable("its compressed pixel data are missing: sent incompletely; send it again")
    table = found[0]
    return struct.unpack_from(f"<{table.length // 4}L", data, table.start), [f for f in found[1:] if f.length]


def _at(offsets: tuple[int, ...], fragments: list[Fragment]) -> list[int]:
    """Which fragments begin a frame, by an offset table; nothing where it points beside them."""
    places = {fragment.start - fragments[0].start: k for k, fragment in enumerate(fragments)}
    found = [places.get(offset, -1) for offset in offsets]
    return found if all(a < b for a, b in pairwise([-1, *found])) else []


def _beginnings(data: memoryview, fragments: list[Fragment]) -> list[int]:
    """Which fragments begin a frame, by their first bytes."""
    return [k for k, fragment in enumerate(fragments) if bytes(data[fragment.start : fragment.start + 6]).startswith(_STARTS)]


def check(codestream: bytes, syntax: str, rows: int, columns: int, allocated: int) -> int:
    """Bits of a sample, by the codestream. Raises Unreadable where it claims another picture than the header: nobody decodes that."""
    if syntax == ENCAPSULATED:
        return _check_size(codestream, rows * columns * allocated // 8, allocated)
    if syntax == RLE:
        return _check_rle(codestream, rows * columns, allocated)
    claim = _jpeg_2000(codestream) if syntax in JPEG_2000 else _jpeg(codestream)
    if claim is None:
        kind = "JPEG 2000" if syntax in JPEG_2000 else "JPEG"
        raise Unreadable(f"its compressed pixel data are damaged, or no {kind} though its transfer syntax says so; send it again")
    if (claim.rows, claim.columns) != (rows, columns):
        says = f"its compressed picture is {claim.rows} x {claim.columns} pixels"
        raise Unreadable(f"{says} and its header says {rows} x {columns}; correct it at the source and send it again")
    if claim.components != 1:
        raise Unreadable("its compressed picture is in colour though its header says greyscale; correct it at the source and send it again")
    if not 1 <= claim.bits <= 32:
        raise Unreadable(f"its compressed picture claims {claim.bits} bits for a pixel; send it uncompressed")
    return claim.bits


def _check_size(codestream: bytes, need: int, allocated: int) -> int:
    if len(codestream) < need:
        raise Unreadable(f"a frame of its pixel data holds {len(codestream)} bytes where {need} belong: sent incompletely; send it again")
    return allocated


def _check_rle(codestream: bytes, pixels: int, allocated: int) -> int:
    """One segment for each byte of a sample (PS3.5 G.2), none smaller than its pixels can be packed."""
    segments, *starts = struct.unpack_from("<16L", codestream) if len(codestream) >= 64 else (0,)
    bounds = [*starts[:segments], len(codestream)] if segments <= 15 else []
    if segments != allocated // 8 or any(b < a for a, b in pairwise([64, *bounds])):
        raise Unreadable("its RLE pixel data are damaged (their segments do not fit the header); send it again")
    if any((b - a) * _RLE_RATIO < pixels for a, b in pairwise(bounds)):
        raise Unreadable(f"its RLE pixel data are too short for {pixels} pixels: sent incompletely; send it again")
    return allocated


def _jpeg(codestream: bytes) -> Claim | None:
    """The frame header (SOF) of JPEG (T.81 B.2.2) or JPEG-LS (T.87 C.2.2)."""
    at = 2
    while at + 4 <= len(codestream) and codestream[at] == 0xFF:
        marker = codestream[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if at + 10 > len(codestream):
                return None
            bits, rows, columns, components = struct.unpack_from(">BHHB", codestream, at + 4)
            return Claim(rows, columns, components, bits)
        at += 2 + struct.unpack_from(">H", codestream, at + 2)[0]
    return None


def _jpeg_2000(codestream: bytes) -> Claim | None:
    """The SIZ marker segment, always the first (T.800 A.5.1), also inside of a JP2 file."""
    at = codestream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + 44 > len(codestream):
        return None
    x_size, y_size, x_start, y_start = struct.unpack_from(">4L", codestream, at + 8)
    components, bits, *_steps = struct.unpack_from(">HBBB", codestream, at + 40) if at + 45 <= len(codestream) else (0, 0)
    return Claim(y_size - y_start, x_size - x_start, components, (bits & 0x7F) + 1)
