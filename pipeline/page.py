"""page: sentences under headings as a PDF of one page. No clock and no random number: the same sentences give the same bytes.

Helvetica, which every reader of PDF has (ISO 32000-1 9.6.2.2), so no font is within. Letters of Western Europe; of others a question mark.
Sentences that fill more than a page even in the smallest size go on on the next.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import pydyf

_WIDTH, _HEIGHT, _MARGIN = 595, 842, 56  # points: A4
_SIZES = (10.5, 9.5, 8.5, 7.5, 6.5)  # of the text, points; the first with which all fits on one page
_LEADING = 1.4
_ENCODING = "cp1252"  # WinAnsiEncoding (ISO 32000-1 annex D)
# Widths of Helvetica in 1/1000 of its size, by width; letters with accents are as wide as those without.
_WIDTHS = {
    letter: width
    for width, letters in {
        191: "'", 222: "ijl", 260: "|", 278: " !,./:;I[\\]ft", 333: "()-`r", 334: "{}", 355: '"', 389: "*", 469: "^", 500: "Jckvsxyz",
        556: "#$0123456789?L_abdeghnopqu", 584: "+<=>~", 611: "FTZ", 667: "&ABEKPSVXY", 722: "CDHNRUw", 778: "GOQ", 833: "Mm", 889: "%",
        944: "W", 1015: "@",
    }.items()
    for letter in letters
}  # fmt: skip


class Line(NamedTuple):
    text: str
    font: str  # F1: Helvetica, F2: bold
    size: float
    space: float  # above it, in its own size


def written(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """The PDF file."""
    laid = [_laid(title, subtitle, sections, size) for size in _SIZES]
    pages = next((pages for pages in map(_paged, laid) if len(pages) == 1), None) or _paged(laid[-1])
    pdf = pydyf.PDF()
    pdf.info.update({"Title": pydyf.String(_encoded(title)), "Producer": pydyf.String("VitalCheck")})
    fonts = pydyf.Dictionary({"F1": _font("Helvetica"), "F2": _font("Helvetica-Bold")})
    for page in pages:
        stream = _drawn(page)
        pdf.add_object(stream)
        box = pydyf.Array([0, 0, _WIDTH, _HEIGHT])
        resources = pydyf.Dictionary({"Font": fonts})
        parts = {"Type": "/Page", "Parent": pdf.pages.reference, "MediaBox": box, "Contents": stream.reference, "Resources": resources}
        pdf.add_page(pydyf.Dictionary(parts))
    buffer = BytesIO()
    pdf.write(buffer, version=b"1.4")
    return buffer.getvalue()


def _laid(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[str]]], size: float) -> list[Line]:
    lines = [Line(title, "F2", 18, 0), *(Line(line, "F1", size, 0.3) for line in _wrapped(subtitle, size))]
    for heading, sentences in sections:
        lines.append(Line(heading, "F2", size + 2, 1.0))
        for sentence in sentences:
            lines += [Line(line, "F1", size, 0.0 if k else 0.35) for k, line in enumerate(_wrapped(sentence, size))]
    return lines


def _paged(lines: Sequence[Line]) -> list[list[tuple[Line, float]]]:
    """Each line with the height of its foot; page by page."""
    pages: list[list[tuple[Line, float]]] = [[]]
    y = float(_HEIGHT - _MARGIN)
    for line in lines:
        need = line.size * (_LEADING + line.space)
        if y - need < _MARGIN:
            pages.append([])
            y = float(_HEIGHT - _MARGIN)
        y -= need
        pages[-1].append((line, y))
    return pages


def _drawn(page: Sequence[tuple[Line, float]]) -> Any:
    stream = pydyf.Stream()
    stream.begin_text()
    for line, y in page:
        stream.set_font_size(line.font, line.size)
        stream.set_text_matrix(1, 0, 0, 1, _MARGIN, round(y, 2))
        stream.show_text_string(_encoded(line.text))
    stream.end_text()
    return stream


def _wrapped(sentence: str, size: float) -> Iterator[str]:
    line = ""
    for word in sentence.split():
        longer = f"{line} {word}".lstrip()
        if line and _length(longer) * size > 1000 * (_WIDTH - 2 * _MARGIN):
            yield line
            longer = word
        line = longer
    yield line


def _length(text: str) -> int:
    return sum(_WIDTHS.get(unicodedata.normalize("NFKD", letter)[0], 556) for letter in text)


def _font(name: str) -> Any:
    return pydyf.Dictionary({"Type": "/Font", "Subtype": "/Type1", "BaseFont": f"/{name}", "Encoding": "/WinAnsiEncoding"})


def _encoded(text: str) -> bytes:
    return text.encode(_ENCODING, "replace")
