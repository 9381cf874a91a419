"""view: what the ledger tells the outside: command line, page, API, metrics. UIDs, states, digests, times; nothing of the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from listener import commitment
from listener.errors import UnknownStudy
from listener.schema import asides, deliveries, documents, history, instances, jobs, studies, workers
from pipeline.records import Geometry


@dataclass(frozen=True, slots=True)
class Overview:
    """One study in one line."""

    uid: str
    state: str
    reason: str  # why declined, or the error of a quarantine; else empty
    calling_ae: str
    first_at: float
    changed_at: float
    instances: int
    finding: Mapping[str, Any] | None  # label, call, probability ... of the last answer
    stored: int  # deliveries that arrived
    deliveries: int
    delivery_error: str  # of a delivery that waits for its next attempt


@dataclass(frozen=True, slots=True)
class WorkerLine:
    slot: int
    pid: int
    started_at: float
    heartbeat_at: float
    ready: bool
    models: Mapping[str, str]  # name -> variant that answers
    alarm: str


def overviews(c: Connection, state: str | None) -> list[Overview]:
    query = select(studies).order_by(studies.c.changed_at.desc(), studies.c.uid)
    rows = c.execute(query if state is None else query.where(studies.c.state == state)).all()
    per_study = select(instances.c.study_uid, func.count()).group_by(instances.c.study_uid)
    counts: dict[str, int] = dict(iter(c.execute(per_study)))
    findings: dict[str, Any] = {}
    for job in c.execute(select(jobs.c.study_uid, jobs.c.result).where(jobs.c.outcome == "analysed").order_by(jobs.c.done_at)):
        findings[job.study_uid] = job.result["finding"]
    sent: dict[str, list[Row[Any]]] = {}
    for delivery in c.execute(select(deliveries, documents.c.study_uid).join(documents)):
        sent.setdefault(delivery.study_uid, []).append(delivery)
    return [_overview(row, counts.get(row.uid, 0), findings.get(row.uid), sent.get(row.uid, ())) for row in rows]


def _overview(row: Row[Any], count: int, finding: Mapping[str, Any] | None, sent: Sequence[Row[Any]]) -> Overview:
    return Overview(
        uid=row.uid,
        state=row.state,
        reason=row.reason,
        calling_ae=row.calling_ae,
        first_at=row.first_at,
        changed_at=row.changed_at,
        instances=count,
        finding=finding,
        stored=sum(d.state == "stored" for d in sent),
        deliveries=len(sent),
        delivery_error=next((f"{d.destination}: {d.error}" for d in sent if d.error), ""),
    )


def worker_lines(c: Connection) -> list[WorkerLine]:
    return [WorkerLine(**row._mapping) for row in c.execute(select(workers).order_by(workers.c.slot))]


def describe(c: Connection, uid: str) -> dict[str, Any]:
    """One study as JSON can hold it; times in ISO 8601, UTC. Raises UnknownStudy."""
    study = c.execute(select(studies).where(studies.c.uid == uid)).one_or_none()
    if study is None:
        raise UnknownStudy(uid)
    steps = c.execute(select(history).where(history.c.study_uid == uid).order_by(history.c.id)).all()
    promised = commitment.committed_at(c, uid)
    results = [_job(row) for row in c.execute(select(jobs).where(jobs.c.study_uid == uid).order_by(jobs.c.judged_at))]
    return {
        "study": uid,
        "state": study.state,
        "reason": study.reason or None,
        "calling_ae": study.calling_ae,
        "called_ae": study.called_ae,
        "first_at": iso(study.first_at),
        "changed_at": iso(study.changed_at),
        "finding": next((r["finding"] for r in reversed(results) if r["finding"]), None),
        "timings_ms": _hops(steps),
        "history": [{"at": iso(step.at), "state": step.state, "note": step.note or None} for step in steps],
        "instances": [
            _instance(row, promised.get(row.sop_instance_uid))
            for row in c.execute(select(instances).where(instances.c.study_uid == uid).order_by(instances.c.path))
        ],
        "also_elsewhere": _elsewhere(c, uid),
        "kept_aside": [_aside(row) for row in c.execute(select(asides).where(asides.c.study_uid == uid).order_by(asides.c.received_at))],
        "results": results,
        "documents": _documents(c, uid),
        "deliveries": _deliveries(c, uid),
    }


def as_json(overview: Overview) -> dict[str, Any]:
    """One study of the list, as `studies --json` and /api/studies give it."""
    row = asdict(overview)
    uid, reason = row.pop("uid"), row.pop("reason")
    times = {key: iso(row.pop(key)) for key in ("first_at", "changed_at")}
    return {"study": uid, "state": row.pop("state"), "reason": reason or None, **row, **times}


def in_words(finding: Mapping[str, Any] | None) -> str:
    """ "glioma present 0.97", or nothing."""
    return f"{finding['label']} {finding['call']} {finding['probability']:.2f}" if finding else ""


def lie(geometry: Mapping[str, Any] | None) -> str:
    """ "24 axial slices 6.0 mm apart", as the Summary says it; or nothing."""
    return Geometry(geometry["plane"], geometry["tilt"], between=geometry["between"]).told(geometry["slices"]) if geometry else ""


def remarks(geometry: Mapping[str, Any] | None) -> str:
    """What was odd about the slices, in whole sentences."""
    return " ".join(geometry["remarks"]) if geometry else ""


def iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _hops(steps: Sequence[Row[Any]]) -> dict[str, float]:
    """Milliseconds spent in each state that was left again; of a state that came several times, the last."""
    return {step.state: round((after.at - step.at) * 1000, 1) for step, after in pairwise(steps)}


def _instance(row: Row[Any], committed_at: float | None) -> dict[str, Any]:
    """Without the headers: they may hold free text of the study."""
    columns = ("sop_instance_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid", "size", "sha256", "can_answer")
    return {**{name: getattr(row, name) for name in columns}, "received_at": iso(row.received_at), "committed_at": iso(committed_at)}


def _elsewhere(c: Connection, uid: str) -> list[dict[str, Any]]:
    """SOP Instance UIDs of this study that another study holds, too: one of the two was numbered wrong (PS3.5 9)."""
    other = instances.alias("other")
    same = (other.c.sop_instance_uid == instances.c.sop_instance_uid, other.c.study_uid != instances.c.study_uid)
    query = select(other.c.sop_instance_uid, other.c.study_uid).join_from(instances, other, and_(*same)).where(instances.c.study_uid == uid)
    return [{"sop_instance_uid": row.sop_instance_uid, "study": row.study_uid} for row in c.execute(query.order_by(*other.c[:2]))]


def _aside(row: Row[Any]) -> dict[str, Any]:
    return {"sop_instance_uid": row.sop_instance_uid, "sha256": row.sha256, "received_at": iso(row.received_at)}


def _job(row: Row[Any]) -> dict[str, Any]:
    result = row.result or {}
    keys = ("finding", "reason", "error", "series", "geometry", "passed_over", "model", "variant", "agreement", "recipe", "timings_ms")
    return {
        "digest": row.digest,
        "attempt": row.attempt,
        "instances": len(row.sop_instance_uids),
        "because": row.because,
        "judged_at": iso(row.judged_at),
        "done_at": iso(row.done_at),
        "outcome": row.outcome,
        **{key: result.get(key) for key in keys},
    }


def _documents(c: Connection, uid: str) -> list[dict[str, Any]]:
    columns = ("sop_instance_uid", "kind", "sop_class_uid", "digest", "sha256")
    rows = c.execute(select(documents).where(documents.c.study_uid == uid).order_by(documents.c.made_at, documents.c.kind.desc()))
    return [{**{name: getattr(row, name) for name in columns}, "made_at": iso(row.made_at)} for row in rows]


def _deliveries(c: Connection, uid: str) -> list[dict[str, Any]]:
    query = select(deliveries, documents.c.kind).join(documents).where(documents.c.study_uid == uid)
    rows = c.execute(query.order_by(documents.c.made_at, documents.c.kind.desc(), deliveries.c.destination))
    return [
        {
            "document": row.sop_instance_uid,
            "kind": row.kind,
            "destination": row.destination,
            "state": row.state,
            "attempts": row.attempts,
            "error": row.error or None,
            "next_at": iso(row.next_at),
            "stored_at": iso(row.stored_at),
        }
        for row in rows
    ]
