"""Bounded reading: what an object says in its header costs little, whatever it claims and however it is built."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import SECRET, dataset, instance, write
from peers import free_port, scanner
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from listener import headers, skim
from listener.committer import Committer
from listener.config import Listener, Peer
from listener.errors import NotDicom
from listener.ledger import Ledger
from listener.scp import Scp
from listener.spool import Spool
from pipeline.records import Headers

OPEN = 0xFFFFFFFF  # a length that is not said
ITEM_END, SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
MIB = 1 << 20


def element(tag: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    """Explicit VR little endian, with a length of four bytes, true or not (PS3.5 7.1.2)."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length) + value


def planted(folder: Path, *, before: int = 0x00100010, junk: bytes, **more: Any) -> Path:
    """A slice with `junk` before its element `before`, as bytes."""
    path = write(folder, dataset(**more))
    raw = path.read_bytes()
    place = raw.index(struct.pack("<HH", before >> 16, before & 0xFFFF), 400)
    path.write_bytes(raw[:place] + junk + raw[place:])
    return path


def cost(path: Path) -> tuple[Headers | NotDicom, int, float]:
    """What reading gives, its peak of memory in bytes, and its seconds."""
    began = time.perf_counter()
    _read(path)
    seconds = time.perf_counter() - began
    tracemalloc.start()
    found, (_, peak) = _read(path), tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found, peak, seconds


def _read(path: Path) -> Headers | NotDicom:
    try:
        return headers.read(path).headers
    except NotDicom as error:
        return error


def item(length: int) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, length)


# Of undefined length, so implicit inside (PS3.5 6.2.2), with an element whose length, 0x4242, reads like a VR.
UNKNOWN = element(0x00091006, b"UN", OPEN) + item(OPEN) + struct.pack("<HHL", 9, 9, 0x4242) + b"\xff" * 0x4242 + ITEM_END + SEQUENCE_END


def nested(depth: int, tag: int) -> bytes:
    """Sequences of undefined length, each in the only item of the one around it."""
    return (element(tag, b"SQ", OPEN) + item(OPEN)) * depth + (ITEM_END + SEQUENCE_END) * depth


@pytest.mark.parametrize(
    "junk",
    [
        nested(20_000, 0x00091002),
        nested(20_000, 0x00081140),
        element(0x00091003, b"OB", 100 * MIB) + bytes(100 * MIB),
        element(0x00091004, b"UN", OPEN) + (item(8) + b"ABCDEFGH") * 20_000 + SEQUENCE_END,
        element(0x00091005, b"SQ", OPEN) + item(0x4242) + b"\xff" * 0x4242 + SEQUENCE_END,
        UNKNOWN,
        element(0x00091007, b"SQ", OPEN) + item(OPEN) + UNKNOWN + ITEM_END + SEQUENCE_END,
    ],
    ids=["deep private", "deep sequence", "100 MiB private", "many items", "length like a VR", "implicit in UN", "UN in a sequence"],
)
def test_what_nobody_asks_for_costs_nothing(tmp_path: Path, junk: bytes) -> None:
    """Deep, huge and many private things before what we read: read as without them, in a little memory and time."""
    found, peak, seconds = cost(planted(tmp_path / "junk", junk=junk))
    assert found == instance(tmp_path / "plain").headers
    assert (peak < 4 * MIB, seconds < 5) == (True, True)


@pytest.mark.parametrize(
    ("junk", "lost"),
    [
        (element(0x00081030, b"UT", 0xFFFFFFF0), "everything after it"),
        (element(0x00081030, b"UT", 50 * MIB) + b"x" * 50 * MIB, "nothing else"),
        (nested(20_000, 0x00082218), "nothing else"),
        (element(0x00080008, b"UN", 2 * MIB) + b"\\" * 2 * MIB, "nothing else"),
    ],
    ids=["claims 4 GiB", "50 MiB of text", "deep sequence", "2 MiB of values"],
)
def test_what_is_asked_for_and_too_long_is_no_value(tmp_path: Path, junk: bytes, lost: str) -> None:
    """An attribute that we read, longer or deeper than any that is meant, is no value; nothing is allocated for its claim."""
    found, peak, seconds = cost(planted(tmp_path / "junk", junk=junk))
    assert (peak < 4 * MIB, seconds < 5) == (True, True)
    if lost == "nothing else":
        assert found == replace(instance(tmp_path / "plain").headers, study_description="")
    else:
        assert isinstance(found, NotDicom)
        assert "DICOM without StudyInstanceUID" in str(found)


