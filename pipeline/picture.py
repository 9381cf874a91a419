"""picture: a slice as a screen shows it, the region drawn in, sentences below it. Pixels in, pixels out; the same every time.

Nothing of the anatomy is covered: the outline is a line, and the text stands on a band of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.records import Point

_LEAST, _MOST = 768, 2048  # pixels of the slice's longer side: letters of 20 pixels need room, and memory has an end
_STRETCHED = 4.0  # times as far between rows as between columns: beyond that the spacing is an error
_TITLE, _TEXT = 26, 20  # pixels
_MARGIN = 12
_MARKED, _WHITE, _BLACK = (255, 221, 0), (255, 255, 255), (0, 0, 0)  # yellow: no scanner paints with it


def paint(
    picture: NDArray[np.uint8], spacing: tuple[float, float], region: Sequence[Point], title: str, sentences: Sequence[str]
) -> NDArray[np.uint8]:
    """(row, column, RGB) with square pixels; `spacing` between rows and columns as in Slices, `region` in pixels of `picture`."""
    rows, columns = picture.shape
    across, down = _scales(rows, columns, spacing)
    size = (max(round(columns * across), 1), max(round(rows * down), 1))
    width = max(size[0], _LEAST)  # room for words below a narrow slice
    lines = [(title, _font(_TITLE), _MARKED), *_wrapped(sentences, width - 2 * _MARGIN)]
    heights = [round(1.35 * font.size) for _, font, _ in lines]
    canvas = Image.new("RGB", (width, size[1] + sum(heights) + 2 * _MARGIN), _BLACK)
    canvas.paste(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    draw = ImageDraw.Draw(canvas)
    _outline(draw, [(x * across, y * down) for x, y in region])
    top = size[1] + _MARGIN
    for (line, font, colour), height in zip(lines, heights, strict=True):
        draw.text((_MARGIN, top), line, fill=colour, font=font)
        top += height
    return np.asarray(canvas)


def _scales(rows: int, columns: int, spacing: tuple[float, float]) -> tuple[float, float]:
    """Pixels of the screen for each pixel of the slice, across and down."""
    finest = min(spacing)
    down, across = (mm / finest for mm in spacing) if max(spacing) <= _STRETCHED * finest else (1.0, 1.0)
    longest = max(columns * across, rows * down)
    enlarged = min(max(1.0, _LEAST / longest), _MOST / longest)
    return across * enlarged, down * enlarged


def _outline(draw: ImageDraw.ImageDraw, points: Sequence[Point]) -> None:
    """Closed; on a black rim, so that it is seen on white too."""
    if points:
        closed = [*points, *points[:2]]  # two: the corner where it closes is a corner like the others
        draw.line(closed, fill=_BLACK, width=6, joint="curve")
        draw.line(closed, fill=_MARKED, width=3, joint="curve")


def _wrapped(sentences: Sequence[str], width: int) -> Iterator[tuple[str, ImageFont.FreeTypeFont, tuple[int, int, int]]]:
    font = _font(_TEXT)
    for sentence in sentences:
        line = ""
        for word in sentence.split():
            longer = f"{line} {word}".lstrip()
            if line and font.getlength(longer) > width:
                yield line, font, _WHITE
                longer = word
            line = longer
        yield line, font, _WHITE


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The one within Pillow, laid out by Pillow alone: no font or library of the machine has a say."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
