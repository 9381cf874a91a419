"""part10: the way into a file (PS3.10 7.1): past its meta information, into a data set that may be deflated, up to the pixels.

Whoever reads a file - the receiver its headers, decode its layout, report what it inherits - begins here.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, NamedTuple

from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble

from pipeline.syntaxes import BIG_ENDIAN, IMPLICIT

FLOATS = {0x7FE00008: 32, 0x7FE00009: 64}  # Float, Double Float Pixel Data (PS3.3 C.7.6.24, C.7.6.25): bits of a sample
PIXELS = frozenset({*FLOATS, 0x7FE00010})  # and Pixel Data (PS3.3 C.7.6.3)
# What pydicom raises on values that are not what they say they are, and on files.
BROKEN = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, NotImplementedError, struct.error,
          BytesLengthException)  # fmt: skip
UNREADABLE = (*BROKEN, InvalidDicomError, EOFError, OSError, zlib.error)
HEADER = 2**24
"""Bytes of a deflated data set in which everything before its pixels is looked for: 16 MiB hold the functional groups of 5000 frames."""


class Encoding(NamedTuple):
    """Of a data set (PS3.5 A)."""

    implicit: bool
    little: bool


def encoding(transfer_syntax: str) -> Encoding:
    """How the data set of a file is written."""
    return Encoding(implicit=transfer_syntax == IMPLICIT, little=transfer_syntax != BIG_ENDIAN)


def after_meta(stream: BinaryIO) -> int:
    """Leaves `stream` where the data set begins, and says where that is. Raises what pydicom raises on bytes that are no DICOM."""
    read_preamble(stream, False)
    read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    return stream.tell()


def inflated(deflated: bytes | BinaryIO, limit: int) -> bytes:
    """At most the first `limit` bytes of what `deflated` (raw deflate, PS3.5 A.5; from where a stream stands) inflates to.

    One kilobyte can claim a gigabyte: memory is bounded by `limit`, time too. Ends early where the data are cut short.
    Raises zlib.error on bytes that are not deflated.
    """
    source = deflated if isinstance(deflated, bytes) else deflated.read()
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(source, limit) if limit > 0 else b""
