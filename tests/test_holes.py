"""What stock pynetdicom dies of, played against the running service.

After every attack a newcomer is served within 3 s, and nothing half-finished is left in the spool.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from peers import Node, wait_for
from rude import (
    ASSOCIATE_RQ,
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
    flat,
    new_uid,
    pdu,
    pdv,
    sender,
    serves,
    store_rq,
)

DEADLINE = 1.0  # s; acse_seconds and pdu_seconds of the service that is attacked
PATIENCE = DEADLINE + 1.5  # s, until the end must have come
GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(512),
    "noise": random.Random(1).randbytes(4096),
    "zeros": bytes(4096),
    "an A-ASSOCIATE-RQ of nothing": pdu(ASSOCIATE_RQ, b""),
    "an A-ASSOCIATE-RQ of noise": pdu(ASSOCIATE_RQ, random.Random(2).randbytes(300)),
    "an A-ASSOCIATE-RQ cut inside an item": pdu(ASSOCIATE_RQ, associate_rq()[6:-9]),
    "a P-DATA-TF before any association": pdu(P_DATA, pdv(ECHO, COMMAND | LAST, echo_rq())),
}


@pytest.fixture(autouse=True)
def still_serves(attacked: Node) -> Iterator[None]:
    yield
    serves(attacked)


@pytest.mark.parametrize("what", GARBAGE)
def test_what_is_no_dicom_is_hung_up_on(attacked: Node, what: str) -> None:
    """Other protocols, noise and torn requests are closed at once, or when listener.acse_seconds are over."""
    with Rude(attacked.port) as rude, flat(attacked.pid):
        rude.send(GARBAGE[what])
        assert rude.ending(PATIENCE)


def flood(rude: Rude, total: int) -> int:
    """Sends up to `total` zero bytes; how many went before the peer hung up."""
    block, sent = bytes(1 << 20), 0
    with suppress(Ended):
        while sent < total:
            rude.send(block)
            sent += len(block)
    return sent


@pytest.mark.parametrize("length", [0xFFFFFFFF, (1 << 20) + 1])
def test_a_request_that_says_it_is_endless(attacked: Node, length: int) -> None:
    """An A-ASSOCIATE-RQ above 1 MiB is closed at its header, and none of it is held."""
    with Rude(attacked.port) as rude, flat(attacked.pid):
        rude.send(pdu(ASSOCIATE_RQ, b"", length))
        flood(rude, 64 << 20)
        assert rude.ending(PATIENCE)


@pytest.mark.parametrize("kind", [P_DATA, 7, 0x99])
@pytest.mark.parametrize("length", [0xFFFFFFFF, (16 << 20) + 1])
def test_a_pdu_that_says_it_is_endless(attacked: Node, length: int, kind: int) -> None:
    """Within an association, a PDU of any type above 16 MiB is closed at its header, and none of it is held."""
    with sender(attacked.port) as rude, flat(attacked.pid):
        rude.send(pdu(kind, b"", length))
        flood(rude, 64 << 20)
        assert rude.ending(PATIENCE)


def test_two_hundred_megabytes_in_one_pdu(attacked: Node) -> None:
    """A data set as one P-DATA-TF of 200 MB is cut off, not held."""
    with sender(attacked.port) as rude, flat(attacked.pid):
        rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, store_rq(b"1.2.99.5"))))
        rude.send(struct.pack(">BxL", P_DATA, 200_000_006), pdv(STORE, LAST, b"", 200_000_002))
        assert flood(rude, 200_000_000) < 64 << 20
        assert rude.ending(PATIENCE)


def test_a_command_set_without_an_end(attacked: Node) -> None:
    """64 MiB of command fragments, none of them the last, are cut off, not held."""
    with sender(attacked.port) as rude, flat(attacked.pid):
        with suppress(Ended):
            for _ in range(64 * 8):
                rude.send(pdu(P_DATA, pdv(STORE, COMMAND, bytes(131000))))
        assert rude.ending(PATIENCE)


def test_a_thousand_fragments_of_nothing(attacked: Node) -> None:
    """PDVs without a byte between them (PS3.8 annex D forbids none of them) cost no memory."""
    with sender(attacked.port) as rude, flat(attacked.pid), suppress(Ended):
        rude.send(pdu(P_DATA, pdv(STORE, COMMAND, b"")) * 1000)


def test_half_of_anything_ends_by_a_deadline(attacked: Node) -> None:
    """Nothing, half a header, half a PDU, and a byte at a time are closed when their time is over, before and within an association."""
    before = {"nothing": b"", "half a header": b"\x01\0\0", "half a request": associate_rq()[:100]}
    within = {"half a header": b"\x04\0\0", "half a PDU": pdu(P_DATA, pdv(STORE, COMMAND, bytes(50)), 200)}
    with ExitStack() as stack:
        held: dict[str, Rude] = {}
        for name, start in before.items():
            held[name] = stack.enter_context(Rude(attacked.port))
            held[name].send(start)
        for name, start in within.items():
            held[f"{name} within"] = stack.enter_context(sender(attacked.port))
            held[f"{name} within"].send(start)
        began = time.monotonic()
        serves(attacked)
        assert {name: rude.ending(max(began + PATIENCE - time.monotonic(), 0.1)) for name, rude in held.items()} == dict.fromkeys(
            held, True
        )


@pytest.mark.parametrize("where", ["before", "within", "within an object"])
def test_a_byte_at_a_time_ends_by_a_deadline(attacked: Node, where: str) -> None:
    """A PDU's time runs from its first byte to its last; a byte now and then does not start it again."""
    with Rude(attacked.port) as rude:
        if where != "before":
            rude.associate()
        if where == "within an object":
            rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, store_rq(b"1.2.99.6"))), pdu(P_DATA, pdv(STORE, 0, bytes(100))))
        slow = associate_rq() if where == "before" else pdu(P_DATA, pdv(STORE, 0 if "object" in where else COMMAND, bytes(200)))
        began = time.monotonic()
        with pytest.raises(Ended):
            for at in range(len(slow)):
                rude.send(slow[at : at + 1])
                time.sleep(0.1)
                assert time.monotonic() - began < PATIENCE


