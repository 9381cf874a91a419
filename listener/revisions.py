"""revisions: which documents the result of a job replaces (PS3.3 C.17.2, Predecessor Documents Sequence).

Sets of instances only grow, so an earlier result of a study is one on fewer instances, whatever the clocks say; a result on the same set
is none. Of each kind of document the last one counts: a "not analysed" Summary is replaced by the next Summary, and where a study was
declined without a document, what was made before that stays the one to replace.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection, Row, and_, select, update

from listener import headers
from listener.errors import NotDicom
from listener.schema import documents, jobs
from pipeline.records import Predecessor


def settle(c: Connection, job: Row[tuple[object, ...]], folder: Path) -> tuple[Predecessor, ...]:
    """What the result of `job` (a row of jobs) replaces: looked up when it first begins, and the same ever after.

    A worker that died is followed by one that must make the same bytes, and by then another may have finished more.
    """
    if job.replaces is not None:
        return tuple(Predecessor(**kept) for kept in job.replaces)
    found = _earlier(c, job, folder)
    this = (jobs.c[key] == getattr(job, key) for key in ("study_uid", "digest", "attempt"))
    c.execute(update(jobs).where(*this).values(replaces=[asdict(document) for document in found]))
    return found


def _earlier(c: Connection, job: Row[tuple[object, ...]], folder: Path) -> tuple[Predecessor, ...]:
    made_for = and_(jobs.c.study_uid == documents.c.study_uid, jobs.c.digest == documents.c.digest)
    rows = c.execute(select(documents, jobs.c.sop_instance_uids).join(jobs, made_for).where(documents.c.study_uid == job.study_uid))
    fewer = [row for row in rows if len(row.sop_instance_uids) < len(job.sop_instance_uids)]
    last = {row.kind: row for row in sorted(fewer, key=lambda row: len(row.sop_instance_uids))}
    return tuple(found for kind in sorted(last) if (found := _predecessor(last[kind], folder)) is not None)


def _predecessor(row: Row[tuple[object, ...]], folder: Path) -> Predecessor | None:
    """None where the document is gone from the state folder: its series is known nowhere else."""
    try:
        series = headers.read(folder / row.path).series_uid
    except NotDicom:
        return None
    return Predecessor(row.kind, row.sop_class_uid, row.sop_instance_uid, series, len(row.sop_instance_uids))
