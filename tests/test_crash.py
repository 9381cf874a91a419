"""Power cuts, as far as SIGKILL can play them: what was acknowledged is answered, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Node, StoragePeer, is_alive, push, wait_for
from test_service import arrived, head

from scripts.prove_kills import Found, prove

Make = Callable[..., Node]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Nodes over one state folder; none of them outlives the test."""
    made: list[Node] = []

    def node(*arguments: Any, **more: Any) -> Node:
        made.append(Node(tmp_path, *arguments, **more))
        return made[-1]

    yield node
    for node_ in made:
        node_.end()


def test_killed_between_acknowledgement_and_result(make: Make) -> None:
    """An instance acknowledged before the service was killed is there after the restart, and its SRs arrive, once."""
    with StoragePeer() as pacs:
        node = make(pacs.port).start()
        assert push(node.port, head("1.3.1")) == [0, 0, 0]
        node.kill()
        assert arrived(pacs, "1.3.1") == []
        told = node.start().wait_for_state("1.3.1", "delivered", seconds=60)
        assert len(told["instances"]) == 3
        assert len(arrived(pacs, "1.3.1")) == 2


def test_killed_while_analysing(make: Make) -> None:
    """A parent that is killed leaves no worker; its successor takes the running analysis up again."""
    with StoragePeer() as pacs:
        slow = make(pacs.port, stand_in="sleep").start()
        push(slow.port, head("1.3.2"))
        slow.wait_for_state("1.3.2", "analysing")
        workers = slow.worker_pids()
        slow.kill()
        wait_for(lambda: not any(is_alive(pid) for pid in workers), 5, "the death of the workers")
        slow.stand_in = "answer"
        slow.start().wait_for_state("1.3.2", "delivered", seconds=60)
        assert len(arrived(pacs, "1.3.2")) == 2


def test_killed_while_a_delivery_waits(make: Make) -> None:
    """A waiting attempt is a row: after a kill and a restart the documents made before arrive, and are not made anew."""
    with StoragePeer(status=0xA700) as full:
        node = make(full.port).start()
        push(node.port, head("1.3.3"))
        wait_for(lambda: len([d for d in node.describe("1.3.3")["deliveries"] if d["attempts"]]) == 2, 30, "both refusals")
        made = node.describe("1.3.3")["documents"]
        node.kill()
        full.status = 0x0000
        told = node.start().wait_for_state("1.3.3", "delivered", seconds=60)
        assert told["documents"] == made
        assert sorted(arrived(full, "1.3.3")) == sorted(document["sop_instance_uid"] for document in made)


def test_a_study_that_kills_its_worker_does_not_stop_the_others(make: Make) -> None:
    """A poison study is quarantined after a few tries, and can be retried."""
    with StoragePeer() as pacs:
        node = make(pacs.port, stand_in="crash").start()
        push(node.port, head("1.3.4"))
        told = node.wait_for_state("1.3.4", "quarantined", seconds=90)
        assert "ended the worker process" in told["reason"]
        assert len(node.events("worker.ended")) >= 2
        node.stop()
        node.stand_in = "answer"
        node.start()
        push(node.port, head("1.3.5", 1))
        node.wait_for_state("1.3.5", "delivered", seconds=60)


def test_torn_parts_are_removed_at_start(make: Make) -> None:
    """What a sender or a crash left half-way in the spool is gone after the start."""
    node = make()
    incoming = node.state / "spool" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "x.part").write_bytes(b"torn")
    node.start(ready=False)
    assert node.wait_for_event("service.started", 60)["count"] == 1
    assert list(incoming.iterdir()) == []


def test_a_signal_while_starting_is_heeded(make: Make) -> None:
    """SIGTERM before the workers are ready drains all the same."""
    node = make().start(ready=False)
    node.wait_for_event("service.started", 60)
    os.kill(node.pid, signal.SIGTERM)
    assert node.wait() == 0


def test_killed_while_four_senders_push(tmp_path: Path) -> None:
    """What was acknowledged lies there as sent, with its row; no file is torn, no part is left. `make prove-kills` does it 20 times."""
    found = list(prove(tmp_path, kills=2))
    assert found[-1].acknowledged > 8
    assert found == [Found(one.kill, one.acknowledged, 0, 0, 0, 0) for one in found]
