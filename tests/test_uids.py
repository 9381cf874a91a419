"""listener/uids.py: never another answer than `headers.read`, and none where that has to look."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import data_set, dataset, part_10
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from listener import headers, uids
from listener.errors import NotDicom
from listener.incoming import HEAD

SYNTAXES = {ExplicitVRLittleEndian: False, ImplicitVRLittleEndian: True}


def raw_of(syntax: str, **more: str) -> bytes:
    ds = dataset(**more)
    ds.file_meta.TransferSyntaxUID = syntax
    return part_10(ds)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_scanners_write_is_read(syntax: str) -> None:
    """Class, instance, study and series, in explicit and in implicit VR."""
    assert uids.read(data_set(raw_of(syntax))[:HEAD], syntax) == ("1.2.840.10008.5.1.4.1.1.4", "1.2.3.1.1", "1.2.3", "1.2.3.1")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(syntax=st.sampled_from(list(SYNTAXES)), at=st.integers(0, 700), value=st.integers(0, 255), end=st.integers(0, 1200))
def test_never_another_answer(tmp_path: Path, syntax: str, at: int, value: int, end: int) -> None:
    """With a byte changed and the rest cut off it says what `headers.read` says of the whole, or nothing."""
    raw = bytearray(raw_of(syntax))
    start = len(raw) - len(data_set(bytes(raw)))
    raw[min(start + at, len(raw) - 1)] = value
    found = uids.read(bytes(raw[start:])[:end], syntax)
    (tmp_path / "x.dcm").write_bytes(raw)
    try:
        whole = headers.read(tmp_path / "x.dcm")
    except NotDicom:
        return  # damaged after the UIDs: index.py tells
    assert found in (None, (whole.sop_class_uid, whole.sop_instance_uid, whole.study_uid, whole.series_uid))


def test_the_unusual_is_left_to_headers() -> None:
    """Big endian, a head that ends too early, and a UID that is none."""
    whole = data_set(raw_of(ExplicitVRLittleEndian))
    assert uids.read(whole, ExplicitVRBigEndian) is None
    assert uids.read(whole[:100], ExplicitVRLittleEndian) is None
    assert uids.read(whole.replace(b"1.2.3.1\0", b"../../.\0"), ExplicitVRLittleEndian) is None
