"""ledger: the facts about what lies in the spool, in one SQLite file that receiver, workers and command line share.

Every method is one transaction. What a method is told about time is an argument (`at`, Unix seconds).
The tables and the table of states are in schema.py, what the outside gets to see in view.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DatabaseError

from listener import arrivals, corrections, headers, revisions, rows, view
from listener.arrivals import Arrival, Arrivals
from listener.completion import Clock
from listener.errors import IllegalMove, UnknownStudy, VitalCheckError
from listener.rows import Delivery, Job, Snapshot
from listener.schema import MOVES, VERSION, asides, deliveries, documents, history, instances, jobs, open_engine, studies, upgrade, workers
from listener.totals import Totals, totals
from pipeline.records import Instance, Report, Study

FILE = "ledger.sqlite"


class Ledger:
    """The ledger of the state folder `folder`. Threads share one object, processes have their own."""

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Raises VitalCheckError where there is no ledger and `create` is false, or one of another version."""
        self.folder = folder
        path = folder / FILE
        if not create and not path.is_file():
            raise VitalCheckError(f"{path}: no ledger there; nothing was received into this state.dir yet")
        self._engine = open_engine(path)
        self._writing = self._engine.execution_options(write=True)
        self._arrivals = Arrivals(self._engine, folder)  # it says itself when it writes
        try:
            with self._write() as c:
                version = c.exec_driver_sql("PRAGMA user_version").scalar_one()
                if version not in range(VERSION + 1):
                    raise VitalCheckError(
                        f"{path}: ledger of version {version}, this program reads {VERSION}; use the program that made it"
                    )
                upgrade(c, version)
        except DatabaseError as error:
            raise VitalCheckError(f"{path}: the ledger cannot be opened ({error.orig}); check disk and rights of state.dir") from error

    def close(self) -> None:
        self._arrivals.close()
        self._engine.dispose()

    def _write(self) -> AbstractContextManager[Connection]:
        return self._writing.begin()

    def _read(self) -> AbstractContextManager[Connection]:
        return self._engine.begin()

    def transaction(self, *, write: bool = False) -> AbstractContextManager[Connection]:
        """For commitment.py, which brings its own queries."""
        return self._write() if write else self._read()

    # Receiving

    def find(self, study_uid: str, sop_instance_uid: str) -> Instance | None:
        """The kept instance with these UIDs."""
        return self._arrivals.held((study_uid, sop_instance_uid))

    def add(self, instance: Instance, *, can_answer: bool, calling_ae: str = "", called_ae: str = "") -> None:
        """A new instance. One that can change the answer re-opens its study and starts the quiet time again."""
        self.add_all([Arrival(instance, can_answer, calling_ae, called_ae)], [])

    def add_all(self, arrived: Sequence[Arrival], aside: Sequence[Instance]) -> None:
        """New instances, and such as came `aside`: with the UID of one that we hold, and other bytes."""
        if arrived or aside:
            self._arrivals.add(arrived, aside)

    def unread(self, study_uid: str | None = None) -> list[Instance]:
        """The instances of a study, or of all, whose headers were not read yet."""
        with self._read() as c:
            return arrivals.unread(c, study_uid, self.folder)

    def read(self, found: Sequence[Instance]) -> None:
        """These have their headers now."""
        with self._write() as c:
            arrivals.read(c, found, self.folder)

    def read_again(self, mended: Instance) -> None:
        """Its file was replaced by what had come: headers that were read meanwhile may be those of a damaged one."""
        with self._write() as c:
            arrivals.forget(c, mended)
            arrivals.read(c, [mended], self.folder)

    def awaits_correction(self, study_uid: str) -> bool:
        """Was the study quarantined, and not answered since?"""
        with self._read() as c:
            return corrections.asked_since(c, study_uid) is not None

    def paths(self) -> set[Path]:
        """Every file of the spool that has a row."""
        with self._read() as c:
            found = [*c.execute(select(instances.c.path)).scalars(), *c.execute(select(asides.c.path)).scalars()]
        return {self.folder / path for path in found}

    # Judging

    def receiving(self) -> dict[str, Clock]:
        """The studies that wait for a verdict."""
        with self._read() as c:
            found = c.execute(select(studies.c.uid, studies.c.opened_at, studies.c.changed_at).where(studies.c.state == "receiving")).all()
        return {row.uid: Clock(row.opened_at, row.changed_at) for row in found}

    def queue(self, study: Study, clock: Clock, because: str, at: float, wrong: str | None = None) -> Job | None:
        """The verdict: complete; quarantined where something is `wrong`. None when the study changed since `clock` was read."""
        with self._write() as c:
            if not _unchanged(c, study.uid, clock):
                return None
            job = Job(study.uid, study.digest)
            uids = [i.sop_instance_uid for i in study.instances]
            row = {**asdict(job), "judged_at": at, "because": because, "sop_instance_uids": uids}
            c.execute(upsert(jobs).values(**row).on_conflict_do_nothing())
            c.execute(_study(study.uid).values(digest=job.digest, attempt=job.attempt))
            _move(c, study.uid, "queued", at, because)
            if wrong is not None:
                _quarantine(c, job, wrong, at)
        return job

    def decline(self, study_uid: str, clock: Clock, reason: str, at: float) -> bool:
        """The verdict: nothing for us in it. False when the study changed since `clock` was read."""
        with self._write() as c:
            if not _unchanged(c, study_uid, clock):
                return False
            c.execute(_study(study_uid).values(reason=reason, digest=None))
            _move(c, study_uid, "declined", at, reason)
        return True

    # Jobs

    def jobs_to_hand_over(self) -> list[Job]:
        """Verdicts that the engine has not been told, oldest first."""
        query = select(jobs).where(jobs.c.handed_over_at.is_(None), jobs.c.done_at.is_(None)).order_by(jobs.c.judged_at)
        with self._read() as c:
            return [_job(row) for row in c.execute(query)]

    def jobs_unfinished(self) -> list[Job]:
        """Every verdict without a result, told to the engine or not."""
        with self._read() as c:
            return [_job(row) for row in c.execute(select(jobs).where(jobs.c.done_at.is_(None)).order_by(jobs.c.judged_at))]

    def handed_over(self, job: Job, at: float) -> None:
        with self._write() as c:
            c.execute(update(jobs).where(*_job_is(job)).values(handed_over_at=at))

    def begin(self, job: Job, at: float) -> Snapshot | None:
        """The snapshot that `job` was judged complete on; its study is analysing from now on. None: it was finished before."""
        with self._write() as c:
            row = c.execute(select(jobs).where(*_job_is(job))).one()
            if row.done_at is not None:
                return None
            _advance(c, job, "analysing", at)
            study = c.execute(select(studies).where(studies.c.uid == job.study_uid)).one()
            members = c.execute(select(instances).where(instances.c.study_uid == job.study_uid)).all()
            replaces = revisions.settle(c, row, self.folder)
        wanted = set(row.sop_instance_uids)
        return Snapshot(self._study_of([m for m in members if m.sop_instance_uid in wanted], study), row.judged_at, replaces)

    def finish(self, job: Job, report: Report, paths: Mapping[str, Path], destinations: Mapping[str, Collection[str]], at: float) -> None:
        """The result of `job`: its documents, by SOP Instance UID in `paths`, and who gets which kinds. Done twice it changes nothing."""
        with self._write() as c:
            if c.execute(select(jobs.c.done_at).where(*_job_is(job))).scalar_one() is not None:
                return
            for document in report.documents:
                made = rows.document_row(job, document, paths[document.sop_instance_uid], self.folder, at)
                c.execute(upsert(documents).values(**made).on_conflict_do_nothing())
                for name in (name for name, kinds in destinations.items() if document.kind in kinds):
                    row = {"sop_instance_uid": document.sop_instance_uid, "destination": name, "state": "waiting", "next_at": at}
                    c.execute(upsert(deliveries).values(**row).on_conflict_do_nothing())
            outcome = {"outcome": report.state, "result": rows.result(report), "done_at": at}
            c.execute(update(jobs).where(*_job_is(job)).values(**outcome))
            if _is_current(c, job):
                c.execute(_study(job.study_uid).values(reason=report.reason or ""))
            if report.documents or report.state == "analysed":  # an answer of which nobody wants a document is one all the same
                _advance(c, job, "delivering", at, "" if destinations else "no destination configured")
            else:
                _advance(c, job, "declined", at, report.reason or "")
            _settle(c, job, at)

    def quarantine(self, job: Job, error: str, at: float) -> None:
        """`job` failed. `studies retry` starts it again."""
        with self._write() as c:
            _quarantine(c, job, error, at)

    def retry(self, study_uid: str, at: float) -> Job:
        """A quarantined study is queued again, with what was corrected since. Raises UnknownStudy, IllegalMove."""
        with self._write() as c:
            study = c.execute(select(studies).where(studies.c.uid == study_uid)).one_or_none()
            if study is None:
                raise UnknownStudy(study_uid)
            old = Job(study_uid, study.digest, study.attempt)
            corrected = corrections.take(c, study_uid, self.folder) if study.state == "quarantined" else 0
            because = f"{corrections.RETRY}, {corrected} corrected" if corrected else corrections.RETRY
            _move(c, study_uid, "queued", at, because)
            uids, replaces = c.execute(select(jobs.c.sop_instance_uids, jobs.c.replaces).where(*_job_is(old))).one()
            members = c.execute(select(instances).where(instances.c.study_uid == study_uid, instances.c.sop_instance_uid.in_(uids))).all()
            job = Job(study_uid, self._study_of(members, study).digest, study.attempt + 1)
            c.execute(insert(jobs).values(**asdict(job), judged_at=at, because=because, sop_instance_uids=uids, replaces=replaces))
            c.execute(_study(study_uid).values(digest=job.digest, attempt=job.attempt, reason=""))
        return job

    # Delivering

    def deliveries_of(self, job: Job) -> list[Delivery]:
        """What of `job` is not stored yet."""
        with self._read() as c:
            return [rows.delivery(row, self.folder) for row in c.execute(_waiting().where(*_documents_of(job)))]

    def delivery(self, uid: str, destination: str) -> Delivery | None:
        """Document `uid` for `destination`, if it is not stored there yet."""
        with self._read() as c:
            row = c.execute(_waiting().where(*_delivery_is(uid, destination))).one_or_none()
        return None if row is None else rows.delivery(row, self.folder)

    def deliveries_waiting(self) -> list[Delivery]:
        """Every document that some destination does not hold yet."""
        with self._read() as c:
            return [rows.delivery(row, self.folder) for row in c.execute(_waiting())]

    def deliveries_overdue(self, before: float) -> list[Delivery]:
        """Those whose next attempt was due `before` that time."""
        with self._read() as c:
            return [rows.delivery(row, self.folder) for row in c.execute(_waiting().where(deliveries.c.next_at < before))]

    def stored(self, uid: str, destination: str, attempt: int, at: float) -> None:
        """`destination` holds document `uid`; with the last of them the study has arrived."""
        with self._write() as c:
            values = {"state": "stored", "stored_at": at, "next_at": None, "error": "", "attempts": attempt}
            c.execute(update(deliveries).where(*_delivery_is(uid, destination)).values(**values))
            document = c.execute(select(documents).where(documents.c.sop_instance_uid == uid)).one()
            study = c.execute(select(studies).where(studies.c.uid == document.study_uid)).one()
            if study.digest == document.digest:
                _settle(c, Job(study.uid, study.digest, study.attempt), at)

    def not_stored(self, uid: str, destination: str, attempt: int, error: str, next_at: float) -> None:
        """`attempt` failed; the next is due at `next_at`."""
        with self._write() as c:
            values = {"error": error, "next_at": next_at, "attempts": attempt}
            c.execute(update(deliveries).where(*_delivery_is(uid, destination)).values(**values))

    # Workers

    def heartbeat(self, slot: int, pid: int, at: float, *, ready: bool, models: Mapping[str, str], alarm: str = "") -> None:
        """A worker lives. `models` maps the names it serves to the variant that answers."""
        fresh = {"pid": pid, "heartbeat_at": at, "ready": ready, "models": dict(models), "alarm": alarm}
        with self._write() as c:
            known = c.execute(select(workers.c.pid).where(workers.c.slot == slot)).scalar_one_or_none()
            if known != pid:
                c.execute(delete(workers).where(workers.c.slot == slot))
                c.execute(insert(workers).values(slot=slot, started_at=at, **fresh))
            else:
                c.execute(update(workers).where(workers.c.slot == slot).values(**fresh))

    def forget_workers(self) -> None:
        """At start: none of them lives yet."""
        with self._write() as c:
            c.execute(delete(workers))

    # Reading, for the outside too

    def study(self, uid: str) -> Study | None:
        """The study as it lies in the spool, all of its instances."""
        return self._load(uid, only_answering=False)

    def answering(self, uid: str) -> Study | None:
        """The study with only those instances that can change an answer: what a job is about. It may hold no series."""
        return self._load(uid, only_answering=True)

    def studies(self, state: str | None = None) -> list[view.Overview]:
        """One line for each study, the latest first."""
        with self._read() as c:
            return view.overviews(c, state)

    def describe(self, uid: str) -> dict[str, Any]:
        """All that may be told about one study. Raises UnknownStudy."""
        with self._read() as c:
            return view.describe(c, uid)

    def counts(self) -> dict[str, int]:
        """Studies by state, every state named."""
        with self._read() as c:
            found = {state: int(n) for state, n in c.execute(select(studies.c.state, func.count()).group_by(studies.c.state))}
        return {state: found.get(state, 0) for state in MOVES}

    def workers(self) -> list[view.WorkerLine]:
        with self._read() as c:
            return view.worker_lines(c)

    def totals(self) -> Totals:
        """Everything added up, for /metrics and /readyz."""
        with self._read() as c:
            return totals(c)

    # Rows and records

    def _load(self, uid: str, *, only_answering: bool) -> Study | None:
        query = select(instances).where(instances.c.study_uid == uid)
        with self._read() as c:
            study = c.execute(select(studies).where(studies.c.uid == uid)).one_or_none()
            members = c.execute(query.where(instances.c.can_answer) if only_answering else query).all()
        return None if study is None else self._study_of(members, study)

    def _study_of(self, members: Iterable[Row[Any]], study: Row[Any]) -> Study:
        found = headers.group((rows.instance(row, self.folder) for row in members), calling_ae=study.calling_ae, called_ae=study.called_ae)
        return found[0] if found else Study(study.uid, (), study.calling_ae, study.called_ae)