def test_more_elements_than_any_object_needs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends after a number of elements, with a sentence."""
    monkeypatch.setattr(skim, "ELEMENTS", 1000)
    path = planted(tmp_path, junk=element(0x00091005, b"OB", 0) * 1000)
    with pytest.raises(NotDicom, match="more than 1000 data elements lie before its pixels; have its sender leave private attributes out"):
        headers.read(path)


def test_of_many_frames_only_the_first_is_read(tmp_path: Path) -> None:
    """The functional groups of 3000 frames cost no more memory than those of one."""
    position = Dataset()
    position.PlanePositionSequence = [Dataset()]
    position.PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3]
    more = {"PerFrameFunctionalGroupsSequence": [position] * 3000, "NumberOfFrames": 3000, "sop_class_uid": EnhancedMRImageStorage}
    found, peak, _ = cost(write(tmp_path, dataset(**more)))
    assert isinstance(found, Headers)
    assert (found.image_position_patient, found.number_of_frames) == ((1.0, 2.0, 3.0), 3000)
    assert peak < MIB


def test_of_large_frames_not_all_are_read(tmp_path: Path) -> None:
    """What is read of each frame has a bound in sum, too."""
    frame, diffusion = Dataset(), Dataset()
    diffusion.DiffusionBValue, diffusion.ImageComments = 500.0, "x" * 8000
    frame.MRDiffusionSequence = [diffusion]
    more = {"PerFrameFunctionalGroupsSequence": [frame] * 1500, "NumberOfFrames": 1500, "sop_class_uid": EnhancedMRImageStorage}
    found, peak, _ = cost(write(tmp_path, dataset(**more)))
    assert isinstance(found, Headers)
    assert (found.diffusion_b_value, peak < 10 * MIB) == (500.0, True)


@pytest.mark.parametrize("opened", [True, False], ids=["open items", "closed items"])
def test_of_each_frame_only_its_diffusion_is_read(tmp_path: Path, opened: bool) -> None:
    """The highest b-value of all frames is found, and where the first frame lies, whatever else the frames say."""
    frames = []
    for b_value in (0.0, 500.0, 1000.0, 0.0):
        frame, position, diffusion = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient, diffusion.DiffusionBValue = [b_value, 2, 3], b_value
        frame.PlanePositionSequence, frame.MRDiffusionSequence = [position], [diffusion]
        frame.is_undefined_length_sequence_item = diffusion.is_undefined_length_sequence_item = opened
        frame["MRDiffusionSequence"].is_undefined_length = opened
        frames.append(frame)
    ds = dataset(PerFrameFunctionalGroupsSequence=frames, NumberOfFrames=4, sop_class_uid=EnhancedMRImageStorage)
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = opened
    found = headers.read(write(tmp_path, ds)).headers
    assert (found.diffusion_b_value, found.image_position_patient, found.modality) == (1000.0, (0.0, 2.0, 3.0), "OT")


# Deflated


def deflated(path: Path, ds: FileDataset, *, more: int = 0) -> Path:
    """`ds` deflated (PS3.5 A.5), with `more` zero bytes in a private element before its pixels."""
    path.write_bytes(_head(ds) + squeezed(ds, more))
    return path


def squeezed(ds: FileDataset, more: int = 0) -> bytes:
    raw = encode(ds, is_implicit_vr=False, is_little_endian=True) or b""
    place = raw.index(struct.pack("<HH", 0x0010, 0x0010))
    raw = raw[:place] + (element(0x00091001, b"OB", more) + bytes(more) if more else b"") + raw[place:]
    squeezer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(raw) + squeezer.flush()


def _head(ds: FileDataset) -> bytes:
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = BytesIO()
    write_file_meta_info(head, ds.file_meta)
    return b"\0" * 128 + b"DICM" + head.getvalue()


def test_a_deflated_object_says_the_same(tmp_path: Path) -> None:
    """Deflated and plain, an object has the same headers."""
    assert headers.read(deflated(tmp_path / "x.dcm", dataset())).headers == instance(tmp_path).headers
    assert headers.read(deflated(tmp_path / "y.dcm", dataset(), more=MIB)).headers == instance(tmp_path).headers


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    """200 MiB in 200 KB: refused with a sentence, having taken a part of that memory."""
    found, peak, seconds = cost(deflated(tmp_path / "bomb.dcm", dataset(), more=200 * MIB))
    assert isinstance(found, NotDicom)
    assert "bomb.dcm: the first 16777216 bytes of its deflated data set reach no pixels; have its sender" in str(found)
    assert (peak < 64 * MIB, seconds < 5) == (True, True)


def test_damaged_deflated_data_are_refused(tmp_path: Path) -> None:
    """Bytes that are not deflated are refused, and the sentence says how to mend it."""
    path = tmp_path / "x.dcm"
    path.write_bytes(_head(dataset()) + b"\xff" * 500)
    with pytest.raises(NotDicom, match="its deflated data set is damaged; send it again"):
        headers.read(path)


def test_a_bomb_over_the_network_is_refused(tmp_path: Path) -> None:
    """A deflated bomb is answered 0xC000 (cannot understand), nothing of it stays, and the next instance is kept."""
    ds = dataset()
    state = tmp_path / "state"
    state.mkdir()
    ledger = Ledger(state)
    port = free_port()
    scp = Scp(
        Listener(host="127.0.0.1", port=port, peers=(Peer(ae_title="CT01"),)),
        Spool(state, ledger, 0),
        lambda _: None,
        Committer(Listener(), ledger),
    )
    scp.start()
    try:
        with scanner(port, [ds.SOPClassUID], syntaxes=[DeflatedExplicitVRLittleEndian]) as assoc:
            assert send_raw(assoc, ds, squeezed(ds, 200 * MIB)) == 0xC000
            assert send_raw(assoc, ds, squeezed(ds)) == 0x0000
        assert [path.name for path in (state / "spool").rglob("*") if path.is_file()] == [f"{ds.SOPInstanceUID}.dcm"]
    finally:
        scp.stop(1.0)


def send_raw(assoc: Any, ds: Dataset, data: bytes) -> int:
    """A C-STORE of `data` as they are; the status."""
    request = C_STORE()
    request.MessageID, request.Priority, request.AffectedSOPClassUID = 1, 2, ds.SOPClassUID
    request.AffectedSOPInstanceUID, request.DataSet = ds.SOPInstanceUID, BytesIO(data)
    assoc._reactor_checkpoint.clear()
    while not assoc._is_paused:
        time.sleep(0.01)
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return int(answer.Status)


# Any structure


def items(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(st.booleans(), st.lists(children, max_size=3)), max_size=3)


PARTS = st.recursive(st.integers(0, 300).map(bytes) | st.just(b"\xfe\xff\x0d\xe0\0\0\0\0" * 4), items, max_leaves=12)


def build(part: Any, opened: bool) -> Any:
    """(VR, value) of a drawn part: bytes, or a sequence of items whose lengths are said or not."""
    if isinstance(part, bytes):
        return "OB", part + b"\0" * (len(part) % 2)
    made = []
    for open_item, children in part:
        ds = Dataset()
        for k, child in enumerate(children):
            add(ds, 0x00091010 + k, child, opened)
        ds.is_undefined_length_sequence_item = open_item
        made.append(ds)
    return "SQ", Sequence(made)


def add(ds: Dataset, tag: int, part: Any, opened: bool) -> None:
    vr, value = build(part, opened)
    ds.add_new(tag, vr, value)
    if vr == "SQ":
        ds[tag].is_undefined_length = opened


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.tuples(PARTS, st.booleans()), max_size=4),
    syntax=st.sampled_from([ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian]),
)
def test_any_structure_is_stepped_over(tmp_path: Path, parts: list[tuple[Any, bool]], syntax: str) -> None:
    """Whatever private structure stands before and among what we read, in whatever encoding: the same headers."""
    ds = dataset()
    plain = headers.read(write(tmp_path / "plain", ds)).headers
    whole = Dataset()
    whole.update(ds)
    for k, (part, opened) in enumerate(parts):
        for group in (0x0009, 0x0019, 0x0021):
            whole.add_new(group << 16 | 0x10, "LO", "ANYBODY")
            add(whole, group << 16 | (0x1030 + k), part, opened)
    whole.file_meta = ds.file_meta
    whole.file_meta.TransferSyntaxUID = syntax
    little = syntax != ExplicitVRBigEndian
    dcmwrite(tmp_path / "x.dcm", whole, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little, enforce_file_format=True)
    found = headers.read(tmp_path / "x.dcm").headers
    assert found == plain
    assert found.has_pixels
    assert SECRET not in str(found.patient)
