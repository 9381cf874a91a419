"""Storage commitment (PS3.4 annex J) over real sockets and real files: pynetdicom and Orthanc as scanners that want to delete."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from objects import dataset
from peers import Node, Orthanc, free_port, push, wait_for
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as PushModel
from pynetdicom.sop_class import StorageCommitmentPushModelInstance as WellKnown
from pynetdicom.sop_class import Verification
from sqlalchemy.exc import IntegrityError

from listener import commitment, commitment_wire, committer
from listener.commitment import Due
from listener.committer import LONGEST_PAUSE, Committer, pause_after, where
from listener.config import Listener, Peer
from listener.ledger import FILE, Ledger
from listener.requestor import associate
from listener.schema import instances
from listener.scp import Scp
from listener.spool import Spool

UID = "1.2.3.1.{}".format  # of the instances that `dataset` makes


class Reports:
    """What a scanner was told: (event type, kept, {failed: reason}, transaction). `status` is its answer."""

    def __init__(self, status: int = 0x0000) -> None:
        self.status, self.told = status, SimpleQueue[tuple[int, list[str], dict[str, int], str]]()

    def __call__(self, event: Any) -> tuple[int, None]:
        ds = event.event_information
        kept = [str(item.ReferencedSOPInstanceUID) for item in ds.get("ReferencedSOPSequence", [])]
        failed = {str(item.ReferencedSOPInstanceUID): int(item.FailureReason) for item in ds.get("FailedSOPSequence", [])}
        self.told.put((event.event_type, kept, failed, str(ds.TransactionUID)))
        return self.status, None

    def next(self, seconds: float = 10.0) -> tuple[int, list[str], dict[str, int], str]:
        return self.told.get(timeout=seconds)


class House:
    """A receiver that commits, over one state folder; CT01's reports go to port `reports`."""

    def __init__(self, folder: Path, reports: int | None = None) -> None:
        self.ledger = Ledger(folder)
        self.settings = Listener(host="127.0.0.1", port=0, peers=(Peer(ae_title="CT01", port=reports),))
        self.committer = Committer(self.settings, self.ledger)
        self.spool = Spool(folder, self.ledger, 0)
        self._scp = Scp(self.settings, self.spool, lambda _: None, self.committer)
        self.port = self._scp.start()
        self.committer.start()

    def stop(self) -> None:
        self._scp.stop(1.0)
        self.committer.stop(5.0)
        self.ledger.close()

    def open_reports(self) -> int:
        return self.ledger.totals().commitments_open


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a report waits a fifth of the time for its peer to hang up; services that are started wait all of it."""
    for module in (commitment, committer):
        monkeypatch.setattr(module, "GRACE", 0.2)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.stop()


@contextmanager
def listening(reports: Reports, port: int) -> Iterator[None]:
    """A scanner that takes reports on associations that we open, as their SCP."""
    ae = AE("CT01")
    ae.add_supported_context(PushModel, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports)])
    try:
        yield
    finally:
        server.shutdown()


@contextmanager
def asking(port: int, reports: Reports | None = None, more: Sequence[str] = ()) -> Iterator[Any]:
    """An association of CT01 that may ask for commitment, and hear `reports` on it."""
    ae = AE("CT01")
    for sop_class in (PushModel, Verification, *more):
        ae.add_requested_context(sop_class)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, reports)] if reports else []
    assoc = associate(ae, "127.0.0.1", port, ae_title="VITALCHECK", evt_handlers=handlers)
    assert assoc.is_established
    try:
        yield assoc
    finally:
        if reports:
            time.sleep(0.1)  # a response that crosses its own release is lost, and the library waits 30 s for what never comes
        if assoc.is_established:
            assoc.release()


def information(transaction: str, *uids: str, sop_class_uid: str = MRImageStorage) -> Dataset:
    ds = Dataset()
    ds.TransactionUID, ds.ReferencedSOPSequence = transaction, []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def ask(assoc: Any, ds: Dataset | None, action: int = 1, instance: str = WellKnown) -> int:
    """The status of the N-ACTION."""
    status, _ = assoc.send_n_action(ds, action, PushModel, instance)
    return int(status.Status)


def ask_and_leave(port: int, ds: Dataset) -> None:
    with asking(port) as assoc:
        assert ask(assoc, ds) == 0x0000


def test_a_report_on_the_association_that_asked(house: House) -> None:
    """A scanner that stays on the line is told there, while its other requests are served; the promise is in the ledger."""
    push(house.port, [dataset(number=n) for n in (1, 2)])
    reports = Reports()
    with asking(house.port, reports) as assoc:
        assert ask(assoc, information("1.9.1", UID(1), UID(2))) == 0x0000
        assert assoc.send_c_echo().Status == 0x0000
        assert reports.next() == (1, [UID(1), UID(2)], {}, "1.9.1")
        wait_for(lambda: house.open_reports() == 0, 5, "the accepted report")
        assert assoc.send_c_echo().Status == 0x0000
    assert all(line["committed_at"] for line in house.ledger.describe("1.2.3")["instances"])


def test_what_is_not_kept_is_reported_as_failed(house: House, tmp_path: Path) -> None:
    """Altered on disk, gone from it, of another class or never received: each fails with its reason, and the intact one is kept."""
    push(house.port, [dataset(number=n) for n in (1, 2, 3)])
    folder = tmp_path / "spool" / "1.2.3"
    altered = folder / f"{UID(2)}.dcm"
    data = bytearray(altered.read_bytes())
    data[-2] ^= 1
    altered.write_bytes(data)
    (folder / f"{UID(3)}.dcm").unlink()
    reports = Reports()
    with asking(house.port, reports) as assoc:
        ask(assoc, information("1.9.2", UID(1), UID(2), UID(3), UID(4)))
        assert reports.next() == (2, [UID(1)], {UID(2): 0x0110, UID(3): 0x0110, UID(4): 0x0112}, "1.9.2")
        ask(assoc, information("1.9.3", UID(1), sop_class_uid=CTImageStorage))
        assert reports.next() == (2, [], {UID(1): 0x0119}, "1.9.3")
    with house.ledger.transaction() as c:
        assert set(commitment.committed_at(c, "1.2.3")) == {UID(1)}


def test_other_bytes_under_the_same_uid(house: House, tmp_path: Path) -> None:
    """The scanner may mean what was kept aside, so that has to be intact too."""
    push(house.port, [dataset(), dataset(SeriesDescription="other")])
    (aside,) = (tmp_path / "spool" / "1.2.3").glob("*.aside")
    reports = Reports()
    with asking(house.port, reports) as assoc:
        ask(assoc, information("1.9.4", UID(1)))
        assert reports.next()[0] == 1
        aside.write_bytes(aside.read_bytes()[:-2])
        ask(assoc, information("1.9.5", UID(1)))
        assert reports.next()[2] == {UID(1): 0x0110}


def test_a_report_on_a_new_association(tmp_path: Path) -> None:
    """A scanner that hung up is told at its port, again and again until it accepts; a restart of ours in between forgets nothing."""
    port = free_port()
    house = House(tmp_path, port)
    push(house.port, [dataset()])
    ask_and_leave(house.port, information("1.9.6", UID(1)))
    wait_for(lambda: error_of(house), 10, "a failed attempt")
    house.stop()
    house = House(tmp_path, port)
    refusing, accepting = Reports(0x0110), Reports()
    with listening(refusing, port):
        with house.ledger.transaction(write=True) as c:
            commitment.wake(c, 0.0)
        house.committer._to_report.set()
        assert refusing.next() == (1, [UID(1)], {}, "1.9.6")
        wait_for(lambda: "0x0110" in error_of(house), 5, "the refusal")
    house.stop()
    with listening(accepting, port):
        house = House(tmp_path, port)
        assert accepting.next() == (1, [UID(1)], {}, "1.9.6")
        wait_for(lambda: house.open_reports() == 0, 5, "the accepted report")
    house.stop()


def error_of(house: House) -> str:
    """Of the last attempt to report."""
    with house.ledger.transaction() as c:
        return str(c.exec_driver_sql("SELECT error FROM commitments").scalar_one())


def test_without_a_port_the_way_is_named(house: House) -> None:
    """A scanner that hung up and has no port cannot be told; the ledger says how to mend it."""
    push(house.port, [dataset()])
    ask_and_leave(house.port, information("1.9.7", UID(1)))
    wait_for(lambda: "set listener.peers[].port" in error_of(house), 10, "the reason")


def test_requests_that_are_not_taken(house: House) -> None:
    """Each mistake has its status of PS3.7, and the association goes on."""
    empty, nameless = information("1.9.8"), information("1.9.8", UID(1))
    del nameless.TransactionUID
    without_class = information("1.9.8", UID(1))
    del without_class.ReferencedSOPSequence[0].ReferencedSOPClassUID
    with asking(house.port) as assoc:
        assert ask(assoc, information("1.9.8", UID(1)), action=2) == 0x0123
        assert ask(assoc, information("1.9.8", UID(1)), instance="1.2.3") == 0x0112
        for wrong in (None, empty, nameless, without_class, information("x/../y", UID(1)), information("1.9.8", "../../x")):
            assert ask(assoc, wrong) == 0x0115
        assert assoc.send_c_echo().Status == 0x0000
    assert house.open_reports() == 0


def test_the_same_transaction_twice(house: House) -> None:
    """For the same instances it is answered again; for others it fails, for that Transaction UID is in use (0x0131)."""
    push(house.port, [dataset(number=n) for n in (1, 2)])
    reports = Reports()
    with asking(house.port, reports) as assoc:
        for _ in range(2):
            assert ask(assoc, information("1.9.9", UID(1))) == 0x0000
            assert reports.next() == (1, [UID(1)], {}, "1.9.9")
        assert ask(assoc, information("1.9.9", UID(2))) == 0x0000
        assert reports.next() == (2, [], {UID(2): 0x0131}, "1.9.9")
    wait_for(lambda: house.open_reports() == 0, 5, "the last report")


def test_asked_again_while_it_is_told(tmp_path: Path) -> None:
    """The answer to the report of before settles nothing for who asked again meanwhile."""
    request = commitment.Request("CT01", "VITALCHECK", "127.0.0.1", "1.9.12", (commitment.Reference(MRImageStorage, UID(1)),))
    ledger = Ledger(tmp_path)
    with ledger.transaction(write=True) as c:
        number = commitment.ask(c, request, 1.0)
        commitment.checked(c, number, [commitment.KEPT], 1.0, 2.0)
        (told,) = commitment.due(c, 2.0)
        assert commitment.ask(c, request, 3.0) == number
        commitment.not_reported(c, told, 1, "no answer", None)
        commitment.reported(c, told, 4.0)
        assert (commitment.unchecked(c), commitment.open_reports(c)) == ([number], 1)
        commitment.checked(c, number, [commitment.KEPT], 4.0, 5.0)
        (again,) = commitment.due(c, 5.0)
        commitment.reported(c, again, 6.0)
        assert commitment.open_reports(c) == 0
    ledger.close()


def test_more_references_than_may_be(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for more than the limit is refused for resources, one at the limit is taken; both on one association."""
    monkeypatch.setattr(commitment_wire, "MOST_REFERENCES", 2000)
    uids = [f"1.2.3.4.{n}" for n in range(2001)]
    reports = Reports()
    with asking(house.port, reports) as assoc:
        assert ask(assoc, information("1.9.10", *uids)) == 0x0213
        assert ask(assoc, information("1.9.10", *uids[:2000])) == 0x0000
        kind, kept, failed, _ = reports.next()
    assert (kind, kept, set(failed.values()), len(failed)) == (2, [], {0x0112}, 2000)


