"""skim: a few attributes of a data set, cut out of it as bytes, however much else it holds and however deep that lies.

    stream | header of each element: wanted? take its value : jump over it | a small data set for pydicom to read

Nothing that is not wanted is ever in memory, a length that a header claims is never allocated, and nesting is counted, not recursed
into. So time and memory have bounds that do not depend on who wrote the file (PS3.5 7.1: elements; 7.5: sequences).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from io import BytesIO
from struct import Struct
from typing import BinaryIO, NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pipeline.part10 import PIXELS, Encoding

ELEMENTS = 2_000_000  # jumped over in one data set, some 2 s; 5000 frames of an enhanced object have 750 000
VALUE = 1 << 16  # bytes of a value; a longer one is none
ITEM = 1 << 20  # bytes of the item of a sequence that is taken whole, and of the parts of the others
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)


class Endless(ValueError):
    """More before the pixels than any object of ours needs."""


class _Element(NamedTuple):
    tag: int
    vr: bytes  # empty where it is implicit
    length: int
    head: bytes


class Skimmer:
    """Goes over one stream once, from where it stands."""

    def __init__(self, stream: BinaryIO, encoding: Encoding) -> None:
        self._stream, self._left = stream, ELEMENTS
        order = "<" if encoding.little else ">"
        self._plain, self._short, self._length = Struct(f"{order}HHL"), Struct(f"{order}HH2sH"), Struct(f"{order}L")
        self.encoding = Encoding(self._implicit(encoding.implicit), encoding.little)

    def meta(self) -> dict[int, bytes]:
        """Values of group 2; leaves the stream at the first element of another group."""
        values: dict[int, bytes] = {}
        while (element := self._next(self.encoding.implicit)) and element.tag >> 16 == 2:
            if value := self._value(element):
                values[element.tag] = value
        if element:
            self._stream.seek(-len(element.head), 1)
        return values

    def cut(self, wanted: Collection[int], each: Collection[int] = ()) -> tuple[BinaryIO, bool]:
        """A data set of the `wanted` elements that come before the pixels; and do pixels follow?

        Of a sequence it has the first item, and of the other items what `each` names. Raises Endless.
        """
        kept: dict[int, bytes] = {}
        while element := self._next(self.encoding.implicit):
            if element.tag in PIXELS:
                return BytesIO(b"".join(kept.values())), element.length > 0
            taken = self._taken(element, each) if element.tag in wanted else self._skip(element)
            if taken:
                kept[element.tag] = taken
        return BytesIO(b"".join(kept.values())), False

    def pixels(self) -> int:
        """How many bytes of pixels follow; leaves the stream at the first of them. Raises Endless."""
        while element := self._next(self.encoding.implicit):
            if element.tag in PIXELS:
                return element.length
            self._skip(element)
        return 0

    def _implicit(self, assumed: bool) -> bool:
        """What the first element shows, whatever the transfer syntax says: some writers take another than they name."""
        start = self._stream.read(6)
        self._stream.seek(-len(start), 1)
        return not _is_vr(start[4:]) if len(start) == 6 else assumed

    def _next(self, implicit: bool) -> _Element | None:
        """The header of the next element, or None at the end. A stray element in implicit VR is taken as such."""
        self._left -= 1
        if self._left < 0:
            raise Endless(f"more than {ELEMENTS} data elements lie before its pixels")
        head = self._stream.read(8)
        if len(head) < 8:
            return None
        group, number, length = self._plain.unpack(head)
        tag, vr = group << 16 | number, head[4:6]
        if implicit or group == 0xFFFE or not _is_vr(vr):  # an item and a delimiter have none (PS3.5 7.5)
            return _Element(tag, b"", length, head)
        if vr not in _LONG:
            return _Element(tag, vr, self._short.unpack(head)[3], head)
        more = self._stream.read(4)
        return _Element(tag, vr, self._length.unpack(more)[0], head + more) if len(more) == 4 else None

    def _taken(self, element: _Element, each: Collection[int] = ()) -> bytes:
        """`element` as bytes; empty where it is too long."""
        if element.length == _UNDEFINED or element.vr == b"SQ" or (element.vr in (b"", b"UN") and _is_sequence(element.tag)):
            return self._sequence(element, each)
        value = self._value(element)
        return element.head + value if value is not None else b""

    def _value(self, element: _Element) -> bytes | None:
        """What is there of its value; None where that is too long, and is jumped over."""
        if element.length <= VALUE:
            return self._stream.read(element.length)
        self._skip(element)
        return None

    def _sequence(self, element: _Element, each: Collection[int]) -> bytes:
        """The first item whole, of the others what `each` names. Its length is defined, so it is read only where somebody asks for it."""
        inside, at = self._inside(element), self._stream.tell()
        end = math.inf if element.length == _UNDEFINED else at + element.length
        items, first, item = bytearray(), True, None
        while at < end and (item := self._next(implicit=True)) and item.tag == _ITEM:
            items += self._whole(item, inside, at) if first else self._part(item, inside, each if len(items) < 2 * ITEM else ())
            first, at = False, self._stream.tell()
        if end < math.inf:
            self._stream.seek(int(end))
        elif item and item.tag != _SEQUENCE_END:
            self._stream.seek(at)
            self._close([inside])
        vr = b"SQ\0\0" if element.vr else b""
        return element.head[:4] + vr + self._length.pack(len(items)) + items

    def _whole(self, item: _Element, implicit: bool, start: int) -> bytes:
        """The bytes of an item that begins at `start`; none where they are too many."""
        self._skip(item, implicit)
        end = self._stream.tell()
        if end - start > ITEM:
            return b""
        self._stream.seek(start)
        return self._stream.read(end - start)

    def _part(self, item: _Element, implicit: bool, each: Collection[int]) -> bytes:
        """An item of only the elements that `each` names; none where it has none of them."""
        if not each:
            return self._skip(item, implicit)
        kept, at = b"", self._stream.tell()
        end = math.inf if item.length == _UNDEFINED else at + item.length
        while at < end and (element := self._next(implicit)) and element.tag != _ITEM_END:
            kept += self._taken(element) if element.tag in each else self._skip(element)
            at = self._stream.tell()
        if end < math.inf:
            self._stream.seek(int(end))
        return self._plain.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(kept)) + kept if kept else b""

    def _inside(self, element: _Element) -> bool:
        """Is what lies in `element` implicit? In UN of undefined length it always is (PS3.5 6.2.2)."""
        return self.encoding.implicit or (element.vr == b"UN" and element.length == _UNDEFINED)

    def _skip(self, element: _Element, implicit: bool | None = None) -> bytes:
        """Leaves the stream after the value of `element`."""
        if element.length != _UNDEFINED:
            self._stream.seek(element.length, 1)
        else:
            self._close([self._inside(element) if implicit is None else implicit])
        return b""

    def _close(self, around: list[bool]) -> None:
        """Leaves the stream where what is open `around` it ends: for each sequence and item, is its inside implicit?"""
        while around and (inner := self._next(around[-1])):
            if inner.tag in (_ITEM_END, _SEQUENCE_END):
                around.pop()
            elif inner.length == _UNDEFINED:
                around.append(around[-1] or inner.vr == b"UN")
            else:
                self._stream.seek(inner.length, 1)


def _is_sequence(tag: int) -> bool:
    return bool(dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ")


def _is_vr(letters: bytes) -> bool:
    return b"A" <= letters[:1] <= b"Z" and b"A" <= letters[1:2] <= b"Z"
