"""commitment: what peers ask us to keep so that they may delete it, and what we promised (Storage Commitment Push Model, PS3.4 annex J).

    N-ACTION > asked > checked: every file read from disk > N-EVENT-REPORT, until it is accepted

Queries on a connection of the ledger, and the decision about one reference. What is said over the wire is in commitment_wire.py, who
does it when in committer.py. `committed_at` is what whoever deletes instances has to ask first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Update, func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from listener import headers
from listener.errors import NotDicom
from listener.schema import asides, commitments, committed, instances

KEPT = 0
GRACE = 1.0  # s after a request; a peer that wants its report elsewhere has hung up by then, and a report would cross its release
# Failure Reason (PS3.3 C.14.1.1)
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_CONFLICT, DUPLICATE_TRANSACTION = 0x0110, 0x0112, 0x0119, 0x0131


class Reference(NamedTuple):
    """One item of the Referenced SOP Sequence."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Request:
    """One N-ACTION: who asks for what."""

    peer: str
    called: str
    address: str
    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request as the ledger holds it."""

    id: int
    request: Request
    requested_at: float  # Unix seconds
    reasons: tuple[int, ...]  # beside the references: KEPT or a Failure Reason; empty until it is checked

    @property
    def failures(self) -> int:
        return sum(reason != KEPT for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that we hold under some SOP Instance UID."""

    study_uid: str
    sop_instance_uid: str
    path: Path
    sha256: str  # of the data set
    sop_class_uid: str = ""  # of one that was kept aside the ledger knows neither class
    transfer_syntax_uid: str = ""  # nor transfer syntax


class Due(NamedTuple):
    id: int
    peer: str
    called: str
    address: str
    attempts: int  # made so far
    requested_at: float


# Asked


def ask(c: Connection, request: Request, at: float) -> int:
    """Persists a request; its id. The same transaction again is checked and reported again.

    A Transaction UID that its peer used before for other instances fails for each of them (PS3.3 C.14.1.1, 0131).
    """
    asked = [list(reference) for reference in request.references]
    same = commitments.c.peer == request.peer, commitments.c.transaction_uid == request.transaction_uid
    before = c.execute(select(commitments.c.id, commitments.c.asked).where(*same).order_by(commitments.c.id)).all()
    for row in before:
        if row.asked == asked:
            return _again(c, row.id, request, at, in_use=row.id != before[0].id)
    who = {"peer": request.peer, "called": request.called, "address": request.address, "transaction_uid": request.transaction_uid}
    refused = {"reasons": [DUPLICATE_TRANSACTION] * len(asked), "checked_at": at, "next_at": at + GRACE} if before else {}
    made = c.execute(commitments.insert().values(**who, requested_at=at, asked=asked, **refused))
    return int(made.inserted_primary_key[0])  # type: ignore[index]


def _again(c: Connection, number: int, request: Request, at: float, *, in_use: bool) -> int:
    values = {"address": request.address, "called": request.called, "requested_at": at, "reported_at": None, "error": "", "attempts": 0}
    values |= {"next_at": at + GRACE} if in_use else {"checked_at": None, "reasons": None, "next_at": None}
    c.execute(update(commitments).where(commitments.c.id == number).values(**values))
    return number


# Checked


def unchecked(c: Connection) -> list[int]:
    """Ids, oldest first."""
    waiting = select(commitments.c.id).where(commitments.c.checked_at.is_(None)).order_by(commitments.c.requested_at)
    return list(c.execute(waiting).scalars())


def load(c: Connection, number: int) -> Commitment:
    row = c.execute(select(commitments).where(commitments.c.id == number)).one()
    references = tuple(Reference(*pair) for pair in row.asked)
    request = Request(row.peer, row.called, row.address, row.transaction_uid, references)
    return Commitment(row.id, request, row.requested_at, tuple(row.reasons or ()))


def copies(c: Connection, uids: Collection[str], folder: Path) -> dict[str, list[Copy]]:
    """All that we hold under these SOP Instance UIDs, in any study, and what was kept aside; relative to the state folder `folder`."""
    found: dict[str, list[Copy]] = {}
    for row in c.execute(select(instances).where(instances.c.sop_instance_uid.in_(uids))):
        facts = (row.study_uid, row.sop_instance_uid, folder / row.path, row.sha256, row.sop_class_uid, row.transfer_syntax_uid)
        found.setdefault(row.sop_instance_uid, []).append(Copy(*facts))
    for row in c.execute(select(asides).where(asides.c.sop_instance_uid.in_(uids))):
        found.setdefault(row.sop_instance_uid, []).append(Copy(row.study_uid, row.sop_instance_uid, folder / row.path, row.sha256))
    return found