def test_stored_while_it_is_told(house: House) -> None:
    """A scanner that stores on while its report arrives loses nothing."""
    reports = Reports()
    with asking(house.port, reports, [MRImageStorage]) as assoc:
        assert assoc.send_c_store(dataset()).Status == 0x0000
        assert ask(assoc, information("1.9.11", UID(1))) == 0x0000
        number, told = 1, False
        while not told and number < 500:
            number += 1
            assert assoc.send_c_store(dataset(number=number)).Status == 0x0000
            told = not reports.told.empty()
        assert reports.next()[0] == 1
        assert assoc.send_c_echo().Status == 0x0000


def test_committed_instances_cannot_be_deleted(house: House) -> None:
    """Whatever deletes the row of an instance that was promised fails."""
    push(house.port, [dataset(number=n) for n in (1, 2)])
    reports = Reports()
    with asking(house.port, reports) as assoc:
        ask(assoc, information("1.9.12", UID(1)))
        reports.next()
    delete = instances.delete().where(instances.c.sop_instance_uid == UID(1))
    with pytest.raises(IntegrityError), house.ledger.transaction(write=True) as c:
        c.execute(delete)
    with house.ledger.transaction(write=True) as c:
        c.execute(instances.delete().where(instances.c.sop_instance_uid == UID(2)))


