"""frames: the frames of one instance -> float32 in modality units. Uncompressed ones block by block, compressed ones one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.part10 import inflated
from pipeline.pixels import codecs, codestream
from pipeline.pixels.layout import Layout, Lut
from pipeline.pixels.limits import Unreadable
from pipeline.records import Pixels
from pipeline.syntaxes import DEFLATED, NATIVE

_BLOCK = 2**20  # pixels that are converted at once

Wanted = Sequence[tuple[int, int]]
"""(frame, row of the array that it goes to)"""


def fill(layout: Layout, wanted: Wanted, pixels: Pixels) -> None:
    """Writes frames of `layout` into `pixels` (slice, row, column). What is no pixel becomes NaN: padding, and what was no number.

    Raises Unreadable, or what a codec raises.
    """
    for part, words, bits in _words(layout, wanted):
        scales = [layout.scales[frame] for frame, _ in part]
        values = _floats(words) if layout.samples.floating else _values(_numbers(words, layout, bits), layout)
        if any(scale != (1.0, 0.0) for scale in scales):
            slope, intercept = np.array(scales, np.float32).T[:, :, None, None]
            values *= slope
            values += intercept
        pixels[[row for _, row in part]] = values


def _words(layout: Layout, wanted: Wanted) -> Iterator[tuple[Wanted, NDArray[Any], int]]:
    """Frames in their order, as stored: (frame, row, column), and how many bits of a word are a sample's."""
    syntax, ordered = layout.instance.transfer_syntax_uid, sorted(wanted)
    data = _data(layout)
    if syntax in NATIVE:
        stored = _native(layout, data)
        size = max(_BLOCK // (layout.rows * layout.columns), 1)
        for k in range(0, len(ordered), size):
            part = ordered[k : k + size]
            yield part, stored[[frame for frame, _ in part]], layout.samples.allocated
        return
    streams = codestream.codestreams(data, layout.pixels.start, len(layout.planes), layout.offsets)
    for frame, row in ordered:
        stream = b"".join(data[f.start : f.start + f.length] for f in streams[frame])
        bits = codestream.check(stream, syntax, layout.rows, layout.columns, layout.samples.allocated)
        words = codecs.words(stream, syntax, layout.rows, layout.columns, bits, layout.samples.allocated)
        yield [(frame, row)], words[None], bits


def _data(layout: Layout) -> memoryview:
    """The bytes of the file, unread until they are asked for; of a deflated one as much as is needed."""
    if layout.instance.transfer_syntax_uid != DEFLATED:
        return memoryview(np.memmap(layout.instance.path, np.uint8, "r"))  # type: ignore[arg-type]
    with layout.instance.path.open("rb") as file:
        file.seek(layout.body)
        return memoryview(inflated(file, layout.pixels.start + layout.size * len(layout.planes)))


def _native(layout: Layout, data: memoryview) -> NDArray[Any]:
    """(frame, row, column) of unsigned words or floats, a view into `data`."""
    count, size = len(layout.planes), layout.size
    held = len(data) - layout.pixels.start
    if held < count * size:
        raise Unreadable(f"its pixel data hold {max(held, 0)} bytes where {count * size} belong: sent incompletely; send it again")
    samples = layout.samples
    kind = f"{'>' if samples.big_endian else '<'}{'f' if samples.floating else 'u'}{samples.allocated // 8}"
    if samples.big_endian and samples.allocated == 8 and layout.pixels.vr == "OW":  # bytes lie swapped in words (PS3.5 7.3)
        swapped = np.frombuffer(data, "u1", (count * size + 1) // 2 * 2, layout.pixels.start).reshape(-1, 2)[:, ::-1].reshape(-1)
        return swapped[: count * size].reshape(count, layout.rows, layout.columns)
    stored = np.frombuffer(data, kind, count * layout.rows * layout.columns, layout.pixels.start)
    return stored.reshape(count, layout.rows, layout.columns)


def _numbers(words: NDArray[Any], layout: Layout, bits: int) -> NDArray[Any]:
    """Words without the bits that are not the pixel's, with their sign (PS3.5 8.1.1)."""
    samples, width = layout.samples, words.itemsize * 8
    stored = min(samples.stored, width)
    top = samples.high_bit if bits > stored and width == samples.allocated else stored - 1  # codecs give the bits at the bottom
    kind = np.dtype(f"{'i' if samples.signed else 'u'}{words.itemsize}")
    numbers = (words if words.dtype.isnative else words.byteswap()).view(kind)
    if stored < width:
        numbers = (numbers << kind.type(width - 1 - top)) >> kind.type(width - stored)
    return numbers


def _floats(words: NDArray[Any]) -> Pixels:
    """NaN and infinity are left: in maps they stand where nothing was computed."""
    if words.itemsize == 8 and (np.abs(words, where=np.isfinite(words), out=np.zeros(words.shape)) > np.finfo(np.float32).max).any():
        raise Unreadable("its pixels hold numbers beyond 3e38, which no measurement gives; correct it at the source")
    return np.asarray(words, np.float32)


def _values(numbers: NDArray[Any], layout: Layout) -> Pixels:
    """After the modality LUT, NaN where padding is."""
    values = _looked_up(numbers, layout.lut) if layout.lut else numbers.astype(np.float32)
    if layout.padding is not None:
        low, high = sorted(_as_stored(value, layout) for value in layout.padding)
        values[(numbers >= low) & (numbers <= high)] = np.nan
    return values


def _as_stored(value: int, layout: Layout) -> int:
    """A padding value is written with the sign of the pixels, or without by scanners that forgot it."""
    stored = layout.samples.stored
    value &= 2**stored - 1
    return value - 2**stored if layout.samples.signed and value >= 2 ** (stored - 1) else value


def _looked_up(numbers: NDArray[Any], lut: Lut) -> Pixels:
    index = np.clip(numbers.astype(np.int64) - lut.first, 0, len(lut.table) - 1)
    return np.asarray(lut.table[index])
