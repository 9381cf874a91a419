"""totals: the ledger added up, for /metrics and /readyz. Counted by the database, so that it costs the same however much was received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from listener import commitment
from listener.schema import MOVES, asides, deliveries, instances, jobs, studies


@dataclass(frozen=True, slots=True)
class DestinationTotals:
    """What one destination got, and what it still waits for."""

    stored: int = 0
    waiting: int = 0
    attempts: int = 0
    oldest_next_at: float | None = None  # of those that wait, Unix seconds
    error: str = ""  # of the latest attempt that failed and was not made good


@dataclass(frozen=True, slots=True)
class Totals:
    studies: Mapping[str, int]  # by state, every state named
    instances: int
    instance_bytes: int
    kept_aside: int
    commitments_open: int  # requests for storage commitment whose report was not accepted yet
    jobs: Mapping[tuple[str, str], int]  # by outcome and variant; the variant is empty where none answered
    findings: Mapping[tuple[str, str], int]  # by label and call
    agreements: Mapping[str, int]
    job_seconds: float  # verdict "complete" to result, summed over finished jobs
    destinations: Mapping[str, DestinationTotals]


def totals(c: Connection) -> Totals:
    states = _counts(c, studies.c.state)
    result, done = jobs.c.result, jobs.c.done_at.is_not(None)
    kept, size = c.execute(select(func.count(), func.coalesce(func.sum(instances.c.size), 0)).select_from(instances)).one()
    return Totals(
        studies={state: states.get((state,), 0) for state in MOVES},
        instances=kept,
        instance_bytes=size,
        kept_aside=c.execute(select(func.count()).select_from(asides)).scalar_one(),
        commitments_open=commitment.open_reports(c),
        jobs={(k[0], k[1] or ""): n for k, n in _counts(c, jobs.c.outcome, result["variant"].as_string(), where=done).items()},
        findings={
            (k[0], k[1]): n
            for k, n in _counts(
                c, result["finding", "label"].as_string(), result["finding", "call"].as_string(), where=jobs.c.outcome == "analysed"
            ).items()
        },
        agreements={k[0]: n for k, n in _counts(c, result["agreement"].as_string(), where=jobs.c.outcome == "analysed").items()},
        job_seconds=c.execute(select(func.coalesce(func.sum(jobs.c.done_at - jobs.c.judged_at), 0.0)).where(done)).scalar_one(),
        destinations=_destinations(c),
    )


def _counts(c: Connection, *columns: object, where: object = True) -> dict[tuple[str, ...], int]:
    query = select(*columns, func.count()).where(where).group_by(*columns)  # type: ignore[call-overload]
    return {tuple(row[:-1]): row[-1] for row in c.execute(query)}


def _destinations(c: Connection) -> dict[str, DestinationTotals]:
    d = deliveries.c
    numbers = select(d.destination, d.state, func.count(), func.sum(d.attempts), func.min(d.next_at)).group_by(d.destination, d.state)
    errors = select(d.destination, d.error).where(d.error != "", d.state != "stored").order_by(d.next_at)
    error: dict[str, str] = {row.destination: row.error for row in c.execute(errors)}  # the last one wins
    found: dict[str, dict[str, tuple[int, int, float | None]]] = {}
    for name, state, count, attempts, next_at in c.execute(numbers):
        found.setdefault(name, {})["stored" if state == "stored" else "waiting"] = (count, attempts, next_at)
    none = (0, 0, None)
    return {
        name: DestinationTotals(
            stored=states.get("stored", none)[0],
            waiting=states.get("waiting", none)[0],
            attempts=sum(part[1] for part in states.values()),
            oldest_next_at=states.get("waiting", none)[2],
            error=error.get(name, ""),
        )
        for name, states in found.items()
    }
