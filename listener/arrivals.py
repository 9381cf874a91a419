"""arrivals: the rows of what came in, many in one transaction, on a connection that nobody else uses: the receiver's hot path.

Headers of a new instance are read when there is time (index.py); until then its row holds none.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, String, Table, bindparam, select, type_coerce, update
from sqlalchemy.exc import OperationalError

from listener import rows
from listener.rows import NO_HEADERS
from listener.schema import asides, instances
from pipeline.records import Instance

Key = tuple[str, str]
"""Study Instance UID, SOP Instance UID."""

REMEMBERED = 256  # studies whose instances we know without asking; those of 1000 take 0.1 MB

_HELD = select(instances).where(instances.c.study_uid == bindparam("of"), instances.c.sop_instance_uid == bindparam("uid"))
_READ = (
    update(instances)
    .where(
        instances.c.study_uid == bindparam("of"),
        instances.c.sop_instance_uid == bindparam("uid"),
        instances.c.path == bindparam("at"),  # of that file, and not of a correction that has taken its place
        type_coerce(instances.c.headers, String) == NO_HEADERS,
    )
    .values(headers=bindparam("found"))
)
_UNREAD = select(instances).where(type_coerce(instances.c.headers, String) == NO_HEADERS).order_by(instances.c.received_at)


class _Statement:
    """As the driver takes it, with named values."""

    def __init__(self, text: str) -> None:
        self._text = text

    def run(self, driver: Any, values: Sequence[dict[str, Any]]) -> int:
        """How many rows it changed."""
        if not values:
            return 0
        cursor = driver.cursor()
        cursor.executemany(self._text, values)
        return int(cursor.rowcount)

    def value(self, driver: Any, values: dict[str, Any]) -> Any:
        """Of the first row; None where there is none."""
        row = driver.cursor().execute(self._text, values).fetchone()
        return None if row is None else row[0]


def _insert(table: Table) -> str:
    columns = tuple(column.name for column in table.columns)
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"  # noqa: S608 - our own names


_IN_STUDY = "SELECT sop_instance_uid FROM instances WHERE study_uid = ?"
_NEW = _Statement(_insert(instances))
_ASIDE = _Statement(_insert(asides) + " ON CONFLICT DO UPDATE SET received_at = excluded.received_at")
_STILL_OPEN = _Statement(  # a little later in any case, whatever the clocks say: who judged without this one is to notice
    "UPDATE studies SET changed_at = max(changed_at + 0.000001, :at) WHERE uid = :of AND state = 'receiving'"
)
_STATE = _Statement("SELECT state FROM studies WHERE uid = :of")
_STUDY = _Statement(
    "INSERT INTO studies (uid, state, reason, calling_ae, called_ae, first_at, opened_at, changed_at, attempt)"
    " VALUES (:uid, 'receiving', '', :calling_ae, :called_ae, :began, :began, :changed, 0)"
)
_REOPENED = _Statement(
    "UPDATE studies SET state = 'receiving', opened_at = :at, changed_at = :at, digest = NULL, reason = '' WHERE uid = :of"
)
_STEP = _Statement("INSERT INTO history (study_uid, at, state, note) VALUES (:of, :at, 'receiving', :note)")


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
        self._lock, self._knowing = threading.Lock(), threading.Lock()  # for what is written, and for `_known`
        self._driver: Any = None  # its connections, as the driver has them: one writes,
        self._reader: Any = None  # and one reads meanwhile
        self._known: OrderedDict[str, set[str]] = OrderedDict()  # SOP Instance UIDs of a study, the last used last

    def close(self) -> None:
        with self._lock, self._knowing:
            for connection in (self._driver, self._reader):
                if connection:
                    connection.close()
            self._driver = self._reader = None

    def held(self, key: Key) -> Instance | None:
        """The one with these UIDs, if we have it. Waits for no transaction."""
        study, uid = key
        with self._knowing:
            if uid not in self._of_study(study):
                return None
        with self._engine.begin() as c:
            return rows.instance(c.execute(_HELD, {"of": study, "uid": uid}).one(), self._folder)

    def add(self, arrived: Sequence[Arrival], aside: Sequence[Instance]) -> None:
        """New instances. One that can change the answer re-opens its study and starts the quiet time again.

        `aside`: with the SOP Instance UID of one that we hold, and other bytes: kept, never mixed in.
        """
        studies = [[a for a in arrived if a.instance.study_uid == uid] for uid in dict.fromkeys(a.instance.study_uid for a in arrived)]
        with self._lock, self._transaction() as driver:
            for of_one in studies:
                self._open(driver, of_one[0].instance.study_uid, of_one)
            _NEW.run(driver, [self._row(a) for a in arrived])
            _ASIDE.run(driver, [rows.instance_row(instance, self._folder) for instance in aside])
        with self._knowing:
            for a in arrived:
                self._known.get(a.instance.study_uid, set()).add(a.instance.sop_instance_uid)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """The driver's own connection: what the layers above it add to each statement takes longer than SQLite does. Raises DBAPIError."""
        driver = self._driver = self._driver or self._engine.raw_connection()
        try:
            driver.execute("BEGIN IMMEDIATE")
            yield driver
            driver.execute("COMMIT")
        except BaseException as error:
            with self._knowing:
                self._known.clear()  # what is known may be why
            with suppress(sqlite3.Error):
                driver.rollback()
            if isinstance(error, sqlite3.Error):
                raise OperationalError(None, None, error) from error
            raise

    def _of_study(self, uid: str) -> set[str]:
        known = self._known.get(uid)
        if known is None:
            reader = self._reader = self._reader or self._engine.raw_connection()
            try:
                known = self._known[uid] = {row[0] for row in reader.execute(_IN_STUDY, [uid])}
            except sqlite3.Error as error:
                raise OperationalError(None, None, error) from error
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(uid)
        return known

    def _row(self, arrival: Arrival) -> dict[str, Any]:
        row = rows.instance_row(arrival.instance, self._folder)
        return {**row, "headers": rows.as_json(row["headers"]), "can_answer": arrival.can_answer}

    def _open(self, driver: Any, uid: str, arrived: Sequence[Arrival]) -> None:
        """The study that `arrived` belong to: made, kept open, or opened again."""
        at = max((a.instance.received_at for a in arrived if a.can_answer), default=0.0)
        this = {"of": uid, "at": at}
        if _STILL_OPEN.run(driver, [this]):
            return
        state = _STATE.value(driver, this)
        if state is None:
            first = arrived[0]
            began = first.instance.received_at
            names = {"uid": uid, "calling_ae": first.calling_ae, "called_ae": first.called_ae}
            _STUDY.run(driver, [{**names, "began": began, "changed": max(began, at)}])
            _STEP.run(driver, [{"of": uid, "at": began, "note": ""}])
        elif at and state != "receiving":
            _REOPENED.run(driver, [this])
            _STEP.run(driver, [{**this, "note": "an instance came after the verdict"}])


def unread(c: Connection, study_uid: str | None, folder: Path) -> list[Instance]:
    """The instances of a study, or of all, whose headers were not read yet; the oldest first."""
    query = _UNREAD if study_uid is None else _UNREAD.where(instances.c.study_uid == study_uid)
    return [rows.instance(row, folder) for row in c.execute(query)]


def forget(c: Connection, instance: Instance) -> None:
    """Its headers, until they are read again."""
    this = (instances.c.study_uid == instance.study_uid, instances.c.sop_instance_uid == instance.sop_instance_uid)
    c.execute(update(instances).where(*this).values(headers={}))


def read(c: Connection, found: Sequence[Instance], folder: Path) -> None:
    """Their headers are known now."""
    values = [rows.instance_row(instance, folder) for instance in found]
    if values:
        c.execute(_READ, [{"of": v["study_uid"], "uid": v["sop_instance_uid"], "at": v["path"], "found": v["headers"]} for v in values])
