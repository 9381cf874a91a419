"""arrivals: the rows of what came in, many in one transaction. Statements are built once: this is the receiver's hot path.

Headers of a new instance are read when there is time (index.py); until then its row holds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, String, bindparam, insert, select, type_coerce, update
from sqlalchemy.dialects.sqlite import insert as upsert

from listener import rows
from listener.rows import NO_HEADERS
from listener.schema import asides, history, instances, studies
from pipeline.records import Instance

Key = tuple[str, str]
"""Study Instance UID, SOP Instance UID."""

_HELD = select(instances).where(instances.c.study_uid == bindparam("of"), instances.c.sop_instance_uid == bindparam("uid"))
_STUDY = select(studies.c.state, studies.c.changed_at).where(studies.c.uid == bindparam("of"))
_CHANGED = update(studies).where(studies.c.uid == bindparam("of")).values(changed_at=bindparam("at"))
_REOPENED = (
    update(studies)
    .where(studies.c.uid == bindparam("of"))
    .values(state="receiving", opened_at=bindparam("at"), changed_at=bindparam("at"), digest=None, reason="")
)
_READ = (
    update(instances)
    .where(instances.c.study_uid == bindparam("of"), instances.c.sop_instance_uid == bindparam("uid"))
    .values(headers=bindparam("found"))
)
_UNREAD = select(instances).where(type_coerce(instances.c.headers, String) == NO_HEADERS).order_by(instances.c.received_at)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new instance, and who brought it."""

    instance: Instance
    can_answer: bool
    calling_ae: str = ""
    called_ae: str = ""


def held(c: Connection, keys: Iterable[Key], folder: Path) -> dict[Key, Instance]:
    """Those of `keys` that we have."""
    found = {}
    for study, uid in dict.fromkeys(keys):
        row = c.execute(_HELD, {"of": study, "uid": uid}).one_or_none()
        if row is not None:
            found[study, uid] = rows.instance(row, folder)
    return found


def add(c: Connection, arrivals: Sequence[Arrival], folder: Path) -> None:
    """New instances. One that can change the answer re-opens its study and starts the quiet time again."""
    by_study: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        by_study.setdefault(arrival.instance.study_uid, []).append(arrival)
    for uid, arrived in by_study.items():
        _open(c, uid, arrived)
    if arrivals:
        c.execute(insert(instances), [{**rows.instance_row(a.instance, folder), "can_answer": a.can_answer} for a in arrivals])


def add_asides(c: Connection, found: Sequence[Instance], folder: Path) -> None:
    """Same SOP Instance UID, other bytes than those we hold: kept, never mixed in."""
    columns = ("study_uid", "sop_instance_uid", "sha256", "path", "received_at")
    for instance in found:
        row = rows.instance_row(instance, folder)
        c.execute(upsert(asides).values(**{key: row[key] for key in columns}).on_conflict_do_nothing())


def unread(c: Connection, study_uid: str | None, folder: Path) -> list[Instance]:
    """The instances of a study, or of all, whose headers were not read yet; the oldest first."""
    query = _UNREAD if study_uid is None else _UNREAD.where(instances.c.study_uid == study_uid)
    return [rows.instance(row, folder) for row in c.execute(query)]


def read(c: Connection, found: Sequence[Instance]) -> None:
    """Their headers are known now."""
    if found:
        c.execute(_READ, [{"of": i.study_uid, "uid": i.sop_instance_uid, "found": rows.headers(i)} for i in found])


def _open(c: Connection, uid: str, arrived: Sequence[Arrival]) -> None:
    """The study that `arrived` belong to: made, kept open, or opened again."""
    study = c.execute(_STUDY, {"of": uid}).one_or_none()
    if study is None:
        first, last = arrived[0], max(_answers_at(arrived), arrived[0].instance.received_at)
        at = first.instance.received_at
        names: dict[str, Any] = {"uid": uid, "state": "receiving", "calling_ae": first.calling_ae, "called_ae": first.called_ae}
        c.execute(insert(studies), {**names, "first_at": at, "opened_at": at, "changed_at": last})
        c.execute(insert(history), {"study_uid": uid, "at": at, "state": "receiving"})
        return
    at = _answers_at(arrived)
    if not at:
        return
    if study.state == "receiving":
        c.execute(_CHANGED, {"of": uid, "at": max(at, study.changed_at)})
        return
    c.execute(_REOPENED, {"of": uid, "at": at})
    c.execute(insert(history), {"study_uid": uid, "at": at, "state": "receiving", "note": "an instance came after the verdict"})


def _answers_at(arrived: Sequence[Arrival]) -> float:
    """When the last came that can change the answer; 0 where none of them can."""
    return max((a.instance.received_at for a in arrived if a.can_answer), default=0.0)
