"""listener/ledger.py over a real SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import SECRET, instance

from listener.completion import Clock
from listener.errors import IllegalMove, UnknownStudy, VitalCheckError
from listener.ledger import FILE, Ledger
from listener.rows import Job
from listener.schema import MOVES
from pipeline.records import USUAL, Choice, Document, Finding, Instance, Report, Source

UID = "1.2.3"
FINDING = Finding("glioma", "present", 0.9, {"glioma": 0.9, "notumor": 0.1}, (Source("1.2.3.1.1"),), ((1.0, 2.0),))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def receive(ledger: Ledger, number: int = 1, *, at: float = 100.0, can_answer: bool = True, uid: str = UID) -> Instance:
    made = instance(ledger.folder / "spool", uid, number=number, received_at=at)
    ledger.add(made, can_answer=can_answer, calling_ae="CT01", called_ae="VITALCHECK")
    return made


def queue(ledger: Ledger, *, at: float = 103.0, uid: str = UID) -> Job:
    study = ledger.answering(uid)
    assert study is not None
    job = ledger.queue(study, ledger.receiving()[uid], "quiet for 3 s", at)
    assert job is not None
    return job


def report(state: str = "analysed", documents: int = 2, tag: str = "9") -> Report:
    kinds = ("summary", "measurements")[:documents]
    made = tuple(Document(kind, f"2.25.{tag}.{i}", "1.2.840.10008.5.1.4.1.1.88.33", b"SR") for i, kind in enumerate(kinds))  # type: ignore[arg-type]
    finding = FINDING if state == "analysed" else None
    return Report(UID, state, None if finding else "no T1-weighted head series", "m 1", Choice(None, ""), finding, "int8", documents=made)  # type: ignore[arg-type]


def finish(ledger: Ledger, job: Job, made: Report, destinations: tuple[str, ...] = ("pacs",), at: float = 105.0) -> None:
    paths = {d.sop_instance_uid: ledger.folder / "reports" / d.sop_instance_uid for d in made.documents}
    ledger.finish(job, made, paths, dict.fromkeys(destinations, USUAL), at)


def snapshot(ledger: Ledger, job: Job) -> int:
    """How many instances the job gets to see; 0 where it is done."""
    begun = ledger.begin(job, 104.0)
    return 0 if begun is None else len(begun.study.instances)


def state(ledger: Ledger, uid: str = UID) -> str:
    return str(ledger.describe(uid)["state"])


def test_a_study_comes_back_from_the_ledger_as_it_was_received(ledger: Ledger) -> None:
    """Every field of every instance survives the round trip, headers and their tuples included."""
    made = [receive(ledger, n) for n in (2, 1)]
    study = ledger.study(UID)
    assert study is not None
    assert study.instances == (made[1], made[0])
    assert (study.calling_ae, study.called_ae) == ("CT01", "VITALCHECK")
    assert ledger.find(UID, made[0].sop_instance_uid) == made[0]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(1, 6)))
def test_any_order_of_arrival_gives_the_same_study(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    """The digest and the order of a study do not hang on the order in which its instances came."""
    ledger = Ledger(tmp_path_factory.mktemp("state"))
    for n in order:
        receive(ledger, n)
    study = ledger.study(UID)
    assert study is not None
    assert [i.headers.instance_number for i in study.instances] == [1, 2, 3, 4, 5]
    ledger.close()


def test_the_happy_path(ledger: Ledger) -> None:
    """receiving > queued > analysing > delivering > delivered, each with its time."""
    receive(ledger)
    job = queue(ledger)
    assert ledger.jobs_to_hand_over() == [job]
    ledger.handed_over(job, 103.1)
    assert ledger.jobs_to_hand_over() == []
    assert snapshot(ledger, job) == 1
    finish(ledger, job, report())
    first, second = ledger.deliveries_of(job)
    ledger.not_stored(first.sop_instance_uid, "pacs", 1, "no answer", 107.0)
    ledger.stored(first.sop_instance_uid, "pacs", 2, 107.5)
    assert state(ledger) == "delivering"
    ledger.stored(second.sop_instance_uid, "pacs", 1, 108.0)
    told = ledger.describe(UID)
    assert [step["state"] for step in told["history"]] == ["receiving", "queued", "analysing", "delivering", "delivered"]
    assert told["timings_ms"] == {"receiving": 3000.0, "queued": 1000.0, "analysing": 1000.0, "delivering": 3000.0}
    assert told["finding"]["label"] == "glioma"
    assert [(d["attempts"], d["state"], d["error"]) for d in told["deliveries"]] == [(2, "stored", None), (1, "stored", None)]
    line = ledger.studies("delivered")[0]
    assert (line.uid, line.instances, line.stored, line.deliveries) == (UID, 1, 2, 2)


def test_done_twice_changes_nothing(ledger: Ledger) -> None:
    """A job that a crash makes run again keeps its first documents, deliveries and history."""
    receive(ledger)
    job = queue(ledger)
    for _ in range(2):
        ledger.begin(job, 104.0)
        finish(ledger, job, report())
    before = ledger.describe(UID)
    assert ledger.begin(job, 109.0) is None
    finish(ledger, job, report("declined", 0), at=110.0)
    assert ledger.describe(UID) == before


def test_an_instance_after_the_verdict_reopens_the_study(ledger: Ledger) -> None:
    """The larger set is a new job, and the old job's result does not overwrite the newer state but is still delivered."""
    receive(ledger, 1)
    old = queue(ledger)
    ledger.begin(old, 104.0)
    receive(ledger, 2, at=104.5)
    assert state(ledger) == "receiving"
    assert ledger.receiving()[UID] == Clock(104.5, 104.5)
    finish(ledger, old, report(tag="1"))
    assert state(ledger) == "receiving"
    for delivery in ledger.deliveries_of(old):
        ledger.stored(delivery.sop_instance_uid, "pacs", 1, 106.0)
    assert state(ledger) == "receiving"
    new = queue(ledger, at=108.0)
    assert new.digest != old.digest
    assert snapshot(ledger, new) == 2
    assert snapshot(ledger, old) == 0


