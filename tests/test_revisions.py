"""Results that replace earlier ones: what came after a verdict is analysed again, and the new documents name the old."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import dataset, keep, read_headers
from peers import Node, StoragePeer, push, wait_for
from pydicom import dcmread
from pydicom.dataset import FileDataset
from reports import VALID_MR, items, tool
from test_run import model

from listener import config
from listener.ledger import FILE, Ledger
from listener.rows import Job
from listener.spool import Spool
from listener.worker import Worker
from models.registry import Model
from pipeline.decode import decode

UID = "2.25.1"


class House:
    """Receiver, ledger and worker without their processes."""

    def __init__(self, folder: Path) -> None:
        (folder / "vitalcheck.toml").write_text('[state]\ndir = "state"\n')
        (folder / "state").mkdir()
        self.folder = folder
        self.worker = Worker(config.load(folder / "vitalcheck.toml"), 0)
        self.worker.models, self.worker.decoder = (model(),), decode  # type: ignore[assignment]
        self.ledger = self.worker.ledger
        self._spool = Spool(folder / "state", self.ledger, 0)

    def receive(self, *numbers: int, description: str = "T1 SE", **more: Any) -> None:
        for number in numbers:
            ds = dataset(UID, number=number, **VALID_MR | {"BodyPartExamined": "HEAD", "SeriesDescription": description} | more)
            assert keep(self._spool, ds)[0] == "kept"

    def judge(self) -> Job:
        read_headers(self.ledger)
        study = self.ledger.answering(UID)
        assert study is not None
        job = self.ledger.queue(study, self.ledger.receiving()[UID], "quiet for 3 s", time.time())
        assert job is not None
        return job

    def answer(self, *numbers: int, **more: Any) -> dict[str, FileDataset]:
        """The documents, by kind, of the set that `numbers` complete."""
        self.receive(*numbers, **more)
        job = self.judge()
        self.worker.analyse(job)
        return self.documents(job)

    def documents(self, job: Job) -> dict[str, FileDataset]:
        assert self.ledger.describe(UID)["state"] != "quarantined", self.ledger.describe(UID)["reason"]
        made = [document for document in self.ledger.describe(UID)["documents"] if document["digest"] == job.digest]
        return {document["kind"]: dcmread(self.path(document["sop_instance_uid"])) for document in made}

    def path(self, uid: str) -> Path:
        (found,) = (self.folder / "state" / "reports").rglob(f"*{uid}.dcm")
        return found

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "state" / "reports").rglob("*.dcm")}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def reading(**what: str) -> Model:
    """A model of something else: T1-weighted heads it declines."""
    loaded = model()
    return replace(loaded, manifest=loaded.manifest.model_copy(update=what))


def named(ds: FileDataset) -> list[tuple[str, str, str, str]]:
    """(study, series, SOP class, SOP instance) of every predecessor."""
    return [
        (study.StudyInstanceUID, series.SeriesInstanceUID, ref.ReferencedSOPClassUID, ref.ReferencedSOPInstanceUID)
        for study in ds.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for ref in series.ReferencedSOPSequence
    ]


def itself(ds: FileDataset) -> tuple[str, str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPClassUID, ds.SOPInstanceUID


def sentences(ds: FileDataset) -> list[str]:
    return [item.TextValue for item in items(ds) if item.ValueType == "TEXT"]


def tracked(ds: FileDataset) -> tuple[str, str]:
    """Tracking Identifier and Unique Tracking Identifier of the finding (DCM 112039, 112040)."""
    said = {item.ConceptNameCodeSequence[0].CodeValue: item for item in items(ds) if "ConceptNameCodeSequence" in item}
    return said["112039"].TextValue, said["112040"].UID


def test_three_results_each_name_the_one_before(house: House) -> None:
    """Both documents of each result name the one of their kind before them, for the same finding; validators find no error."""
    results = [house.answer(1, 2), house.answer(3, 4), house.answer(5)]

    for kind in ("summary", "measurements"):
        chain = [made[kind] for made in results]
        assert [named(ds) for ds in chain] == [[], [itself(chain[0])], [itself(chain[1])]]
        assert len({ds.SOPInstanceUID for ds in chain} | {ds.SeriesInstanceUID for ds in chain}) == 6
    assert len({tracked(made["measurements"]) for made in results}) == 1
    assert "replaces" not in " ".join(sentences(results[0]["summary"]))
    assert sentences(results[1]["summary"])[1] == "This result replaces an earlier one of 2 instances of the study; it was made from 4."
    assert sentences(results[2]["summary"])[1] == "This result replaces an earlier one of 4 instances of the study; it was made from 5."
    paths = sorted((house.folder / "state" / "reports").rglob("*.dcm"))
    assert len(paths) == 6
    for path in paths:
        assert "Error" not in tool("dciodvfy", path)
    assert "Error" not in tool("dcentvfy", *sorted((house.folder / "sent").glob("*.dcm")), *paths)


def test_what_was_not_analysed_is_replaced_by_what_was(house: House) -> None:
    """A "not analysed" Summary is replaced by the Summary of the answer; its Measurements replace nothing."""
    before = house.answer(1, 2, description="T2 TSE")
    assert before.keys() == {"summary"}

    after = house.answer(3, 4, SeriesInstanceUID="2.25.1.2", SeriesNumber=2)

    assert named(after["summary"]) == [itself(before["summary"])]
    assert after["measurements"].SOPInstanceUID and named(after["measurements"]) == []


def test_an_answer_may_be_replaced_by_none(house: House) -> None:
    """A larger set that cannot be read replaces the Summary and says so; the next answer's Measurements name the last there were."""
    first = house.answer(1, 2)
    house.worker.models = (reading(sequence="T2"),)
    second = house.answer(3)
    assert sentences(second["summary"])[0].startswith("Not analysed")
    assert sentences(second["summary"])[1].startswith("This result replaces an earlier one of 2 instances")
    assert "Error" not in tool("dciodvfy", house.path(second["summary"].SOPInstanceUID))
    house.worker.models = (model(),)

    third = house.answer(4)

    assert named(second["summary"]) == [itself(first["summary"])]
    assert named(third["summary"]) == [itself(second["summary"])]
    assert named(third["measurements"]) == [itself(first["measurements"])]


