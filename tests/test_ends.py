"""Associations that end where nobody expects it: what stays behind of them in the spool, in the counts and on the wire."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from peers import wait_for
from pynetdicom import evt
from rude import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    ECHO,
    LAST,
    P_DATA,
    STORE,
    Ended,
    Rude,
    associate_rq,
    data_set,
    echo_rq,
    new_uid,
    pdu,
    pdv,
    sender,
    store_rq,
)
from test_scp import Receiver

from listener.incoming import Room
from listener.upper import _Bell


@contextmanager
def receiving(folder: Path, **settings: Any) -> Iterator[Receiver]:
    receiver = Receiver(folder, **settings)
    try:
        yield receiver
    finally:
        receiver.scp.stop(0.2)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as made:
        yield made


def begin(rude: Rude, uid: str, data: bytes, *, last: int = 0) -> None:
    rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, store_rq(uid.encode()))), pdu(P_DATA, pdv(STORE, last, data)))


def is_as_before(receiver: Receiver, folder: Path) -> bool:
    spool = receiver.scp._spool
    return spool.is_calm and not receiver.scp._sessions and not list((folder / "spool" / "incoming").iterdir())


def test_a_refused_instance_whose_sender_leaves_is_ended_once(receiver: Receiver, tmp_path: Path) -> None:
    """A sender that hangs up while the rest of a refused instance is swallowed leaves a spool that is calm, and headers are read again."""
    spool = receiver.scp._spool
    spool._room = Room(1000, 0)
    with sender(receiver.port) as rude:
        begin(rude, new_uid(), bytes(60000))
        time.sleep(0.2)  # so that the half that came is written
        rude.send(pdu(P_DATA, pdv(STORE, 0, bytes(60000))))
        time.sleep(0.2)  # for the refusal
    wait_for(lambda: is_as_before(receiver, tmp_path), 3, "the end")


def test_an_association_that_ends_within_an_instance_leaves_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """Ended by another thread (silence, a stop) before the last fragment came, it leaves neither part nor descriptor nor count."""
    uid = new_uid()
    with sender(receiver.port) as rude:
        begin(rude, uid, data_set(uid)[:1000])
        wait_for(lambda: receiver.scp._spool._open, 3, "the instance")
        (assoc,) = receiver.scp._sessions
        evt.trigger(assoc, evt.EVT_ABORTED, {})  # the first thing that such an end does
        rude.send(pdu(P_DATA, pdv(STORE, LAST, data_set(uid)[1000:])))
        wait_for(lambda: is_as_before(receiver, tmp_path), 3, "the end")
    assert receiver.instances() == 0


def test_who_is_sent_away_sees_why(tmp_path: Path) -> None:
    """The answer to the instance that was one too many goes out before the abort, each time."""
    with receiving(tmp_path, max_refused=1) as receiver:
        for _ in range(10):
            with sender(receiver.port) as rude:
                begin(rude, "1.2/3", data_set("1.2.3"), last=LAST)
                assert rude.status() != 0x0000
                assert rude.receive()[0] == ABORT


def test_who_waits_for_a_place_is_answered(tmp_path: Path) -> None:
    """Of more peers than may be silent at once, that all ask and wait for few places, each is let in or rejected: none is hung up on."""
    with receiving(tmp_path, max_associations_per_peer=4) as receiver:
        peers = [Rude(receiver.port) for _ in range(120)]
        for peer in peers:
            peer.send(associate_rq())
        seen: Counter[int] = Counter()
        for peer in peers:
            with suppress(Ended):
                seen[peer.receive(15)[0]] += 1
        assert seen == {ASSOCIATE_AC: 4, ASSOCIATE_RJ: 116}
        for peer in peers:
            peer.socket.close()


def test_stopping_does_not_wait_for_who_does_not_read(tmp_path: Path) -> None:
    """Senders that never read their answers, so that nothing more can be written to them, are not waited for, one after the other."""
    with receiving(tmp_path, pdu_seconds=5.0) as receiver:
        deaf = [Rude(receiver.port).associate() for _ in range(2)]
        ours = [assoc.dul.socket.socket for assoc in receiver.scp._sessions]
        for rude, connection in zip(deaf, ours, strict=True):
            rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
            rude.send(*[pdu(P_DATA, pdv(ECHO, COMMAND | LAST, echo_rq()))] * 1000)
        time.sleep(1.0)
        began = time.monotonic()
        receiver.scp.stop(0.1)
        assert time.monotonic() - began < 2.0
        for rude in deaf:
            rude.socket.close()


def test_a_bell_that_was_closed_is_silent() -> None:
    """Who rings when its thread has just ended neither fails nor writes into the file that has its descriptor now."""
    bell = _Bell()
    bell.close()
    bell.ring()
