"""The PDF: the Summary's sentences, readable, on one page, the same every time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reports import KINDS, parsed, result, sentences, tool

from pipeline import page


def file(ds: Any) -> bytes:
    return bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])


def read(data: bytes, folder: Path, *options: str) -> str:
    """What poppler reads of the file."""
    (folder / "page.pdf").write_bytes(data)
    return tool("pdftotext", *options, folder / "page.pdf", "-")


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_summary_says(kind: str, tmp_path: Path) -> None:
    """Every sentence of the Summary, in its order, on one page under the Summary's title; of the patient nothing."""
    summary, pdf = sorted(result(tmp_path, kind, wanted=("summary", "pdf"))[1], key=lambda d: d.kind == "pdf")
    said = read(file(parsed(pdf)), tmp_path)
    assert said.count("\f") == 1
    words, last = " ".join(said.split()), 0
    for sentence in ("AI Result, Not Verified", *sentences(summary)):
        assert sentence in words.replace("–", "-")
        last, before = words.replace("–", "-").index(sentence, last), last
        assert last >= before
    assert "Doe" not in words and "4711" not in words


def test_the_header_says_what_it_is(tmp_path: Path) -> None:
    """Title and concept are the Summary's; made from the instances that were read; unverified; it identifies nobody (PS3.3 C.24.2)."""
    of, (summary, pdf) = result(tmp_path, "present", wanted=("summary", "pdf"))
    ds, title = parsed(pdf), parsed(summary).ConceptNameCodeSequence[0]
    assert ds.ConceptNameCodeSequence[0] == title
    assert (ds.DocumentTitle, ds.MIMETypeOfEncapsulatedDocument) == (title.CodeMeaning, "application/pdf")
    assert (ds.VerificationFlag, ds.BurnedInAnnotation) == ("UNVERIFIED", "NO")
    assert [i.ReferencedSOPInstanceUID for i in ds.SourceInstanceSequence] == [i.sop_instance_uid for i in of.instances]
    assert b"CreationDate" not in file(ds) and b"/ID" not in file(ds)


def test_lines_end_before_the_margin(tmp_path: Path) -> None:
    """No word reaches into the margin, by poppler's own widths of Helvetica."""
    letters = "".join(chr(k) for k in range(33, 127))
    text = " ".join(letters[k : k + 7] for k in range(0, 94, 7)) * 9
    said = read(page.written("Title", "", [("Heading", [text, "ÄÖÜ äöüß éà (a) \\ " * 30])]), tmp_path, "-bbox")
    ends = [float(x) for x in re.findall(r'xMax="([\d.]+)"', said)]
    assert 595 - 56 - 60 < max(ends) <= 595 - 56 + 0.5


def test_much_is_written_small_and_then_on_more_pages(tmp_path: Path) -> None:
    """Sentences that would run over the page are written smaller; those that still do go on on the next page, none is lost."""
    for count, pages in ((20, 1), (50, 1), (300, 5)):
        sentences = [f"Sentence number {k} of the limitations." for k in range(count)]
        said = read(page.written("Title", "", [("Limitations", sentences)]), tmp_path)
        assert said.count("\f") == pages
        assert all(sentence in said for sentence in sentences)


def test_letters_of_western_europe(tmp_path: Path) -> None:
    """Accents, dashes, brackets and backslashes come out as they went in."""
    assert "Größe – naïve (a\\b) ×" in read(page.written("Größe – naïve (a\\b) ×", "", []), tmp_path)