@pytest.mark.parametrize("version", [1, 2])
def test_ledgers_of_earlier_versions_are_taken_over(tmp_path: Path, version: int) -> None:
    """A ledger from before storage commitment gets its tables, and its instances can be committed to."""
    house = House(tmp_path)
    push(house.port, [dataset()])
    house.stop()
    with sqlite3.connect(tmp_path / FILE) as c:
        c.executescript("DROP TABLE committed; DROP TABLE commitments; DROP INDEX instances_by_uid")
        if version == 1:
            c.execute("ALTER TABLE jobs DROP COLUMN replaces")
        c.execute(f"PRAGMA user_version={version}")
    c.close()
    house, reports = House(tmp_path), Reports()
    with asking(house.port, reports) as assoc:
        ask(assoc, information("1.9.13", UID(1)))
        assert reports.next()[0] == 1
    house.stop()


def test_where_reports_go() -> None:
    """To the peer's host where that is an address, else to where it asked from; only a peer with a port, and of that network."""
    due = Due(1, "CT01", "VITALCHECK", "10.1.2.3", 0, 1.0)
    assert where(due, [Peer(ae_title="CT01", port=104)]) == ("10.1.2.3", 104)
    assert where(due, [Peer(ae_title="CT01", host="10.1.0.0/16", port=104)]) == ("10.1.2.3", 104)
    assert where(due, [Peer(ae_title="CT01", host="10.1.2.3", port=105)]) == ("10.1.2.3", 105)
    assert where(due, [Peer(ae_title="CT01", host="10.2.0.0/16", port=104), Peer(ae_title="MR01", port=104), Peer(ae_title="CT01")]) is None


