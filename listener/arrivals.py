"""arrivals: the rows of what came in, many in one transaction, on a connection that nobody else uses: the receiver's hot path.

Headers of a new instance are read when there is time (index.py); until then its row holds none.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, String, Update, bindparam, insert, select, type_coerce, update
from sqlalchemy.dialects.sqlite import insert as upsert

from listener import rows
from listener.rows import NO_HEADERS
from listener.schema import asides, history, instances, studies
from pipeline.records import Instance

Key = tuple[str, str]
"""Study Instance UID, SOP Instance UID."""

REMEMBERED = 256  # studies whose instances we know without asking; those of 1000 take 0.1 MB

_IN_STUDY = select(instances.c.sop_instance_uid).where(instances.c.study_uid == bindparam("of"))
_HELD = select(instances).where(instances.c.study_uid == bindparam("of"), instances.c.sop_instance_uid == bindparam("uid"))
_STUDY = select(studies.c.state, studies.c.changed_at).where(studies.c.uid == bindparam("of"))
_STILL_OPEN = (
    update(studies)
    .where(studies.c.uid == bindparam("of"), studies.c.state == "receiving", studies.c.changed_at <= bindparam("at"))
    .values(changed_at=bindparam("at"))
)
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


class Arrivals:
    """What came in, to rows. Only one process adds instances, and nobody takes any away, so it knows what it has seen."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._known: OrderedDict[str, set[str]] = OrderedDict()  # SOP Instance UIDs of a study, the last used last
        self._still_open, self._new = _Prepared(engine, _STILL_OPEN), _Prepared(engine, insert(instances))

    def close(self) -> None:
        with self._lock:
            if self._connection:
                self._connection.close()
            self._connection = None

    def held(self, keys: Iterable[Key]) -> dict[Key, Instance]:
        """Those of `keys` that we have."""
        with self._lock:
            seen = [key for key in dict.fromkeys(keys) if key[1] in self._of_study(key[0])]
            if not seen:
                return {}
            with self._begun() as c:
                found = [c.execute(_HELD, {"of": study, "uid": uid}).one() for study, uid in seen]
        return {key: rows.instance(row, self._folder) for key, row in zip(seen, found, strict=True)}

    def add(self, arrived: Sequence[Arrival], aside: Sequence[Instance]) -> None:
        """New instances. One that can change the answer re-opens its study and starts the quiet time again.

        `aside`: with the SOP Instance UID of one that we hold, and other bytes: kept, never mixed in.
        """
        with self._lock:
            with self._begun() as c:
                for uid in dict.fromkeys(a.instance.study_uid for a in arrived):
                    self._open(c, uid, [a for a in arrived if a.instance.study_uid == uid])
                self._new(c, [self._row(a) for a in arrived])
                _add_asides(c, aside, self._folder)
            for a in arrived:
                self._of_study(a.instance.study_uid).add(a.instance.sop_instance_uid)

    def _begun(self) -> Any:
        """A transaction; it ends with its block, the connection does not."""
        self._connection = self._connection or self._engine.connect()
        return _Begun(self._connection)

    def _of_study(self, uid: str) -> set[str]:
        known = self._known.get(uid)
        if known is None:
            with self._begun() as c:
                known = self._known[uid] = set(c.execute(_IN_STUDY, {"of": uid}).scalars())
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(uid)
        return known

    def _row(self, arrival: Arrival) -> dict[str, Any]:
        row = rows.instance_row(arrival.instance, self._folder)
        return {**row, "headers": rows.as_json(row["headers"]), "can_answer": arrival.can_answer}

    def _open(self, c: Connection, uid: str, arrived: Sequence[Arrival]) -> None:
        """The study that `arrived` belong to: made, kept open, or opened again."""
        at = max((a.instance.received_at for a in arrived if a.can_answer), default=0.0)
        if at and self._still_open(c, [{"of": uid, "at": at}]):
            return
        study = c.execute(_STUDY, {"of": uid}).one_or_none()
        if study is None:
            _make(c, uid, arrived[0], at)
        elif at and study.state != "receiving":
            c.execute(_REOPENED, {"of": uid, "at": at})
            c.execute(insert(history), {"study_uid": uid, "at": at, "state": "receiving", "note": "an instance came after the verdict"})


class _Begun:
    """SQLAlchemy's own `begin` of a connection that is kept, with what it caught rolled back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        self._transaction = self._connection.begin()
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._transaction.commit()
        else:
            self._transaction.rollback()


class _Prepared:
    """A statement as the driver takes it. Compiling it anew, or looking up that it is not needed, takes longer than what SQLite does."""

    def __init__(self, engine: Engine, statement: Insert | Update) -> None:
        compiled: Any = statement.compile(engine)
        self._text, self._names = str(compiled), compiled.positiontup
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}

    def __call__(self, c: Connection, values: Sequence[dict[str, Any]]) -> int:
        """How many rows it changed."""
        if not values:
            return 0
        parameters = [tuple(({**self._fixed, **row})[name] for name in self._names) for row in values]
        return c.exec_driver_sql(self._text, parameters if len(parameters) > 1 else parameters[0]).rowcount


def unread(c: Connection, study_uid: str | None, folder: Path) -> list[Instance]:
    """The instances of a study, or of all, whose headers were not read yet; the oldest first."""
    query = _UNREAD if study_uid is None else _UNREAD.where(instances.c.study_uid == study_uid)
    return [rows.instance(row, folder) for row in c.execute(query)]


def read(c: Connection, found: Sequence[Instance]) -> None:
    """Their headers are known now."""
    if found:
        c.execute(_READ, [{"of": i.study_uid, "uid": i.sop_instance_uid, "found": rows.headers(i)} for i in found])


def _make(c: Connection, uid: str, first: Arrival, answers_at: float) -> None:
    at = first.instance.received_at
    names = {"uid": uid, "state": "receiving", "calling_ae": first.calling_ae, "called_ae": first.called_ae}
    c.execute(insert(studies), {**names, "first_at": at, "opened_at": at, "changed_at": max(at, answers_at)})
    c.execute(insert(history), {"study_uid": uid, "at": at, "state": "receiving"})


def _add_asides(c: Connection, found: Sequence[Instance], folder: Path) -> None:
    columns = ("study_uid", "sop_instance_uid", "sha256", "path", "received_at")
    for instance in found:
        row = rows.instance_row(instance, folder)
        c.execute(upsert(asides).values(**{key: row[key] for key in columns}).on_conflict_do_nothing())