def _move(c: Connection, uid: str, new: str, at: float, note: str = "") -> None:
    """The only place where a study changes state. Raises IllegalMove."""
    old = c.execute(select(studies.c.state).where(studies.c.uid == uid)).scalar_one()
    if new not in MOVES[old]:
        raise IllegalMove(uid, old, new)
    c.execute(_study(uid).values(state=new))
    c.execute(insert(history).values(study_uid=uid, at=at, state=new, note=note))


def _advance(c: Connection, job: Job, new: str, at: float, note: str = "") -> None:
    """Moves the study of `job` on, unless a newer verdict or newer instances have taken it over, or it is there already."""
    state = c.execute(select(studies.c.state).where(studies.c.uid == job.study_uid)).scalar_one()
    if _is_current(c, job) and state != new:
        _move(c, job.study_uid, new, at, note)


def _quarantine(c: Connection, job: Job, error: str, at: float) -> None:
    c.execute(update(jobs).where(*_job_is(job)).values(outcome="quarantined", result={"error": error}, done_at=at))
    if _is_current(c, job):
        c.execute(_study(job.study_uid).values(reason=error))
    _advance(c, job, "quarantined", at, error)


def _settle(c: Connection, job: Job, at: float) -> None:
    """Everything stored: the study is delivered, or declined where the documents said so."""
    state = c.execute(select(studies.c.state).where(studies.c.uid == job.study_uid)).scalar_one()
    outcome = c.execute(select(jobs.c.outcome).where(*_job_is(job))).scalar_one()
    waiting = c.execute(select(func.count()).select_from(_waiting().where(*_documents_of(job)).subquery())).scalar_one()
    if state == "delivering" and not waiting:
        _advance(c, job, "declined" if outcome == "declined" else "delivered", at)