def test_pauses_grow() -> None:
    """Attempts are 5 s apart, then twice as long each time, and an hour at most."""
    assert [pause_after(n) for n in (1, 2, 3)] == [5, 10, 20]
    assert pause_after(99) == LONGEST_PAUSE


def test_killed_between_request_and_report(tmp_path: Path) -> None:
    """A request that was answered before the service was killed is checked and reported after the restart, to the scanner's port."""
    port, reports = free_port(), Reports()
    node = Node(tmp_path, listener={"peers": [{"ae_title": "CT01", "port": port}]})
    try:
        node.start(ready=False).wait_for_event("service.started", 60)
        push(node.port, [dataset()])
        ask_and_leave(node.port, information("1.9.14", UID(1)))
        node.kill()
        assert node.events("commitment.reported") == []
        with listening(reports, port):
            node.start(ready=False)
            assert reports.next(60) == (1, [UID(1)], {}, "1.9.14")
            assert node.wait_for_event("commitment.reported")["failures"] == 0
    finally:
        node.end()


def test_orthanc_asks_across_a_restart(tmp_path: Path) -> None:
    """Orthanc's REST interface says Success for what it stored here and asked us to keep, though we were killed in between."""
    with Orthanc(tmp_path, port := free_port(), commitments=True) as orthanc:
        peers = [{"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port}, {"ae_title": "CT01"}]
        node = Node(tmp_path, listener={"port": port, "peers": peers})
        node.port = port
        try:
            node.start(ready=False).wait_for_event("service.started", 60)
            stream = BytesIO()
            dataset().save_as(stream, enforce_file_format=True)
            identifier = orthanc.post("/instances", stream.getvalue())["ID"]
            orthanc.post("/modalities/AI/store", [identifier])
            asked = orthanc.post("/modalities/AI/storage-commitment", {"Resources": [identifier]})
            node.kill()
            assert orthanc.get(f"/storage-commitment/{asked['ID']}")["Status"] == "Pending"
            node.start(ready=False)
            told = wait_for(lambda: settled(orthanc, asked["ID"]), 60, "Orthanc's report")
            assert (told["Status"], [found["SOPInstanceUID"] for found in told["Success"]]) == ("Success", [UID(1)])
            gone = {"DicomInstances": [{"SOPClassUID": MRImageStorage, "SOPInstanceUID": UID(9)}]}
            asked = orthanc.post("/modalities/AI/storage-commitment", gone)
            told = wait_for(lambda: settled(orthanc, asked["ID"]), 20, "Orthanc's second report")
            assert (told["Status"], [found["SOPInstanceUID"] for found in told["Failures"]]) == ("Failure", [UID(9)])
        finally:
            node.end()


def settled(orthanc: Orthanc, transaction: str) -> Any:
    told = orthanc.get(f"/storage-commitment/{transaction}")
    return told if told["Status"] != "Pending" else None
