"""The life of `vitalcheck serve`, as a child process with real workers; only the network is a stand-in (stand_in.py)."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from objects import SECRET, dataset
from peers import Node, StoragePeer, dead_peer, is_alive, push, scanner, wait_for
from pydicom.dataset import FileDataset
from pydicom.uid import EncapsulatedPDFStorage, EnhancedSRStorage
from pynetdicom.sop_class import Verification

from listener.ledger import Ledger

T1 = {"SeriesDescription": f"T1 SE {SECRET}", "BodyPartExamined": "HEAD"}


def head(uid: str, count: int = 3, first: int = 1) -> list[FileDataset]:
    return [dataset(uid, number=n, **T1) for n in range(first, first + count)]


@pytest.fixture(scope="module")
def pacs() -> Iterator[StoragePeer]:
    with StoragePeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: StoragePeer) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node"), pacs.port) as started:
        yield started


def arrived(pacs: StoragePeer, uid: str) -> list[str]:
    return [ds.SOPInstanceUID for ds in pacs.received if ds.StudyInstanceUID == uid]


def test_a_head_is_answered_with_two_documents(node: Node, pacs: StoragePeer) -> None:
    """receiving > queued > analysing > delivering > delivered, and both documents are in the PACS once."""
    assert push(node.port, head("1.2.1")) == [0, 0, 0]
    told = node.wait_for_state("1.2.1", "delivered")
    assert [step["state"] for step in told["history"]] == ["receiving", "queued", "analysing", "delivering", "delivered"]
    assert (told["finding"]["label"], told["calling_ae"]) == ("glioma", "CT01")
    assert sorted(arrived(pacs, "1.2.1")) == sorted(document["sop_instance_uid"] for document in told["documents"])
    assert len(arrived(pacs, "1.2.1")) == 2


def test_the_same_study_again_adds_nothing(node: Node, pacs: StoragePeer) -> None:
    """A second push, and our own results sent to us, start no work."""
    push(node.port, head("1.2.2"))
    before = node.wait_for_state("1.2.2", "delivered")
    own = [ds for ds in pacs.received if ds.StudyInstanceUID == "1.2.2"]
    push(node.port, [*head("1.2.2"), *own])
    time.sleep(1.5)
    after = node.describe("1.2.2")
    assert (after["state"], after["history"], after["documents"]) == ("delivered", before["history"], before["documents"])
    assert len(arrived(pacs, "1.2.2")) == 2


def test_a_report_of_another_patient_quarantines_the_study(node: Node, pacs: StoragePeer) -> None:
    """Both are kept, nothing is answered, and the reason counts without naming anybody; a person may say `studies retry`."""
    sr = dataset("1.2.31", series=9, sop_class_uid=EnhancedSRStorage, PatientID="ANOTHER", Modality="SR")
    assert push(node.port, [*head("1.2.31"), sr]) == [0, 0, 0, 0]
    told = node.wait_for_state("1.2.31", "quarantined")
    assert "2 different Patient IDs" in told["reason"]
    assert len(told["instances"]) == 4
    assert not arrived(pacs, "1.2.31")


def test_an_image_after_the_verdict_gives_a_new_answer(node: Node, pacs: StoragePeer) -> None:
    """The larger set is analysed again and its documents have UIDs of their own."""
    push(node.port, head("1.2.3"))
    node.wait_for_state("1.2.3", "delivered")
    push(node.port, head("1.2.3", 1, first=4))
    told = wait_for(lambda: (d := node.describe("1.2.3"))["state"] == "delivered" and len(d["results"]) == 2 and d, 20, "a second result")
    assert [result["instances"] for result in told["results"]] == [3, 4]
    assert len(set(arrived(pacs, "1.2.3"))) == 4


def test_what_is_not_ours_is_declined_with_its_reason(node: Node, pacs: StoragePeer) -> None:
    """A study of reports without a worker, a knee by the rules; a head that cannot be read gets "not analysed, because" first."""
    push(node.port, [dataset("1.2.4", sop_class_uid=EncapsulatedPDFStorage), dataset("1.2.4", number=2, sop_class_uid=EnhancedSRStorage)])
    push(node.port, [dataset("1.2.5", SeriesDescription="T1", BodyPartExamined="KNEE")])
    push(node.port, [dataset("1.2.6", SeriesDescription="T2 TSE", BodyPartExamined="HEAD")])
    reports = node.wait_for_state("1.2.4", "declined")
    assert reports["reason"] == "no image that could be analysed: 1 Encapsulated PDF Storage, 1 Enhanced SR Storage"
    assert not reports["results"]
    assert node.wait_for_state("1.2.5", "declined")["reason"]
    assert arrived(pacs, "1.2.5") == []
    told = node.wait_for_state("1.2.6", "declined")
    assert [step["state"] for step in told["history"]][-2:] == ["delivering", "declined"]
    assert len(arrived(pacs, "1.2.6")) == 1


def test_pixels_that_cannot_be_read_quarantine_the_study(node: Node) -> None:
    """The error is told without a word of the study, the next study is answered, and a retry is a new attempt."""
    torn = head("1.2.7")
    torn[1].PixelData = b"\0" * 10
    push(node.port, torn)
    told = node.wait_for_state("1.2.7", "quarantined")
    assert told["reason"]
    assert SECRET not in str(told)
    push(node.port, head("1.2.8"))
    node.wait_for_state("1.2.8", "delivered")
    Ledger(node.state).retry("1.2.7", time.time())
    wait_for(lambda: (d := node.describe("1.2.7"))["state"] == "quarantined" and len(d["results"]) == 2, 20, "the second attempt")


def test_a_worker_that_dies_is_replaced(node: Node) -> None:
    """SIGKILL to the worker: another takes its slot and answers."""
    (old,) = node.worker_pids()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: node.worker_pids() and node.worker_pids() != [old], 20, "a new worker")
    push(node.port, head("1.2.9"))
    node.wait_for_state("1.2.9", "delivered", seconds=60)
    assert node.events("worker.ended")[-1]["exit"] == -signal.SIGKILL


def test_a_second_service_on_the_same_state_refuses_to_start(node: Node) -> None:
    """One line that names the folder, exit status 1, and the first goes on serving."""
    second = Node(node.folder, None)
    second.port = node.port
    assert second.start(ready=False).wait(60) != 0
    with scanner(node.port, [Verification]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


def test_nothing_of_the_patient_is_in_the_log(node: Node) -> None:
    """After all of the above, no name and no description has reached the log, the ledger's description or a path."""
    assert SECRET not in node.log_path.read_text()
    assert not [path for path in node.state.rglob("*") if re.search("Geheim|Patient", str(path))]


