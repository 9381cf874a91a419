"""corrections: what came again with other bytes after its study was quarantined takes the place of what came first.

"Correct them at the source, send them again and retry the study": a corrected instance has the UID of the wrong one, so the receiver keeps
it aside. `studies retry` is the word of a person that it counts. Nothing is lost: the wrong one now stands aside.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from listener import headers, rows
from listener.eligibility import can_answer
from listener.errors import NotDicom
from listener.schema import asides, history, instances

RETRY = "retry"  # how the note of a retry begins


def asked_since(c: Connection, study_uid: str) -> float | None:
    """When the study was quarantined first since it had an answer or was retried; None where nothing is wrong. Other instances may have
    re-opened it since: whoever sends the whole study again sends the missing ones, too.
    """
    of_it, retried = history.c.study_uid == study_uid, (history.c.state == "queued") & history.c.note.startswith(RETRY)
    ended = select(func.max(history.c.at)).where(of_it, retried | history.c.state.in_(("delivered", "declined")))
    before = c.execute(ended).scalar() or 0.0
    asked = select(func.min(history.c.at)).where(of_it, history.c.state == "quarantined", history.c.at > before)
    found: float | None = c.execute(asked).scalar()
    return found


def take(c: Connection, study_uid: str, folder: Path) -> int:
    """Exchanges rows, not files; how many instances were corrected. What came before the one that is held corrects nothing."""
    since = asked_since(c, study_uid)
    held = (instances.c.study_uid == asides.c.study_uid) & (instances.c.sop_instance_uid == asides.c.sop_instance_uid)
    later = (asides.c.received_at > since, asides.c.received_at > instances.c.received_at)
    sent_again = select(asides).join(instances, held).where(asides.c.study_uid == study_uid, *later).order_by(asides.c.received_at)
    latest = {row.sop_instance_uid: row for row in c.execute(sent_again)}
    return sum(_exchange(c, row, folder) for row in latest.values())


def _exchange(c: Connection, aside: Row[tuple[object, ...]], folder: Path) -> bool:
    """False where the file is gone or the instance is not held."""
    try:
        corrected = headers.read(folder / aside.path, received_at=aside.received_at)
    except NotDicom:
        return False
    this = (instances.c.study_uid == aside.study_uid, instances.c.sop_instance_uid == aside.sop_instance_uid)
    wrong = c.execute(select(instances).where(*this)).one_or_none()
    if wrong is None:
        return False
    c.execute(delete(asides).where(*(asides.c[key] == getattr(aside, key) for key in ("study_uid", "sop_instance_uid", "sha256"))))
    c.execute(insert(asides).values({column.name: getattr(wrong, column.name) for column in asides.columns}))
    c.execute(update(instances).where(*this).values(**rows.instance_row(corrected, folder), can_answer=can_answer(corrected)))
    return True
