"""listener/index.py: headers are read in pauses, and in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from objects import dataset, keep

from listener.index import Index
from listener.ledger import Ledger
from listener.spool import Spool
from pipeline.identity import contradiction


class Node:
    def __init__(self, folder: Path) -> None:
        self.ledger, self.calm = Ledger(folder), True
        self.spool = Spool(folder, self.ledger, 0)
        self.index = Index(self.ledger, lambda: self.calm)

    def keep(self, number: int, **more: str) -> None:
        outcome, instance = keep(self.spool, dataset(number=number, **more))
        assert outcome == "kept"
        self.index.note(instance)

    def descriptions(self) -> list[str]:
        return [i.headers.series_description for i in self.ledger.study("1.2.3").instances]  # type: ignore[union-attr]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_headers_are_read_when_nobody_sends(node: Node) -> None:
    """While somebody sends they wait, and are said to wait."""
    for number in (1, 2, 3):
        node.keep(number, SeriesDescription="T1")
    node.calm = False
    assert node.index.work(1.0)
    assert node.descriptions() == ["", "", ""]
    node.calm = True
    assert not node.index.work(1.0)
    assert node.descriptions() == ["T1", "T1", "T1"]


def test_a_study_that_is_judged_has_its_headers(node: Node) -> None:
    """`settle` does not wait for a pause."""
    node.keep(1, SeriesDescription="T1")
    node.calm = False
    node.index.settle("1.2.3")
    assert node.descriptions() == ["T1"]


def test_what_waited_when_we_ended_is_read_by_the_next_start(node: Node) -> None:
    """The ledger knows which headers were not read."""
    node.keep(1, SeriesDescription="T1")
    assert not Index(node.ledger, lambda: True).work(1.0)
    assert node.descriptions() == ["T1"]


def test_a_correction_keeps_its_headers(node: Node) -> None:
    """What was noted before a retry exchanged it is read in the next pause, and does not overwrite what took its place."""
    node.keep(1), node.keep(2, PatientID="WRONG")
    node.calm = False
    node.index.settle("1.2.3")
    job = node.ledger.queue(node.ledger.answering("1.2.3"), node.ledger.receiving()["1.2.3"], "quiet", time.time(), wrong="two")  # type: ignore[arg-type]
    assert job is not None and keep(node.spool, dataset(number=2))[0] == "conflict"
    node.ledger.retry("1.2.3", time.time())
    node.calm = True
    node.index.work(1.0)
    assert contradiction(node.ledger.study("1.2.3")) is None  # type: ignore[arg-type]


def test_what_cannot_be_read_is_kept(node: Node) -> None:
    """An object that is damaged behind its UIDs has no pixels to analyse, stops nothing, and is not tried again and again."""
    _, instance = keep(node.spool, dataset(number=1))
    instance.path.write_bytes(b"torn")
    node.index.settle("1.2.3")
    assert not node.ledger.unread("1.2.3")
    assert not node.ledger.study("1.2.3").instances[0].headers.has_pixels  # type: ignore[union-attr]
