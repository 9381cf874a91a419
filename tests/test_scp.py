"""listener/scp.py over real sockets: pynetdicom and dcmtk as scanners."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from objects import dataset, write
from peers import FAIR, free_port, need, push, scanner, store_as, wait_for
from pydicom.uid import EnhancedSRStorage, ImplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind, Verification
from structlog.testing import capture_logs

from listener import metrics
from listener.committer import Committer
from listener.config import Listener, Peer
from listener.errors import NoListen
from listener.incoming import Room
from listener.ledger import Ledger
from listener.scp import Scp
from listener.spool import LARGEST, Spool
from pipeline.records import Instance


class Receiver:
    """An Scp with its spool and ledger, and how often it said that something was kept."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.ledger = Ledger(folder)
        self.kept = 0
        settings = {"host": "127.0.0.1", "port": 0, "peers": (Peer(ae_title="CT01"),)} | settings
        free = settings.pop("min_free_bytes", 0)
        listener = Listener(**settings)
        self.committer = Committer(listener, self.ledger)
        self.scp = Scp(listener, Spool(folder, self.ledger, free), self._on_kept, self.committer)
        self.port = self.scp.start()

    def _on_kept(self, instance: Instance) -> None:
        self.kept += 1

    def instances(self) -> int:
        return sum(line.instances for line in self.ledger.studies())


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path)
    yield made
    made.scp.stop(1.0)


def rejection(port: int, **names: str) -> tuple[int, int, int] | None:
    """Result, source and reason of the A-ASSOCIATE-RJ, or None where we may come in."""
    with scanner(port, [Verification], **names) as assoc:
        answer = assoc.acceptor.primitive
        return (answer.result, answer.result_source, answer.diagnostic) if assoc.is_rejected else None


