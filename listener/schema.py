"""The ledger's tables, and the states of a study as a table.

    receiving > queued > analysing > delivering > delivered | declined | quarantined

Times are Unix seconds. Paths are relative to the state folder, so that it can be moved whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)

VERSION = 3  # of the tables; PRAGMA user_version

# What may follow what. An instance that can change the answer brings a judged study back to receiving.
MOVES: Mapping[str, frozenset[str]] = {
    "receiving": frozenset({"queued", "declined"}),
    "queued": frozenset({"receiving", "analysing", "quarantined"}),
    "analysing": frozenset({"receiving", "delivering", "declined", "quarantined"}),
    "delivering": frozenset({"receiving", "delivered", "declined", "quarantined"}),
    "delivered": frozenset({"receiving"}),
    "declined": frozenset({"receiving"}),
    "quarantined": frozenset({"receiving", "queued"}),
}

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", String, nullable=False, default=""),  # why declined, or the error of a quarantine
    Column("calling_ae", String(16), nullable=False),
    Column("called_ae", String(16), nullable=False),
    Column("first_at", Float, nullable=False),  # first instance of all
    Column("opened_at", Float, nullable=False),  # first instance after the last verdict
    Column("changed_at", Float, nullable=False),  # last instance that can change the answer
    Column("digest", String(64)),  # of the job that answers for the study now; null while receiving
    Column("attempt", Integer, nullable=False, default=0),
)

instances = Table(
    "instances",
    metadata,
    Column("study_uid", ForeignKey("studies.uid"), primary_key=True),
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("series_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("path", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),  # of the data set, without file meta information
    Column("received_at", Float, nullable=False),
    Column("can_answer", Boolean, nullable=False),  # its SOP class can change an answer
    Column("headers", JSON, nullable=False),
)

asides = Table(  # same SOP Instance UID, other bytes: kept, never mixed in
    "asides",
    metadata,
    Column("study_uid", ForeignKey("studies.uid"), primary_key=True),
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("path", String, nullable=False),
    Column("received_at", Float, nullable=False),
)

jobs = Table(  # one verdict "complete": a snapshot of instances
    "jobs",
    metadata,
    Column("study_uid", ForeignKey("studies.uid"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("judged_at", Float, nullable=False),
    Column("because", String, nullable=False),
    Column("sop_instance_uids", JSON, nullable=False),
    Column("handed_over_at", Float),
    Column("done_at", Float),
    Column("outcome", String(16)),  # analysed, declined, quarantined
    Column("result", JSON),  # finding, model, variant, agreement, timings
    Column("replaces", JSON),  # documents of earlier results (revisions.py); null until the job begins
)

documents = Table(  # made once, kept, sent as often as it takes
    "documents",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("study_uid", ForeignKey("studies.uid"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("path", String, nullable=False),
    Column("sha256", String(64), nullable=False),  # of the whole file
    Column("made_at", Float, nullable=False),
    Index("documents_by_job", "study_uid", "digest"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("sop_instance_uid", ForeignKey("documents.sop_instance_uid"), primary_key=True),
    Column("destination", String, primary_key=True),
    Column("state", String(16), nullable=False),  # waiting, stored
    Column("attempts", Integer, nullable=False, default=0),
    Column("error", String, nullable=False, default=""),  # of the last attempt
    Column("next_at", Float),
    Column("stored_at", Float),
)

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", ForeignKey("studies.uid"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", String, nullable=False, default=""),
)

workers = Table(
    "workers",
    metadata,
    Column("slot", Integer, primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("models", JSON, nullable=False),  # name -> variant served
    Column("alarm", String, nullable=False, default=""),  # int8 and fp32 differ too often; or, not ready, why it cannot work
)

commitments = Table(  # one request for storage commitment (PS3.4 annex J); checked_at and reported_at say how far it has come
    "commitments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("peer", String(16), nullable=False),  # who asked, by its calling AE title
    Column("called", String(16), nullable=False),  # what it called us, so the report comes from the same
    Column("address", String, nullable=False),  # it asked from
    Column("transaction_uid", String(64), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("asked", JSON, nullable=False),  # [[SOP class UID, SOP Instance UID], ...]
    Column("checked_at", Float),
    Column("reasons", JSON),  # beside `asked`: 0 kept, else the Failure Reason
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float),  # the next attempt to report; null where there is no way to
    Column("error", String, nullable=False, default=""),  # of the last attempt
    Column("reported_at", Float),  # its peer has accepted the report
    Index("commitments_by_transaction", "peer", "transaction_uid"),
)

committed = Table(  # instances that a peer may have deleted because we keep them: SQLite itself refuses to delete their rows
    "committed",
    metadata,
    Column("study_uid", String(64), primary_key=True),
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("committed_at", Float, nullable=False),  # the first time
    ForeignKeyConstraint(["study_uid", "sop_instance_uid"], ["instances.study_uid", "instances.sop_instance_uid"]),
    Index("committed_by_instance", "sop_instance_uid"),
)

_BY_INSTANCE = "CREATE INDEX IF NOT EXISTS instances_by_uid ON instances (sop_instance_uid)"  # a commitment names no study


def upgrade(c: Any, version: int) -> None:
    """Makes the tables that are missing, and brings those of an earlier version up to this one."""
    metadata.create_all(c)
    if version == 1:
        c.exec_driver_sql("ALTER TABLE jobs ADD COLUMN replaces JSON")
    c.exec_driver_sql(_BY_INSTANCE)  # create_all makes indexes of new tables only
    c.exec_driver_sql(f"PRAGMA user_version={VERSION}")


def open_engine(path: Path) -> Engine:
    """SQLite with WAL and synchronous=FULL: a committed row survives a power cut. Writers begin immediately, so none fails half-way."""
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the sqlite3 module would otherwise begin transactions of its own, deferred
    for pragma in ("busy_timeout=15000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")