def test_half_open_connections_stop_nobody(attacked: Node) -> None:
    """While 20 callers say nothing, or half a word, others are served; when their time is over, all are gone."""
    with ExitStack() as stack:
        silent = [stack.enter_context(Rude(attacked.port)) for _ in range(20)]
        for rude in silent[10:]:
            rude.send(b"\x01\0\0\0")
        serves(attacked)
        assert all(rude.ending(PATIENCE) for rude in silent)


def test_a_sender_that_never_reads_stops_nobody(attacked: Node) -> None:
    """Answers that nobody takes block their own association only, and not for ever."""
    with socket.socket() as never:
        never.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        never.settimeout(0.5)
        never.connect(("127.0.0.1", attacked.port))
        never.sendall(associate_rq())
        many = pdu(P_DATA, pdv(ECHO, COMMAND | LAST, echo_rq())) * 200
        deadline = time.monotonic() + 2
        with suppress(OSError):
            while time.monotonic() < deadline:
                never.sendall(many)
        serves(attacked)


@pytest.mark.parametrize("how", ["reset", "closed", "half closed", "aborted", "released"])
@pytest.mark.parametrize("where", ["between PDUs", "inside a PDU"])
def test_a_sender_that_dies_inside_an_object(attacked: Node, how: str, where: str) -> None:
    """What it had acknowledged stays, bit-exact; of the object it was sending nothing does."""
    kept, torn = new_uid(), new_uid()
    with sender(attacked.port) as rude:
        assert rude.store(kept, data_set(kept)) == 0x0000
        rude.send(pdu(P_DATA, pdv(STORE, COMMAND | LAST, store_rq(torn.encode(), message_id=2))))
        for part in range(4):
            rude.send(pdu(P_DATA, pdv(STORE, 0, data_set(torn, 200_000)[part * 50_000 : (part + 1) * 50_000])))
        rude.send(b"\x04\0\0\0\x40\0\0" if where == "inside a PDU" else b"")
        if how == "reset":
            rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half closed":
            rude.socket.shutdown(socket.SHUT_WR)
            assert rude.ending(PATIENCE)
        elif how in ("aborted", "released"):
            rude.send(pdu(7 if how == "aborted" else 5, bytes(4)))
            assert rude.ending(PATIENCE) or how == "released"
    wait_for(lambda: not list((attacked.spool / "incoming").iterdir()), PATIENCE, "an empty spool/incoming")
    assert len(list(attacked.spool.glob(f"*/{kept}.dcm"))) == 1
    assert not list(attacked.spool.glob(f"*/{torn}*"))