def test_echo(receiver: Receiver) -> None:
    """A known peer's C-ECHO is answered 0x0000."""
    with scanner(receiver.port, [Verification]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


def test_an_acknowledged_instance_is_in_the_ledger(receiver: Receiver) -> None:
    """0x0000 means bytes and row, and the service is told once for each."""
    assert push(receiver.port, [dataset(number=n) for n in (1, 2, 3)]) == [0, 0, 0]
    study = receiver.ledger.study("1.2.3")
    assert study is not None
    assert (len(study.instances), receiver.kept, study.calling_ae, study.called_ae) == (3, 3, "CT01", "VITALCHECK")
    assert receiver.ledger.describe("1.2.3")["state"] == "receiving"


def test_a_sender_does_not_wait_for_delayed_acknowledgements(receiver: Receiver) -> None:
    """A sender that keeps the end of a data set until its command is acknowledged (RFC 896) has it at once, not after 40 ms."""
    took = []
    with scanner(receiver.port, [MRImageStorage]) as assoc:
        for ds in [dataset(number=n) for n in range(1, 31)]:
            began = time.perf_counter()
            assert assoc.send_c_store(ds).Status == 0x0000
            took.append(time.perf_counter() - began)
    assert sorted(took)[7] < 0.040  # the quickest quarter of them, for the machine may be busy


def test_strangers_are_rejected(receiver: Receiver) -> None:
    """Deny by default: an unknown calling AE and a wrong called AE are rejected permanently, each with its own reason."""
    assert rejection(receiver.port) is None
    assert rejection(receiver.port, calling="STRANGER") == (1, 1, 3)
    assert rejection(receiver.port, called="SOMEONE") == (1, 1, 7)
    with scanner(receiver.port, [Verification]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


def test_a_state_folder_that_is_gone_is_for_now(tmp_path: Path) -> None:
    """A lost mount: scanners are told to try again, not that nobody knows them; when it is back, so are they."""
    (tmp_path / "state").mkdir()
    receiver = Receiver(tmp_path / "state", min_free_bytes=1)
    (tmp_path / "state").rename(tmp_path / "gone")
    with capture_logs() as told:
        assert rejection(receiver.port) == (2, 3, 1)
    assert "state.dir cannot be read (No such file or directory)" in told[-1]["reason"]
    (tmp_path / "gone").rename(tmp_path / "state")
    assert rejection(receiver.port) is None
    receiver.scp.stop(1.0)


def test_who_could_not_be_judged_may_try_again(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging that fails lets nobody in, and calls nobody a stranger."""
    monkeypatch.setattr("listener.peers.judge", lambda *_: 1 / 0)
    assert rejection(receiver.port) == (2, 3, 1)


def test_a_peer_may_be_tied_to_a_network(tmp_path: Path) -> None:
    """The right name from the wrong address is a stranger."""
    elsewhere, here = Peer(ae_title="CT01", host="10.1.0.0/16"), Peer(ae_title="CT02", host="127.0.0.0/8")
    receiver = Receiver(tmp_path, peers=(elsewhere, here))
    assert rejection(receiver.port, calling="CT01") == (1, 1, 3)
    assert rejection(receiver.port, calling="CT02") is None
    receiver.scp.stop(1.0)


def test_too_many_associations_are_rejected_for_now(tmp_path: Path) -> None:
    """Above listener.max_associations the rejection is transient (local limit exceeded), and a free place is given away again."""
    receiver = Receiver(tmp_path, max_associations=1)
    with scanner(receiver.port, [Verification]) as first:
        assert first.is_established
        assert rejection(receiver.port) == (2, 3, 2)
    wait_for(lambda: rejection(receiver.port) is None, 5, "a free place")
    receiver.scp.stop(1.0)


def test_only_storage_and_verification_are_negotiated(receiver: Receiver) -> None:
    """A query is not accepted, an instance in JPEG 2000 or implicit VR is."""
    with scanner(receiver.port, [PatientRootQueryRetrieveInformationModelFind, Verification]) as assoc:
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [Verification]
    for syntax in (JPEG2000Lossless, ImplicitVRLittleEndian):
        with scanner(receiver.port, [MRImageStorage], syntaxes=[syntax]) as assoc:
            assert [context.transfer_syntax for context in assoc.accepted_contexts] == [[syntax]]


def test_an_association_that_agrees_on_nothing_ends_too(receiver: Receiver) -> None:
    """A peer that offers only what we do not know is let in, hangs up, and is not counted as open for ever."""
    before = metrics.open_associations._value.get()
    with scanner(receiver.port, [PatientRootQueryRetrieveInformationModelFind]) as assoc:
        assert not assoc.accepted_contexts
    wait_for(lambda: not receiver.scp._sessions, 5, "the end of the association")
    assert metrics.open_associations._value.get() == before


def test_duplicates_and_conflicts_are_acknowledged(receiver: Receiver) -> None:
    """The same bytes again, and other bytes under the same UID, are 0x0000; only the first is a member of the study."""
    assert push(receiver.port, [dataset(), dataset(), dataset(EchoTime="5")]) == [0, 0, 0]
    assert (receiver.instances(), receiver.kept) == (1, 1)
    assert len(receiver.ledger.describe("1.2.3")["kept_aside"]) == 1


def test_a_data_set_that_is_not_what_it_was_announced_as(receiver: Receiver) -> None:
    """0xA900 where the UIDs of command and data set differ, 0xC000 where the UID is none; the association goes on."""
    with scanner(receiver.port, [MRImageStorage], syntaxes=["1.2.840.10008.1.2.1"]) as assoc:
        assert store_as(assoc, dataset(), "1.2.3.9.9") == 0xA900
        assert store_as(assoc, dataset(), "../../x") == 0xC000
        bare = dataset()
        del bare.StudyInstanceUID
        assert store_as(assoc, bare, bare.SOPInstanceUID) == 0xC000
        assert assoc.send_c_store(dataset()).Status == 0x0000
    assert receiver.instances() == 1


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """Below state.min_free_bytes an open association gets 0xA700 and stays open, a new one is rejected for now; with space both go on."""
    ledger = Ledger(tmp_path)
    spool = Spool(tmp_path, ledger, 0)
    scp = Scp(Listener(host="127.0.0.1", port=0, peers=(Peer(ae_title="CT01"),)), spool, lambda _: None, Committer(Listener(), ledger))
    port = scp.start()
    with scanner(port, [MRImageStorage]) as assoc:
        spool._room = Room(LARGEST, 1 << 62)
        assert [assoc.send_c_store(dataset(number=n)).Status for n in (1, 2)] == [0xA700, 0xA700]
        assert rejection(port) == (2, 3, 1)
        spool._room = Room(LARGEST, 0)
        assert [assoc.send_c_store(dataset(number=n)).Status for n in (1, 2)] == [0, 0]
    assert rejection(port) is None
    scp.stop(1.0)


def test_an_aborted_association_keeps_what_was_acknowledged(receiver: Receiver) -> None:
    """The sender that dies after two instances leaves two."""
    with scanner(receiver.port, [MRImageStorage]) as assoc:
        for n in (1, 2):
            assert assoc.send_c_store(dataset(number=n)).Status == 0x0000
        assoc.abort()
    assert receiver.instances() == 2
    wait_for(lambda: not receiver.scp._ae.active_associations, 5, "the end of the association")


def test_stopping_lets_open_associations_end(receiver: Receiver) -> None:
    """New ones are refused at once, the open one may finish within the patience it is given."""
    with scanner(receiver.port, [MRImageStorage]) as assoc:
        stopping = threading.Thread(target=receiver.scp.stop, args=(5.0,))
        stopping.start()
        wait_for(lambda: not receiver.scp.listening, 2, "the end of listening")
        time.sleep(0.3)
        assert assoc.send_c_store(dataset()).Status == 0x0000
    stopping.join(5)
    assert not stopping.is_alive()
    with scanner(receiver.port, [Verification]) as late:
        assert not late.is_established


def test_a_taken_port_says_so(receiver: Receiver, tmp_path: Path) -> None:
    """One line with the port, why, and the key to change."""
    with pytest.raises(NoListen, match=rf"cannot listen on 127.0.0.1:{receiver.port} .*listener.port"):
        Receiver(tmp_path, port=receiver.port)


def test_dcmtk_is_understood(receiver: Receiver, tmp_path: Path) -> None:
    """storescu and echoscu of dcmtk end with 0, and every instance is there, an SR beside the images included."""
    storescu, echoscu = need("storescu"), need("echoscu")
    names = ["-aet", "CT01", "-aec", "VITALCHECK", "127.0.0.1", str(receiver.port)]
    folder = tmp_path / "study"
    for n in range(5):
        write(folder, dataset(number=n))
    write(folder, dataset(series=2, sop_class_uid=EnhancedSRStorage))
    assert subprocess.run([echoscu, *names], env=FAIR, timeout=20).returncode == 0
    assert subprocess.run([storescu, "-R", *names, "+sd", str(folder)], env=FAIR, timeout=20).returncode == 0
    assert receiver.instances() == 6
    sent = (folder / "1.2.3.1.1.dcm").read_bytes()
    kept = receiver.ledger.find("1.2.3", "1.2.3.1.1")
    assert kept is not None
    assert kept.path.read_bytes()[-512:] == sent[-512:]


def test_no_server_is_left(tmp_path: Path) -> None:
    """After stop the port is free again."""
    port = free_port()
    for _ in range(2):
        receiver = Receiver(tmp_path, port=port)
        receiver.scp.stop(1.0)