def reason_against(reference: Reference, held: Sequence[Copy]) -> int:
    """KEPT, or why we do not promise it. Reads the files.

    Where other bytes came under the same UID, its peer may mean any of them, so all of them have to be intact.
    """
    if not held:
        return NO_SUCH_INSTANCE
    if any(copy.sop_class_uid not in ("", reference.sop_class_uid) for copy in held):
        return CLASS_CONFLICT
    return KEPT if all(map(is_intact, held)) else PROCESSING_FAILURE


def is_intact(copy: Copy) -> bool:
    """Does the disk hold what the ledger says?"""
    try:
        syntax, sha256 = headers.on_disk(copy.path)
    except NotDicom:
        return False
    return sha256 == copy.sha256 and copy.transfer_syntax_uid in ("", syntax)


def promise(c: Connection, kept: Iterable[Copy], at: float) -> set[str]:
    """Records that these are kept for good; the SOP Instance UIDs of those whose row changed since it was read, which are not."""
    wanted = {(copy.study_uid, copy.sop_instance_uid): copy for copy in kept if copy.sop_class_uid}
    uids = {uid for _, uid in wanted}
    rows = c.execute(select(instances).where(instances.c.sop_instance_uid.in_(uids)))
    now = {(row.study_uid, row.sop_instance_uid): row.sha256 for row in rows}
    changed = {key for key, copy in wanted.items() if now.get(key) != copy.sha256}
    good = [{"study_uid": study, "sop_instance_uid": uid, "committed_at": at} for study, uid in wanted.keys() - changed]
    if good:
        c.execute(upsert(committed).on_conflict_do_nothing(), good)
    return {uid for _, uid in changed}


def checked(c: Connection, number: int, reasons: Sequence[int], at: float, next_at: float) -> None:
    """The answer is known; its report is due at `next_at`."""
    values = {"reasons": list(reasons), "checked_at": at, "next_at": next_at}
    c.execute(update(commitments).where(commitments.c.id == number).values(**values))


# Reported


def wake(c: Connection, at: float) -> None:
    """At start: every report that was not accepted is due, those too for which there was no way."""
    c.execute(update(commitments).where(*_pending()).values(next_at=at))


def due(c: Connection, at: float) -> list[Due]:
    columns = [commitments.c[name] for name in Due._fields]
    waiting = select(*columns).where(*_pending(), commitments.c.next_at <= at).order_by(commitments.c.next_at)
    return [Due(*row) for row in c.execute(waiting)]


def next_due(c: Connection, after: float) -> float | None:
    """When the next report is due, Unix seconds."""
    return c.execute(select(func.min(commitments.c.next_at)).where(*_pending(), commitments.c.next_at > after)).scalar()


def reported(c: Connection, told: Due, at: float) -> None:
    """Its peer has accepted the report. Who asked again meanwhile is told again."""
    c.execute(_of(told).values(reported_at=at, next_at=None, error=""))


def not_reported(c: Connection, told: Due, attempt: int, error: str, next_at: float | None) -> None:
    c.execute(_of(told).values(attempts=attempt, error=error, next_at=next_at))


def _of(told: Due) -> Update:
    return update(commitments).where(commitments.c.id == told.id, commitments.c.requested_at == told.requested_at)


def _pending() -> tuple[ColumnElement[bool], ...]:
    return commitments.c.checked_at.is_not(None), commitments.c.reported_at.is_(None)


# For the outside


def committed_at(c: Connection, study_uid: str) -> dict[str, float]:
    """When each instance of a study, by SOP Instance UID, was promised to be kept (Unix seconds). None of these may ever be deleted."""
    rows = c.execute(select(committed.c.sop_instance_uid, committed.c.committed_at).where(committed.c.study_uid == study_uid))
    return dict(iter(rows))


def open_reports(c: Connection) -> int:
    """How many requests wait for a check, or for their report to be accepted."""
    return c.execute(select(func.count()).select_from(commitments).where(commitments.c.reported_at.is_(None))).scalar_one()
