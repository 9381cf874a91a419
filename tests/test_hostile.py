"""Hypothesis against the way in: whatever is taken from a good study, put into it or torn out of its bytes, it ends in a state.

Longer by hand: HOSTILE=3000 .venv/bin/python -m pytest -q tests/test_hostile.py
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from corpus import encoded, head
from corpus_geometry import enhanced
from corpus_syntaxes import compressed, labelled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from test_run import NOW, model

from listener import headers, logs
from listener.isolation import Isolated
from pipeline.decode import Undecodable
from pipeline.inherited import NoSource
from pipeline.run import Contradictory, Decoder, analyze

EXAMPLES = int(os.environ.get("HOSTILE", "0"))
SEEDS = ("explicit", "deflated", "rle", "jpegls", "jpeg2000", "enhanced")
MODEL = model()


def quickly(examples: int) -> Any:
    """The same examples on every run; no example may take long."""
    chosen = EXAMPLES or examples
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=chosen, derandomize=not EXAMPLES, database=None, deadline=10_000, suppress_health_check=checks)


@cache
def good(kind: str) -> tuple[bytes, ...]:
    """A study that is analysed, as files."""
    made = [enhanced("1.2.3")] if kind == "enhanced" else head("1.2.3", 2)
    coded = {"rle": RLELossless, "jpegls": JPEGLSLossless, "jpeg2000": JPEG2000Lossless}
    if kind in coded:
        made = [compressed(ds, coded[kind]) for ds in made]
    if kind == "deflated":
        made = [labelled(ds, DeflatedExplicitVRLittleEndian) for ds in made]
    return tuple(map(encoded, made))


pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[None]:
    """pydicom tells every odd value to its log, as the program never lets it (listener/logs.py)."""
    log = logging.getLogger("pydicom")
    log.disabled = True
    yield
    log.disabled = False


@pytest.fixture(scope="module")
def decoder() -> Iterator[Isolated]:
    """A codec may crash on garbage; that must not end the test."""
    with Isolated(1 << 30, 8.0) as isolated:
        yield isolated


def outcomes(files: Sequence[bytes], decoder: Decoder) -> list[tuple[str, str]]:
    """State and reason of each study in `files`; only what is raised on purpose counts as an outcome."""
    found: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for k, data in enumerate(files):
            (Path(folder) / f"{k}.dcm").write_bytes(data)
        studies = headers.studies(sorted(Path(folder).iterdir()), skipped=lambda error: found.append(("skipped", error.why)))
        for study in studies:
            try:
                report = analyze(study, [MODEL], NOW, decoder)
                found.append((report.state, report.reason or ""))
                assert all(dcmread_whole(document.data) for document in report.documents)
            except (Undecodable, Contradictory, NoSource) as error:
                found.append(("quarantined", logs.explain(error)))
    return found


def dcmread_whole(data: bytes) -> bool:
    from io import BytesIO

    return len(dcmread(BytesIO(data)).ContentSequence) > 0


def check(files: Sequence[bytes], decoder: Decoder) -> None:
    found = outcomes(files, decoder)
    assert found
    for state, reason in found:
        assert state in ("analysed", "declined", "quarantined", "skipped")
        assert bool(reason) == (state != "analysed")
        assert not re.search(r"geheim|\n|\x1b|\(\w*(Error|Exception)\)", reason, re.IGNORECASE), (state, reason)


@pytest.mark.parametrize("kind", SEEDS)
def test_seeds_are_good(kind: str, decoder: Isolated) -> None:
    """Nothing is wrong with what the others start from."""
    assert outcomes(good(kind), decoder) == [("analysed", "")]


# --- bytes ----------------------------------------------------------------------------------------------------------------

Change = Callable[[bytearray], None]
where = st.floats(0, 1, exclude_max=True)


def _overwrite(at: float, new: bytes) -> Change:
    def change(data: bytearray) -> None:
        start = int(at * len(data))
        data[start : start + len(new)] = new

    return change


def _insert(at: float, new: bytes) -> Change:
    def change(data: bytearray) -> None:
        start = int(at * len(data))
        data[start:start] = new

    return change


def _cut(at: float, length: int) -> Change:
    def change(data: bytearray) -> None:
        start = int(at * len(data))
        del data[start : start + length]

    return change


def _truncate(at: float) -> Change:
    def change(data: bytearray) -> None:
        del data[int(at * len(data)) :]

    return change


changes = st.one_of(
    st.builds(_overwrite, where, st.binary(min_size=1, max_size=8)),
    st.builds(_insert, where, st.binary(min_size=1, max_size=8)),
    st.builds(_cut, where, st.integers(1, 300)),
    st.builds(_truncate, where),
)


@quickly(60)
@given(kind=st.sampled_from(SEEDS), deeds=st.lists(changes, min_size=1, max_size=4))
def test_any_bytes(kind: str, deeds: list[Change], decoder: Isolated) -> None:
    """Bytes overwritten, inserted, cut out or cut off anywhere in a file: a state, and a sentence."""
    first, *others = good(kind)
    data = bytearray(first)
    for deed in deeds:
        deed(data)
    check([bytes(data), *others], decoder)


# --- attributes -----------------------------------------------------------------------------------------------------------

VALUES = (
    b"", b" ", b"0", b"-1", b"1e400", b"nan", rb"1\2\3\4\5\6\7", b"\0\0", b"\xff\xff", b"\xff" * 8, b"A" * 200, b"\x1b$B\x80", b"../../x",
    b"<script>", b"20261399", b"MR", b"DERIVED", rb"ORIGINAL\PRIMARY", b"\0\0\x80\x7f", b"\0\0\xc0\x7f",
)  # fmt: skip
VRS = ("", "US", "SS", "UL", "FD", "DS", "IS", "CS", "UI", "PN", "UN", "OB", "SQ", "AT", "UT")


def _elements(ds: Dataset) -> list[tuple[Dataset, Any]]:
    """Every element with the data set that it lies in, nested ones as well."""
    found = []
    for element in ds:
        found.append((ds, element.tag))
        if element.VR == "SQ":
            found += [pair for item in element.value for pair in _elements(item)]
    return found


def _mutate(ds: FileDataset, wrong: list[tuple[float, bytes | None, str]]) -> None:
    """Elements gone (None) or with another value, under another VR where one is named."""
    elements = [(owner, tag, owner[tag].VR) for owner, tag in _elements(ds)]
    for choice, value, vr in wrong:
        owner, tag, own = elements[int(choice * len(elements))]
        owner.pop(tag, None)
        if value is not None:
            even = value + b" " * (len(value) % 2)
            owner[tag] = RawDataElement(tag, vr or ("UN" if own == "SQ" else own), len(even), even, 0, False, True)


mutations = st.lists(
    st.tuples(where, st.one_of(st.none(), st.sampled_from(VALUES), st.binary(max_size=30)), st.sampled_from(VRS)), min_size=1, max_size=5
)


@quickly(60)
@given(kind=st.sampled_from(("explicit", "jpeg2000", "enhanced")), wrong=mutations, all_alike=st.booleans())
def test_any_attributes(kind: str, wrong: list[tuple[float, bytes | None, str]], all_alike: bool, decoder: Isolated) -> None:
    """Attributes taken away or given values of any kind, in one slice or in all: a state, and a sentence."""
    from io import BytesIO

    files = []
    for k, data in enumerate(good(kind)):
        ds = dcmread(BytesIO(data))
        if all_alike or k == 0:
            _mutate(ds, wrong)
        try:
            files.append(encoded(ds))
        except Exception:  # noqa: BLE001 - what pydicom cannot even write is not sent by anybody who uses it
            return
    check(files, decoder)
