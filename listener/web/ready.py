"""ready: would what arrives now be kept and analysed? Port, spool, database, worker, model; destinations are told, not judged."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from listener.config import Config
from listener.ledger import Ledger
from listener.totals import DestinationTotals
from listener.view import iso

LOST = 15.0  # seconds without a heartbeat after which a worker counts as gone; it beats every 2 s, analysing or not


class Status(Protocol):
    """What only the running service knows."""

    @property
    def port(self) -> int | None:
        """Where plain DICOM is listened for; None where it is not."""
        ...

    @property
    def tls_port(self) -> int | None:
        """Where DICOM over TLS is."""
        ...

    @property
    def accepting(self) -> bool:
        """False from the moment the service is asked to stop, and before it listens."""
        ...


@dataclass(frozen=True, slots=True)
class Readiness:
    reasons: tuple[str, ...]  # why not; empty when ready
    workers: tuple[dict[str, Any], ...]
    destinations: tuple[dict[str, Any], ...]

    @property
    def ready(self) -> bool:
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        return {"ready": self.ready, "reasons": self.reasons, "workers": self.workers, "destinations": self.destinations}


def readiness(config: Config, ledger: Ledger, status: Status, now: float) -> Readiness:
    """The state of things at `now` (Unix seconds)."""
    reasons = [*_port(status), *_spool(config)]
    try:
        workers = [_worker(line, now) for line in ledger.workers()]
        totals = ledger.totals().destinations
    except SQLAlchemyError as error:
        return Readiness((*reasons, f"database: {type(error).__name__}"), (), ())
    if not any(worker["ready"] for worker in workers):
        starting = any(worker["alive"] for worker in workers)
        refused = next((worker["alarm"] for worker in workers if worker["alarm"] and not worker["models"]), None)
        said = "the model is still being loaded" if starting else "none is running"
        reasons.append(f"worker: {refused or said}")
    destinations = tuple(_destination(d.name, totals.get(d.name, DestinationTotals())) for d in config.destinations)
    return Readiness(tuple(reasons), tuple(workers), destinations)


def _port(status: Status) -> list[str]:
    return [] if status.accepting else ["port: no association is accepted; the service starts or stops"]


def _spool(config: Config) -> list[str]:
    folder, least = config.state.dir, config.state.min_free_bytes
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [f"spool: state.dir cannot be read ({error.strerror})"]
    if free < least:
        return [f"spool: {free} bytes free, fewer than state.min_free_bytes {least}"]
    return [] if os.access(folder, os.W_OK | os.X_OK) else ["spool: state.dir cannot be written to"]


def _worker(line: Any, now: float) -> dict[str, Any]:
    alive = now - line.heartbeat_at < LOST
    return {
        "slot": line.slot,
        "alive": alive,
        "ready": alive and line.ready and bool(line.models),
        "heartbeat_at": iso(line.heartbeat_at),
        "models": dict(line.models),
        "alarm": line.alarm or None,
    }


def _destination(name: str, totals: DestinationTotals) -> dict[str, Any]:
    """`state` tells of the last attempt of what still waits: nobody is called for asking."""
    state = "down" if totals.error else "ok" if totals.stored else "not tried yet"
    return {
        "name": name,
        "state": state,
        "stored": totals.stored,
        "waiting": totals.waiting,
        "error": totals.error or None,
        "next_at": iso(totals.oldest_next_at),
    }