def test_sigterm_drains(node: Node) -> None:
    """Exit 0 within 30 s, no worker is left, nothing is torn. Runs last: it ends the module's node."""
    workers, began = node.worker_pids(), time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < 30
    assert not any(is_alive(pid) for pid in workers)
    assert node.events("service.stopped")
    assert list((node.state / "spool" / "incoming").iterdir()) == []


def test_a_destination_that_is_down_is_tried_again(tmp_path: Path) -> None:
    """The study waits in delivering, visibly; when the PACS comes up both documents arrive, once each."""
    down = dead_peer()
    with Node(tmp_path, down.port) as node:
        push(node.port, head("1.2.20"))
        waiting = wait_for(lambda: [d for d in node.describe("1.2.20")["deliveries"] if d["error"]], 30, "a failed delivery")
        assert "is it running" in waiting[0]["error"]
        assert node.describe("1.2.20")["state"] == "delivering"
        with StoragePeer(port=down.port) as pacs:
            told = node.wait_for_state("1.2.20", "delivered")
            assert len(arrived(pacs, "1.2.20")) == 2
        assert all(delivery["attempts"] >= 2 for delivery in told["deliveries"])


def test_a_ledger_that_is_gone_is_made_again(tmp_path: Path, pacs: StoragePeer) -> None:
    """Ledger deleted, spool there: what lies in the spool is answered again, whatever the engine remembers of it."""
    with Node(tmp_path, pacs.port) as node:
        push(node.port, head("1.2.30"))
        node.wait_for_state("1.2.30", "delivered")
        assert node.stop() == 0
        for file in node.state.glob("ledger.sqlite*"):
            file.unlink()
        node.start()
        assert node.wait_for_state("1.2.30", "delivered", seconds=60)["finding"]["label"] == "glioma"


def test_a_state_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    """Exit status 1, with the folder and how to mend it."""
    (tmp_path / "state").write_text("a file")
    node = Node(tmp_path, None)
    assert node.start(ready=False).wait(60) == 1
    assert f"{tmp_path / 'state'}: cannot be written to (File exists); give its owner" in node.log_path.read_text()
