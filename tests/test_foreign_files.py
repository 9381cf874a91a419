"""Other people's files: all that lie in pydicom's wheel, one by one through the running service, each in its own transfer syntax."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from peers import Node, StoragePeer, scanner, wait_for
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import write_file_meta_info
from pynetdicom import _config
from pynetdicom.dsutils import split_dataset

from listener import headers
from listener.errors import NotDicom
from listener.isolation import Isolated
from pipeline.decode import Undecodable
from pipeline.records import Series, Slices

PYTHON = re.compile(r"Error\b|Exception|at \w+\.py")
FILES = Path(pydicom.__file__).parent / "data"
FINAL = ("delivered", "declined", "quarantined")


@dataclass
class Sent:
    """What became of one file: `said` is why it was not sent, or the status, or the state of its study."""

    said: str
    study_uid: str = ""
    reason: str = ""


def files() -> list[Path]:
    """Everything but Python and text."""
    found = (path for path in FILES.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".json", ".md"))
    return sorted(path for path in found if "__pycache__" not in path.parts)


def sendable(path: Path, folder: Path, taken: set[str]) -> tuple[Path, str]:
    """The data set of `path`, byte for byte, behind file meta information that names what it names; and its Study Instance UID.

    Where another file has that one, its last digits become others.
    """
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    meta, offset = split_dataset(path)
    data, uid = path.read_bytes()[offset:], str(ds.get("StudyInstanceUID", ""))
    if uid and uid in taken:
        own = f"{uid[:-3]}{100 + len(taken)}"
        assert uid.encode() in data
        data, uid = data.replace(uid.encode(), own.encode()), own
        ds.SOPInstanceUID = ds.SOPInstanceUID.replace(str(ds.StudyInstanceUID), own)
    taken.add(uid)
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        setattr(meta, f"MediaStorage{keyword}", ds.get(keyword) or meta.get(f"MediaStorage{keyword}") or "1.2.3")
    head = BytesIO()
    write_file_meta_info(head, meta)
    own_path = folder / f"{len(list(folder.glob('*.dcm')))}.dcm"
    own_path.write_bytes(b"\0" * 128 + b"DICM" + head.getvalue() + data)
    return own_path, uid


def send(path: Path, port: int) -> str:
    """On an association that asks for just this; what came of it."""
    meta = pydicom.filereader.read_file_meta_info(path)
    with scanner(port, [meta.MediaStorageSOPClassUID], syntaxes=[meta.TransferSyntaxUID]) as assoc:
        if not assoc.is_established:
            return "not accepted: no such presentation context"
        return f"0x{assoc.send_c_store(path).Status:04X}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sent]]:
    folder, found = tmp_path_factory.mktemp("foreign"), dict[str, Sent]()
    chunked, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True
    with warnings.catch_warnings(), StoragePeer() as pacs, Node(folder, pacs.port, completion={"quiet_seconds": 0.2}) as node:
        warnings.simplefilter("ignore")
        taken: set[str] = set()
        for path in files():
            found[str(path.relative_to(FILES))] = pushed(path, folder, taken, node)
        for sent in found.values():
            if sent.said == "0x0000":
                told = wait_for(lambda uid=sent.study_uid: (d := node.describe(uid))["state"] in FINAL and d, 60, sent.study_uid)
                sent.said, sent.reason = told["state"], told["reason"] or ""
        found[""] = Sent("log", reason=node.log_path.read_text())
    _config.STORE_SEND_CHUNKED_DATASET = chunked
    yield found


def pushed(path: Path, folder: Path, taken: set[str], node: Node) -> Sent:
    try:
        own, uid = sendable(path, folder, taken)
        return Sent(send(own, node.port), uid)
    except (InvalidDicomError, ValueError, AttributeError):
        return Sent("not sent: no DICOM file, or none that says its transfer syntax")


EXPECTED: dict[str, tuple[str, ...]] = {
    "not sent: no DICOM file, or none that says its transfer syntax": (
        *("*.txt", "*.icc", "*.dump", "*.gz", "*/README", "*NoMeta.dcm", "*/no_meta.dcm", "*/rtstruct.dcm", "*/meta_missing_tsyntax.dcm"),
    ),
    "not accepted: no such presentation context": (  # no image, or one without a SOP class
        *("palettes/*.dcm", "*/DICOMDIR*"),
    ),
    "0xC000": (  # without the UIDs that make an instance of a study
        *("*/chrSQEncoding*.dcm", "*/JPEGLSNearLossless_*.dcm", "*/SC_rgb_jls_lossy_*.dcm", "*/UN_sequence.dcm"),
        *("*/no_meta_group_length.dcm", "*/priv_SQ.dcm", "*/empty_charset_LEI.dcm", "*/nested_priv_SQ.dcm"),
    ),
    "declined": (  # another modality, a capture, a report; and MR that is T2-weighted, a localizer or a map
        *("charset_files/chr[!S]*.dcm", "test_files/693_J2KI.dcm", "*/CT_small.dcm", "*/ExplVR_BigEnd.dcm", "*/GDCMJ2K_TextGBR.dcm"),
        *("*/J2K_pixelrep_mismatch.dcm", "*/JPEG-lossy.dcm", "*/JPEG2000*.dcm", "*/JPGExtended.dcm", "*/MR_*.dcm"),
        *("*/SC_jpeg_*.dcm", "*/SC_rgb_[!j]*.dcm", "*/SC_rgb_jpeg*.dcm", "*/SC_ybr_*.dcm", "*/badVR.dcm", "*/dicomdirtests/[79]*/*/*"),
        *("*/IM0000*", "*/examples_*.dcm", "*/image_dfl.dcm", "*/liver_*.dcm", "*/reportsi*.dcm", "*/rtdose*.dcm", "*/rtplan*.dcm"),
        *("*/test-SR.dcm", "*/waveform_ecg.dcm"),
    ),
}


def test_every_file_ends_in_a_clear_state(outcomes: dict[str, Sent]) -> None:
    """The table: which file ends how. A change shows here."""
    for name, sent in outcomes.items():
        if name:
            wanted = [said for said, patterns in EXPECTED.items() if any(fnmatch(name, pattern) for pattern in patterns)]
            assert (name, [sent.said]) == (name, wanted), sent.reason


def test_every_other_end_has_a_sentence(outcomes: dict[str, Sent]) -> None:
    """Declined and quarantined say why, in words, without those of Python."""
    for name, sent in outcomes.items():
        if sent.said in ("declined", "quarantined"):
            assert re.fullmatch(r"[^\n]{20,}", sent.reason), name
            assert not PYTHON.search(sent.reason), (name, sent.reason)


def test_no_worker_died_of_it(outcomes: dict[str, Sent]) -> None:
    """The same worker lives from the first file to the last."""
    assert '"event": "worker.ended"' not in outcomes[""].reason


@pytest.fixture(scope="module")
def pixels() -> dict[str, Slices | str]:
    """What decoding gives for each file that is an instance, whether or not a study would get that far: slices, or why there are none."""
    found: dict[str, Slices | str] = {}
    with Isolated(1 << 30, 20.0) as decoder:
        for path in files():
            try:
                instance = headers.read(path)
                found[path.name] = decoder(Series(instance.series_uid, (instance,)))
            except NotDicom:
                continue
            except Undecodable as error:
                found[path.name] = error.cause
    return found


def test_pixels_or_a_sentence(pixels: dict[str, Slices | str]) -> None:
    """Nothing crashes the decoder, and what cannot be read is told in words."""
    told = {name: found for name, found in pixels.items() if isinstance(found, str)}
    assert not {name: why for name, why in told.items() if PYTHON.search(why) or "crashed" in why or len(why) < 20}
    assert len(pixels) - len(told) > 60


def test_one_picture_in_every_syntax(pixels: dict[str, Slices | str]) -> None:
    """MR_small lies there in eight encodings, all lossless: all give the same numbers."""
    kinds = ("", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded")
    first, *others = (pixels[f"MR_small{kind}.dcm"] for kind in kinds)
    assert isinstance(first, Slices)
    assert first.pixels.shape == (1, 64, 64)
    for other in others:
        assert isinstance(other, Slices)
        assert np.array_equal(other.pixels, first.pixels)
