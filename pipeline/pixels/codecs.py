"""codecs: one codestream -> its stored words. Each codec is other people's C; this file only knows which reads what. None is GPL.

What a codestream claims of itself has been checked before (`codestream.check`), for codecs allocate what it claims.
"""

from __future__ import annotations

from typing import Any

import gdcm
import jpeg_ls
import numpy as np
import openjpeg
from numpy.typing import NDArray

from pipeline.pixels.limits import Unreadable
from pipeline.syntaxes import ENCAPSULATED, JPEG_2000, JPEG_LS

Words = NDArray[np.unsignedinteger[Any]]


def words(codestream: bytes, syntax: str, rows: int, columns: int, bits: int, allocated: int) -> Words:
    """(row, column) of unsigned words, little endian, in which the pixel's bits lie. Raises Unreadable.

    `bits` of a sample as the codestream says, `allocated` as the header does.
    """
    if syntax == ENCAPSULATED:
        return _shaped(codestream[: rows * columns * allocated // 8], rows, columns)
    try:
        return _shaped(_decoded(codestream, syntax, rows, columns, bits, allocated), rows, columns)
    except (RuntimeError, UnicodeError, ValueError, AttributeError) as error:  # as codecs say that they gave up, each in its own way
        raise Unreadable("its compressed pixel data are damaged (the codec gave up); send it again") from error


def _decoded(codestream: bytes, syntax: str, rows: int, columns: int, bits: int, allocated: int) -> bytes | bytearray:
    if syntax in JPEG_LS:
        return jpeg_ls.decode_pixel_data(_ended(codestream))[0]  # type: ignore[no-any-return]
    if syntax in JPEG_2000:
        return openjpeg.decode_pixel_data(codestream, version=2)  # type: ignore[no-any-return]
    return _gdcm(codestream, syntax, rows, columns, bits, allocated)


def _ended(codestream: bytes) -> bytearray:
    """With its end of image marker: one that was cut off keeps CharLS busy for ten seconds, reading behind what it was given."""
    return bytearray(codestream if b"\xff\xd9" in codestream[-4:] else codestream + b"\xff\xd9")


def _shaped(decoded: bytes | bytearray, rows: int, columns: int) -> Words:
    size, rest = divmod(len(decoded), rows * columns)
    if rest or size not in (1, 2, 4):
        raise Unreadable(f"its compressed pixel data gave {len(decoded)} bytes for {rows} x {columns} pixels: damaged; send it again")
    return np.frombuffer(decoded, f"<u{size}").reshape(rows, columns)


def _gdcm(codestream: bytes, syntax: str, rows: int, columns: int, bits: int, allocated: int) -> bytes:
    """RLE and JPEG. pydicom's own path to GDCM refuses 12-bit JPEG, which GDCM reads; and its RLE decoder is Python."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, bits, bits - 1, 0))
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))