def test_what_cannot_change_the_answer_starts_no_work(ledger: Ledger) -> None:
    """An SR after the verdict leaves state, digest and clock alone; before it, it does not prolong the wait."""
    receive(ledger, 1, at=100.0)
    receive(ledger, 2, at=101.0, can_answer=False)
    clock = ledger.receiving()[UID]
    assert (clock.opened_at, round(clock.changed_at, 3)) == (100.0, 100.0)
    job = queue(ledger)
    receive(ledger, 3, at=105.0, can_answer=False)
    assert state(ledger) == "queued"
    assert snapshot(ledger, job) == 1


def test_a_verdict_on_old_evidence_is_void(ledger: Ledger) -> None:
    """An instance that comes between reading the clock and the verdict is not left out."""
    receive(ledger, 1)
    clock, study = ledger.receiving()[UID], ledger.answering(UID)
    receive(ledger, 2, at=102.0)
    assert study is not None
    assert ledger.queue(study, clock, "quiet", 103.0) is None
    assert not ledger.decline(UID, clock, "nothing", 103.0)
    assert state(ledger) == "receiving"


def test_a_quarantined_study_can_be_retried(ledger: Ledger) -> None:
    """The next attempt is a new job over the same set, and the error is forgotten."""
    receive(ledger)
    job = queue(ledger)
    ledger.begin(job, 104.0)
    ledger.quarantine(job, "RuntimeError in infer", 105.0)
    assert ledger.describe(UID)["reason"] == "RuntimeError in infer"
    again = ledger.retry(UID, 106.0)
    assert again == replace(job, attempt=2)
    assert again.workflow_id != job.workflow_id
    assert again in ledger.jobs_to_hand_over()
    assert state(ledger) == "queued"
    ledger.begin(again, 107.0)
    finish(ledger, again, report(), destinations=())
    assert state(ledger) == "delivered"
    assert ledger.describe(UID)["history"][-2]["note"] == "no destination configured"


def test_an_illegal_move_names_both_states(ledger: Ledger) -> None:
    """A declined study cannot be retried, and the message says which states were meant."""
    receive(ledger)
    assert ledger.decline(UID, ledger.receiving()[UID], "no image that could be analysed", 103.0)
    with pytest.raises(IllegalMove, match="declined and cannot become queued"):
        ledger.retry(UID, 104.0)
    with pytest.raises(UnknownStudy):
        ledger.retry("1.9", 104.0)


def test_a_declined_report_is_delivered_first(ledger: Ledger) -> None:
    """The study is declined only when its "not analysed, because" has arrived."""
    receive(ledger)
    job = queue(ledger)
    ledger.begin(job, 104.0)
    finish(ledger, job, report("declined", 1))
    assert state(ledger) == "delivering"
    ledger.stored(ledger.deliveries_waiting()[0].sop_instance_uid, "pacs", 1, 106.0)
    assert state(ledger) == "declined"
    assert ledger.describe(UID)["reason"] == "no T1-weighted head series"


def test_every_state_can_be_left_only_to_known_states() -> None:
    """The table of moves is closed: every state it names has a row."""
    assert {state for targets in MOVES.values() for state in targets} <= MOVES.keys()


def test_nothing_of_the_patient_is_told(ledger: Ledger) -> None:
    """A name in the headers of an instance is in no description and no overview of its study."""
    receive(ledger)
    job = queue(ledger)
    ledger.begin(job, 104.0)
    finish(ledger, job, report())
    assert SECRET not in json.dumps(ledger.describe(UID)) + repr(ledger.studies())


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    """An older program does not write into a newer ledger."""
    first = Ledger(tmp_path)
    first.close()
    with sqlite3.connect(tmp_path / FILE) as c:
        c.execute("PRAGMA user_version=99")
    with pytest.raises(VitalCheckError, match="version 99"):
        Ledger(tmp_path)
    with pytest.raises(VitalCheckError, match="no ledger there"):
        Ledger(tmp_path / "elsewhere", create=False)