@pytest.mark.parametrize("answered", [True, False], ids=["after an answer", "first of all"])
def test_a_decline_without_document_is_no_predecessor(house: House, answered: bool) -> None:
    """Where nothing was sent nothing is replaced: the documents before it stay the ones to name."""
    first = house.answer(1) if answered else {}
    house.worker.models = (reading(modality="CT"),)
    assert house.answer(2) == {}
    house.worker.models = (model(),)

    last = house.answer(3)

    assert [named(ds) for ds in last.values()] == [[itself(first[kind])] if answered else [] for kind in last]


def test_a_run_again_gives_the_same_bytes(house: House) -> None:
    """A worker that died after it wrote its documents is followed by one that makes the same, predecessor included."""
    house.answer(1, 2)
    house.receive(3)
    job = house.judge()
    with pytest.raises(KeyboardInterrupt):
        house.worker.ledger.finish = killed  # type: ignore[method-assign]
        house.worker.analyse(job)
    torn = house.bytes()
    assert len(torn) == 4 and house.documents(job) == {}
    house.worker = again(house)
    house.worker.analyse(job)

    assert house.bytes() == torn
    assert all(named(ds) for ds in house.documents(job).values())
    house.worker.analyse(job)  # the same set a third time
    assert house.bytes() == torn


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def again(house: House) -> Worker:
    """The next worker in the same slot."""
    worker = Worker(config.load(house.folder / "vitalcheck.toml"), 0)
    worker.models, worker.decoder = house.worker.models, house.worker.decoder
    return worker


def test_what_another_worker_finished_in_between_changes_nothing(house: House) -> None:
    """The predecessor is settled when a job first begins: a run again names the same, whatever was finished since."""
    house.receive(1)
    slow = house.judge()
    house.receive(2)
    fast = house.judge()
    assert [begun.replaces for job in (slow, fast) if (begun := house.ledger.begin(job, time.time()))] == [(), ()]
    house.worker.analyse(slow)
    house.worker.analyse(fast)

    assert [named(ds) for ds in house.documents(fast).values()] == [[], []]


