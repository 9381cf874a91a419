"""rows: records to rows of the ledger and back. Paths in rows are relative to the state folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from pipeline.records import Document, Headers, Instance, Predecessor, Report, Study

UNREAD = Headers(has_pixels=False)
"""What stands in for the headers of an instance until they are read (index.py)."""
NO_HEADERS = "{}"  # and how that lies in the ledger


@dataclass(frozen=True, slots=True)
class Job:
    """One verdict "complete": which study, which set of its instances, and the how-manieth try."""

    study_uid: str
    digest: str
    attempt: int = 1

    @property
    def workflow_id(self) -> str:
        """Starting one workflow id twice starts one workflow."""
        return f"job|{self.study_uid}|{self.digest}|{self.attempt}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a job is about."""

    study: Study  # only the instances that were there at the verdict
    judged_at: float  # Unix seconds; the documents' date and time, so that a second run makes the same
    replaces: tuple[Predecessor, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document for one destination."""

    sop_instance_uid: str
    destination: str
    study_uid: str
    path: Path
    attempts: int


def instance(row: Row[Any], folder: Path) -> Instance:
    values = {key: value for key, value in row._mapping.items() if key not in ("headers", "path", "can_answer")}
    known = Headers(**{key: _tuples(value) for key, value in row.headers.items()}) if row.headers else UNREAD
    return Instance(**values, path=folder / row.path, headers=known)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def instance_row(instance: Instance, folder: Path) -> dict[str, Any]:
    values = {field.name: getattr(instance, field.name) for field in fields(instance)}
    return {**values, "path": str(instance.path.relative_to(folder)), "headers": headers(instance)}


def headers(instance: Instance) -> dict[str, Any]:
    """As JSON can hold them; {} where they were not read yet."""
    return {} if instance.headers is UNREAD else asdict(instance.headers)


def as_json(value: Any) -> str:
    """As the ledger's JSON columns hold it."""
    return NO_HEADERS if value == {} else json.dumps(value)


def document_row(job: Job, document: Document, path: Path, folder: Path, at: float) -> dict[str, Any]:
    return {
        "sop_instance_uid": document.sop_instance_uid,
        "study_uid": job.study_uid,
        "digest": job.digest,
        "kind": document.kind,
        "sop_class_uid": document.sop_class_uid,
        "path": str(path.relative_to(folder)),
        "sha256": hashlib.sha256(document.data).hexdigest(),
        "made_at": at,
    }


def delivery(row: Row[Any], folder: Path) -> Delivery:
    return Delivery(row.sop_instance_uid, row.destination, row.study_uid, folder / row.path, row.attempts)


def result(report: Report) -> dict[str, Any]:
    """What a report says, as JSON: the answer and how it came about, nothing of the patient."""
    return {
        "reason": report.reason,
        "model": report.model,
        "variant": report.variant,
        "agreement": report.agreement,
        "series": report.choice.series.uid if report.choice.series else None,
        "geometry": lies(report),
        "recipe": report.recipe or None,
        "passed_over": [asdict(series) for series in report.choice.passed_over],
        "finding": None if report.finding is None else asdict(report.finding),
        "timings_ms": dict(report.timings_ms),
    }


def lies(report: Report) -> dict[str, Any] | None:
    """How the slices that were read lie: mm and degrees, and what was odd in whole sentences."""
    geometry = report.geometry
    if geometry is None:
        return None
    return {
        "plane": geometry.plane,
        "slices": report.slices,
        "between": geometry.between,
        "tilt": geometry.tilt,
        "turn": geometry.turn._asdict(),
        "remarks": list(geometry.remarks),
    }
