"""listener/wire.py: what of pynetdicom it stands on, and what it adds to it. What attackers do is in test_holes.py."""

from __future__ import annotations

import hashlib
import inspect
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pynetdicom
import pytest
from objects import dataset
from peers import scanner, wait_for
from pydicom.uid import MRImageStorage
from pynetdicom import acse, association, dimse, dul, fsm, transport
from pynetdicom.sop_class import Verification
from test_scp import Receiver

from listener.upper import _Bell

OVERRIDDEN = {  # what we replace or call of the library's private parts: sha256 of its source, so that a change is seen and read
    "dul.DULServiceProvider.__init__": "c82dafa9438d",
    "dul.DULServiceProvider.run_reactor": "e3a10eb3a093",
    "dul.DULServiceProvider._is_transport_event": "8725ed03bb8f",
    "dul.DULServiceProvider._process_recv_primitive": "4c0ebbb3e646",
    "dul.DULServiceProvider._read_pdu_data": "19f2d4e38c13",
    "dul.DULServiceProvider.kill_dul": "5ceccf8dd01c",
    "dul.DULServiceProvider.stop_dul": "28a7e0be126e",
    "association.Association.__init__": "eb07516b8009",
    "association.Association._run_reactor": "f28838c5559e",
    "association.Association.run_reactor": "ed8bbbe3b3d6",
    "association.Association._serve_request": "2f24c1759cdf",
    "association.Association.send_c_echo": "664d0e9b0ab2",
    "association.Association.send_c_store": "fa5a8127f349",
    "association.Association.send_n_event_report": "e3d427e77369",
    "association.Association.kill": "8f9713666a7f",
    "association.Association.abort": "de1cee39dfe3",
    "dimse.DIMSEServiceProvider.__init__": "bbecd186810e",
    "dimse.DIMSEServiceProvider.get_msg": "890e3e04283f",
    "dimse.DIMSEServiceProvider.peek_msg": "f57f51ddcd3e",
    "dimse.DIMSEServiceProvider.receive_primitive": "5f99c86b14a1",
    "dimse.DIMSEServiceProvider.send_msg": "a839cf2fb469",
    "transport.AssociationSocket.__init__": "1f0325fdef2c",
    "transport.AssociationSocket.ready": "3eb58e3d39dc",
    "transport.AssociationSocket.recv": "6bc20a33b1b7",
    "transport.AssociationSocket.send": "1ea8158c0b51",
    "transport.AssociationSocket.close": "c726c8db5381",
    "transport.RequestHandler._create_association": "05c8d12b7986",
    "transport.AssociationServer.__init__": "edacb98bdfb7",
    "transport.AssociationServer.get_request": "925a4f3a3042",
    "transport.AssociationServer.process_request": "4fa44ac5b54b",
    "transport.AssociationServer.service_actions": "0a0853a3615a",
    "transport.ThreadedAssociationServer.process_request_thread": "9e76e9b9c8a3",
    "acse.ACSE._negotiate_as_acceptor": "fffd360957c4",
    "acse.ACSE.is_release_requested": "894b33d21a8d",
    "acse.ACSE.is_aborted": "ad2eb3f545a9",
    "fsm.StateMachine.do_action": "9a883f44c7f3",
}
MODULES = {module.__name__.rpartition(".")[2]: module for module in (acse, association, dimse, dul, fsm, transport)}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_we_override_is_what_we_read(name: str) -> None:
    """A private part of the library that changed is named here: read it, adapt wire.py or requestor.py, then write down its new digest."""
    module, owner, part = name.split(".")
    found = inspect.getattr_static(getattr(MODULES[module], owner), part)
    source = inspect.getsource(found.fget if isinstance(found, property) else found)
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == OVERRIDDEN[name]


def test_the_library_is_pinned() -> None:
    """Another version may be as good, but nobody has looked."""
    assert pynetdicom.__version__ == "3.0.4"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path, acse_seconds=30.0, network_seconds=1.0)
    yield made
    made.scp.stop(1.0)


def cpu() -> float:
    spent = os.times()
    return spent.user + spent.system


def test_who_waits_does_not_work(tmp_path: Path) -> None:
    """Sixteen open associations in which nothing happens cost next to nothing; the library's threads ask a thousand times a second."""
    receiver = Receiver(tmp_path)
    idle = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(16)]
    time.sleep(0.3)
    before = cpu()
    time.sleep(1.0)
    assert cpu() - before < 0.2
    for connection in idle:
        connection.close()
    receiver.scp.stop(1.0)


def test_silent_connections_make_room(receiver: Receiver) -> None:
    """Of a hundred connections that ask for nothing the oldest are closed, and a scanner comes in at once."""
    silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(100)]
    with scanner(receiver.port, [Verification]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000
    silent[0].settimeout(3)
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()


def test_silence_ends_an_association(receiver: Receiver) -> None:
    """After listener.network_seconds without a PDU it is aborted, and one that goes on sending is not."""
    with scanner(receiver.port, [MRImageStorage]) as assoc:
        for number in range(1, 5):
            assert assoc.send_c_store(dataset(number=number)).Status == 0x0000
            time.sleep(0.4)  # longer than network_seconds in all
        wait_for(lambda: assoc.is_aborted or not assoc.is_alive(), 4, "the abort")
    wait_for(lambda: not receiver.scp._sessions, 3, "the end of the session")


def test_stopping_does_not_wait_for_a_sender_that_hangs(tmp_path: Path) -> None:
    """An association that stands in the middle of a data set is aborted when its patience is over, and leaves nothing behind."""
    receiver = Receiver(tmp_path)
    with scanner(receiver.port, [MRImageStorage]) as assoc:
        connection = assoc.dul.socket.socket
        connection.sendall(bytes.fromhex("0400000000100000000c0103"))  # a command of ten bytes, of which none comes
        time.sleep(0.2)
        began = time.monotonic()
        receiver.scp.stop(0.2)
        wait_for(lambda: not receiver.scp._sessions, 3, "its end")
        assert time.monotonic() - began < 3
    assert not list((tmp_path / "spool" / "incoming").iterdir())


def test_many_associations_at_once_come_in(tmp_path: Path) -> None:
    """Forty senders that connect in the same moment are all let in and served."""
    receiver = Receiver(tmp_path)
    done = []

    def send(number: int) -> None:
        with scanner(receiver.port, [MRImageStorage]) as assoc:
            done.append(assoc.send_c_store(dataset(number=number)).Status)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert done == [0] * 40
    assert receiver.instances() == 40
    receiver.scp.stop(1.0)


def test_a_bell_that_was_closed_is_silent(tmp_path: Path) -> None:
    """Whoever rings for an association that has ended writes nowhere, though its descriptor may be that of a file by now."""
    bell = _Bell()
    number = bell.descriptor
    bell.close()
    taken = [os.open(tmp_path / f"{index}", os.O_WRONLY | os.O_CREAT) for index in range(8)]
    assert number in taken
    bell.ring()
    assert [os.fstat(descriptor).st_size for descriptor in taken] == [0] * 8
    for descriptor in taken:
        os.close(descriptor)