def test_workers_are_known_by_slot(ledger: Ledger) -> None:
    """A worker that comes after another in the same slot takes over its row."""
    ledger.heartbeat(0, 10, 100.0, ready=False, models={})
    ledger.heartbeat(0, 10, 101.0, ready=True, models={"m": "int8"})
    assert [(w.pid, w.started_at, w.ready) for w in ledger.workers()] == [(10, 100.0, True)]
    ledger.heartbeat(0, 11, 102.0, ready=False, models={})
    assert [(w.pid, w.started_at, w.ready) for w in ledger.workers()] == [(11, 102.0, False)]
    ledger.forget_workers()
    assert ledger.workers() == []


def test_each_destination_waits_for_its_own_kinds(ledger: Ledger) -> None:
    """A document waits only where it is wanted."""
    receive(ledger, 1)
    job = queue(ledger)
    snapshot(ledger, job)
    made = report()
    paths = {d.sop_instance_uid: ledger.folder / "reports" / d.sop_instance_uid for d in made.documents}
    ledger.finish(job, made, paths, {"one": ("summary", "pdf"), "two": ("pdf",)}, 105.0)
    assert [(waiting.sop_instance_uid, waiting.destination) for waiting in ledger.deliveries_of(job)] == [("2.25.9.0", "one")]


def test_an_answer_without_a_wanted_document_is_delivered(ledger: Ledger) -> None:
    """Nothing was found, and only key images are wanted: there is nothing to send, and the study is not declined."""
    receive(ledger, 1)
    job = queue(ledger)
    snapshot(ledger, job)
    ledger.finish(job, report(documents=0), {}, {"one": ("key-image",)}, 105.0)
    assert state(ledger) == "delivered"


def test_a_row_that_comes_while_its_study_is_read_is_known(tmp_path: Path) -> None:
    """What is known of a study is read once; what is committed at that moment is not missed, for it would be taken for new again."""
    ledger = Ledger(tmp_path)
    arrivals = ledger._arrivals
    first, second = (instance(tmp_path / "spool", number=n) for n in (1, 2))
    ledger.add(first, can_answer=True)
    arrivals._known.clear()
    adding = threading.Thread(target=lambda: ledger.add(second, can_answer=True))
    reader = ledger._engine.raw_connection()

    class Slow:
        def execute(self, *query: object) -> list[object]:
            found = list(reader.execute(*query))
            adding.start()
            adding.join(0.5)
            return found

    arrivals._reader = Slow()
    assert ledger.find("1.2.3", first.sop_instance_uid) is not None
    adding.join(5)
    arrivals._reader = reader
    assert ledger.find("1.2.3", second.sop_instance_uid) is not None


def test_an_arrival_with_an_earlier_time_is_noticed(ledger: Ledger) -> None:
    """Of two associations the one that began first may be committed last, and clocks are set back: no verdict without it."""
    receive(ledger, 1, at=100.0)
    clock, study = ledger.receiving()[UID], ledger.answering(UID)
    receive(ledger, 2, at=99.0)
    assert study is not None
    assert ledger.queue(study, clock, "quiet for 3 s", 103.0) is None
    assert not ledger.decline(UID, clock, "nothing", 103.0)
    assert queue(ledger) is not None


def test_a_report_that_comes_while_a_study_is_judged_is_noticed(ledger: Ledger) -> None:
    """It may be another patient's; it moves no clock of the quiet time, and the next look has it."""
    receive(ledger, 1, at=100.0)
    clock, study = ledger.receiving()[UID], ledger.answering(UID)
    receive(ledger, 2, at=102.0, can_answer=False)
    assert study is not None and ledger.queue(study, clock, "quiet for 3 s", 103.0) is None
    assert ledger.receiving()[UID].changed_at == pytest.approx(100.0, abs=1e-3)


def test_what_is_wrong_is_known_with_the_verdict(ledger: Ledger) -> None:
    """One transaction: there is no moment in which a study of two patients is a job for the workers."""
    receive(ledger)
    study = ledger.answering(UID)
    assert study is not None
    assert ledger.queue(study, ledger.receiving()[UID], "quiet for 3 s", 103.0, wrong="2 different Patient IDs") is not None
    assert not ledger.jobs_to_hand_over() and not ledger.jobs_unfinished()
    told = ledger.describe(UID)
    assert (told["state"], told["reason"]) == ("quarantined", "2 different Patient IDs")
    assert [step["state"] for step in told["history"]] == ["receiving", "queued", "quarantined"]


def test_what_is_overdue_is_told(ledger: Ledger) -> None:
    """A delivery whose time has come and gone; not one that is stored or waits for its turn."""
    receive(ledger)
    job = queue(ledger)
    snapshot(ledger, job)
    finish(ledger, job, report(), at=105.0)
    assert ledger.deliveries_overdue(105.0) == []
    first, second = ledger.deliveries_overdue(106.0)
    ledger.stored(first.sop_instance_uid, "pacs", 1, 107.0)
    ledger.not_stored(second.sop_instance_uid, "pacs", 1, "down", 300.0)
    assert ledger.deliveries_overdue(200.0) == []