def test_a_late_result_of_fewer_instances_replaces_nothing(house: House) -> None:
    """Finished in the wrong order, the answer on more instances is not replaced by that on fewer, and the third names the second."""
    house.receive(1)
    slow = house.judge()
    fast = house.answer(2)
    house.worker.analyse(slow)

    assert [named(ds) for ds in house.documents(slow).values()] == [[], []]
    assert [named(ds) for ds in house.answer(3).values()] == [[itself(ds)] for ds in fast.values()]


def test_a_retry_names_what_its_first_run_named(house: House) -> None:
    """A quarantined study that is retried has the predecessor that it had."""
    first = house.answer(1)
    house.receive(2)
    job = house.judge()
    house.ledger.begin(job, time.time())
    house.ledger.quarantine(job, "the disk was full", time.time())

    retried = house.ledger.retry(UID, time.time())
    house.worker.analyse(retried)

    assert [named(ds) for ds in house.documents(retried).values()] == [[itself(ds)] for ds in first.values()]


def test_a_predecessor_that_is_lost_is_not_named(house: House) -> None:
    """Where an earlier document is gone from the state folder, the new result is sent without it, not lost with it."""
    first = house.answer(1)
    house.path(first["summary"].SOPInstanceUID).unlink()
    second = house.answer(2)

    assert named(second["summary"]) == []
    assert named(second["measurements"]) == [itself(first["measurements"])]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(1, 6)), parts=st.sets(st.integers(1, 4), min_size=1))
def test_any_order_and_any_parts(tmp_path_factory: pytest.TempPathFactory, order: Sequence[int], parts: set[int]) -> None:
    """Cut anywhere and sent in any order, a study gives a chain without gaps, whose last UIDs are those of all at once."""
    house = House(tmp_path_factory.mktemp("house"))
    cuts = [0, *sorted(parts), 5]
    results = [house.answer(*order[a:b]) for a, b in pairwise(cuts)]
    whole = House(tmp_path_factory.mktemp("whole")).answer(*range(1, 6))

    for kind in ("summary", "measurements"):
        assert [named(made[kind]) for made in results] == [[], *([itself(made[kind])] for made in results[:-1])]
        assert results[-1][kind].SOPInstanceUID == whole[kind].SOPInstanceUID
    house.ledger.close()


def test_a_ledger_of_the_version_before_is_taken_over(house: House) -> None:
    """Results that an earlier release made are replaced like our own."""
    first = house.answer(1)
    house.ledger.close()
    with sqlite3.connect(house.folder / "state" / FILE) as c:
        c.execute("ALTER TABLE jobs DROP COLUMN replaces")
        c.execute("PRAGMA user_version=1")
    house.ledger = house.worker.ledger = Ledger(house.folder / "state")
    house._spool = Spool(house.folder / "state", house.ledger, 0)

    assert [named(ds) for ds in house.answer(2).values()] == [[itself(ds)] for ds in first.values()]


@pytest.fixture
def pacs() -> Iterator[StoragePeer]:
    with StoragePeer() as peer:
        yield peer


def test_the_pacs_gets_the_revision(tmp_path: Path, pacs: StoragePeer) -> None:
    """Half a study, then the rest: the second result in the PACS names the series and instances of the first."""
    described = VALID_MR | {"BodyPartExamined": "HEAD", "SeriesDescription": "T1 SE"}

    def sent(count: int) -> list[Any]:
        wait_for(lambda: len(pacs.received) == count, 30, f"{count} documents")
        return sorted(pacs.received[count - 2 :], key=lambda ds: ds.SeriesNumber)

    with Node(tmp_path, pacs.port) as node:
        push(node.port, [dataset(UID, number=n, **described) for n in (1, 2)])
        first = sent(2)
        push(node.port, [dataset(UID, number=n, **described) for n in (3, 4)])
        second = sent(4)

    assert [named(ds) for ds in first] == [[], []]
    assert [named(ds) for ds in second] == [[itself(ds)] for ds in first]