def _is_current(c: Connection, job: Job) -> bool:
    study = c.execute(select(studies.c.digest, studies.c.attempt).where(studies.c.uid == job.study_uid)).one()
    return (study.digest, study.attempt) == (job.digest, job.attempt)


def _unchanged(c: Connection, uid: str, clock: Clock) -> bool:
    study = c.execute(select(studies).where(studies.c.uid == uid)).one()
    return study.state == "receiving" and Clock(study.opened_at, study.changed_at) == clock


def _study(uid: str) -> Any:
    return update(studies).where(studies.c.uid == uid)


def _job(row: Row[Any]) -> Job:
    return Job(row.study_uid, row.digest, row.attempt)


def _job_is(job: Job) -> tuple[Any, ...]:
    return jobs.c.study_uid == job.study_uid, jobs.c.digest == job.digest, jobs.c.attempt == job.attempt


def _documents_of(job: Job) -> tuple[Any, ...]:
    return documents.c.study_uid == job.study_uid, documents.c.digest == job.digest


def _delivery_is(uid: str, destination: str) -> tuple[Any, ...]:
    return deliveries.c.sop_instance_uid == uid, deliveries.c.destination == destination


def _waiting() -> Any:
    columns = (deliveries, documents.c.study_uid, documents.c.path)
    return select(*columns).join(documents).where(deliveries.c.state != "stored").order_by(documents.c.made_at, documents.c.kind.desc())
