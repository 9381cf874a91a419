"""How many may come at a time, played against the running service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from peers import Node, wait_for
from rude import ASSOCIATE_AC, ASSOCIATE_RJ, Rude, associate_rq, data_set, new_uid, sender, serves

MOST = 64  # max_associations of the service that is attacked
TRANSIENT, BY_THE_PRESENTATION_PROVIDER, LOCAL_LIMIT = 2, 3, 2  # PS3.8 table 9-21


@pytest.fixture(autouse=True)
def still_serves(attacked: Node) -> Iterator[None]:
    yield
    serves(attacked)


def descriptors(node: Node) -> int:
    """Open files and sockets of the receiver."""
    return len(list(Path(f"/proc/{node.pid}/fd").iterdir()))


def threads(node: Node) -> int:
    return len(list(Path(f"/proc/{node.pid}/task").iterdir()))


def knock(port: int) -> tuple[int, bytes]:
    """What a newcomer's A-ASSOCIATE-RQ is answered by: type and body of the PDU."""
    with Rude(port) as rude:
        rude.send(associate_rq())
        return rude.receive()


def test_one_too_many_is_told_to_come_again(attacked: Node) -> None:
    """Above listener.max_associations: rejected as transient; those inside are served, and a free place is given away."""
    serves(attacked)
    before = descriptors(attacked)
    with ExitStack() as stack:
        wait_for(lambda: knock(attacked.port)[0] == ASSOCIATE_AC, 5, "a free place")
        inside = [stack.enter_context(sender(attacked.port)) for _ in range(MOST)]
        for _ in range(3):
            kind, body = knock(attacked.port)
            assert (kind, tuple(body[1:4])) == (ASSOCIATE_RJ, (TRANSIENT, BY_THE_PRESENTATION_PROVIDER, LOCAL_LIMIT))
        uid = new_uid()
        assert (inside[0].echo(), inside[-1].store(uid, data_set(uid))) == (0x0000, 0x0000)
        inside.pop().release()
        wait_for(lambda: knock(attacked.port)[0] == ASSOCIATE_AC, 3, "a free place")
    wait_for(lambda: descriptors(attacked) <= before + 2, 5, "the return of the descriptors")


def test_idle_associations_neither_block_nor_leak(attacked: Node) -> None:
    """Beside 63 that say nothing an echo takes no longer than 50 ms; when they are gone, so are their descriptors and threads."""
    serves(attacked)
    before, running = descriptors(attacked), threads(attacked)
    with ExitStack() as stack:
        idle = [stack.enter_context(sender(attacked.port)) for _ in range(MOST - 1)]
        serves(attacked)
        took = []
        for _ in range(9):
            began = time.monotonic()
            assert idle[0].echo() == 0x0000
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < 0.05
        for rude in idle[::2]:
            rude.release()
    wait_for(lambda: descriptors(attacked) <= before + 2, 5, "the return of the descriptors")
    wait_for(lambda: threads(attacked) <= running + 2, 5, "the end of the threads")
