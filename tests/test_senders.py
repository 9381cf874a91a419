"""Other people's senders against the running service: what they send is what is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from objects import dataset, write
from peers import FAIR, Node, Orthanc, need
from pydicom import dcmread
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom.dsutils import encode

CLASSES = (MRImageStorage, CTImageStorage, EncapsulatedPDFStorage)
STUDY = "1.2.98"
DIES_AT_ITS_END = "ProtocolStream as nullptr"  # gdcmscu 3.0.21, after the last response, whatever SCP it talks to, C-ECHO included


def storescu(node: Node, folder: Path) -> list[str]:
    return [need("storescu"), "-aet", "CT01", "-aec", "VITALCHECK", "127.0.0.1", str(node.port), "+sd", str(folder)]


def dcmsend(node: Node, folder: Path) -> list[str]:
    return [need("dcmsend"), "-aet", "CT01", "-aec", "VITALCHECK", "127.0.0.1", str(node.port), "+sd", str(folder)]


def gdcmscu(node: Node, folder: Path) -> list[str]:
    names = ["--aetitle", "CT01", "--call", "VITALCHECK"]
    return [need("gdcmscu"), "--store", *names, "-H", "127.0.0.1", "-p", str(node.port), "-r", "-i", str(folder)]


def pynetdicom(node: Node, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pynetdicom", "storescu", "127.0.0.1", str(node.port), str(folder)]
    return [*command, "-aet", "CT01", "-aec", "VITALCHECK", "-cx"]


@pytest.fixture
def study(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with one object of each class, in a study of its own, as every tool would write it: encoding it again changes no byte."""
    uid = f"{STUDY}.{abs(hash(request.node.name)) % 10**9}"
    for number, sop_class in enumerate(CLASSES, 1):
        write(tmp_path / "study", dataset(uid, series=number, sop_class_uid=sop_class, Modality="OT"))
    return tmp_path / "study"


def data_set_of(path: Path) -> bytes:
    """Without preamble and file meta information (PS3.10 7.1)."""
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def in_syntax_of(kept: Path, sent: Path) -> bytes:
    """What was sent, in the syntax that the tool chose to send it in: dcmsend writes explicit VR as implicit where both are accepted."""
    if dcmread(kept).file_meta.TransferSyntaxUID == dcmread(sent).file_meta.TransferSyntaxUID:
        return data_set_of(sent)
    assert dcmread(kept).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    return encode(dcmread(sent), True, True) or b""


def is_kept_as_sent(node: Node, study: Path) -> None:
    for sent in sorted(study.iterdir()):
        (kept,) = node.spool.glob(f"*/{sent.name}")
        assert data_set_of(kept) == in_syntax_of(kept, sent)


@pytest.mark.parametrize("tool", [storescu, dcmsend, gdcmscu, pynetdicom])
def test_what_a_tool_sends_is_kept_bit_exact(attacked: Node, study: Path, tool: Callable[[Node, Path], list[str]]) -> None:
    """storescu and dcmsend of dcmtk, gdcmscu, and pynetdicom's storescu deliver, and every data set lies there as in its file."""
    done = subprocess.run(tool(attacked, study), env=FAIR, timeout=30, capture_output=True, text=True)
    assert done.returncode == 0 or (tool is gdcmscu and DIES_AT_ITS_END in done.stderr), done.stdout + done.stderr
    is_kept_as_sent(attacked, study)


def test_what_orthanc_sends_is_kept_bit_exact(attacked: Node, study: Path, tmp_path: Path) -> None:
    """/modalities/AI/store of its REST interface delivers a whole study."""
    with Orthanc(tmp_path, attacked.port) as orthanc:
        stored = {orthanc.post("/instances", path.read_bytes())["ParentStudy"] for path in study.iterdir()}
        sent = orthanc.post("/modalities/AI/store", {"Resources": sorted(stored), "Synchronous": True})
        assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (len(CLASSES), 0)
    is_kept_as_sent(attacked, study)
