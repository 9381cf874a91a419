"""What /metrics shows. Counters of the receiver process live here; what workers did is read from the ledger at each scrape.

So a restart of a worker loses no number of its own, and no worker needs a port. No metric carries a UID or anything of a patient.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

if TYPE_CHECKING:
    from listener.ledger import Ledger
    from listener.totals import Totals

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

instances = Counter(
    "vitalcheck_instances",
    "Instances that arrived by C-STORE, by what became of them: kept, duplicate, other_syntax, conflict, refused.",
    ["outcome"],
    registry=REGISTRY,
)
received_bytes = Counter("vitalcheck_received_bytes", "Bytes of kept instances.", registry=REGISTRY)
store_seconds = Histogram(
    "vitalcheck_store_seconds",
    "From the last fragment of a C-STORE request to its response.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    registry=REGISTRY,
)
associations = Counter(
    "vitalcheck_associations", "Associations asked for, by outcome: accepted, rejected, aborted.", ["outcome"], registry=REGISTRY
)
commitments = Counter(
    "vitalcheck_commitments",
    "Storage commitment: requests taken (requested) or refused, reports accepted (reported), attempts to report that failed.",
    ["outcome"],
    registry=REGISTRY,
)
committed_instances = Counter(
    "vitalcheck_committed_instances", "Instances in accepted storage commitment reports: kept, failed.", ["outcome"], registry=REGISTRY
)
open_associations = Gauge("vitalcheck_open_associations", "Associations open now.", registry=REGISTRY)
tls_handshakes = Counter(
    "vitalcheck_tls_handshakes", "Handshakes on the TLS port, by outcome: done, refused.", ["outcome"], registry=REGISTRY
)
tls_certificate_expires = Gauge(
    "vitalcheck_tls_certificate_expires_seconds", "When our certificate expires, in seconds since 1970.", ["of"], registry=REGISTRY
)
worker_restarts = Counter("vitalcheck_worker_restarts", "Worker processes that ended unasked and were started again.", registry=REGISTRY)


def render(ledger: Ledger) -> bytes:
    """Everything, in Prometheus' text format."""
    of_the_ledger = CollectorRegistry(auto_describe=False)
    of_the_ledger.register(LedgerCollector(ledger))
    return generate_latest(REGISTRY) + generate_latest(of_the_ledger)


class LedgerCollector:
    """Reads the ledger when it is asked: numbers that outlive every process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> list[Metric]:
        return []  # known only once collected

    def collect(self) -> Iterator[Metric]:
        totals = self._ledger.totals()
        yield _gauge("studies", "Studies by state.", ["state"], {(state,): n for state, n in totals.studies.items()})
        yield _gauge("spool_instances", "Instances kept.", [], {(): totals.instances})
        yield _gauge("spool_bytes", "Bytes of instances kept.", [], {(): totals.instance_bytes})
        yield _gauge("kept_aside_instances", "Instances that came again with other bytes.", [], {(): totals.kept_aside})
        yield _gauge("commitments_open", "Storage commitment requests without an accepted report.", [], {(): totals.commitments_open})
        yield _counter("jobs", "Finished jobs, by outcome and the variant that answered.", ["outcome", "variant"], totals.jobs)
        yield _counter("findings", "Answers, by likeliest label and call.", ["label", "call"], totals.findings)
        agreements = {(agreement,): n for agreement, n in totals.agreements.items()}
        yield _counter("agreements", "Answers, by how int8 and fp32 compared.", ["agreement"], agreements)
        jobs = sum(totals.jobs.values())
        yield SummaryMetricFamily("vitalcheck_job_seconds", "From the verdict complete to the result.", jobs, totals.job_seconds)
        yield from _of_destinations(totals)
        yield from _of_workers(self._ledger)


def _of_destinations(totals: Totals) -> Iterator[Metric]:
    found = totals.destinations.items()
    states = {(name, "stored"): d.stored for name, d in found} | {(name, "waiting"): d.waiting for name, d in found}
    yield _gauge("deliveries", "Documents by destination: stored there, or waiting.", ["destination", "state"], states)
    attempts = {(name,): d.attempts for name, d in found}
    yield _counter("delivery_attempts", "Attempts to deliver a document, by destination.", ["destination"], attempts)


def _of_workers(ledger: Ledger) -> Iterator[Metric]:
    lines, now = ledger.workers(), time.time()
    yield _gauge("worker_ready", "1 when the worker has its model and takes studies.", ["slot"], {(str(w.slot),): w.ready for w in lines})
    ages = {(str(w.slot),): now - w.heartbeat_at for w in lines}
    yield _gauge("worker_heartbeat_age_seconds", "Since the worker was last heard of.", ["slot"], ages)
    served = {(str(w.slot), model, variant): 1 for w in lines for model, variant in w.models.items()}
    yield _gauge("worker_model", "Which variant answers.", ["slot", "model", "variant"], served)
    alarms = {(str(w.slot),): bool(w.alarm and w.ready) for w in lines}
    yield _gauge("disagreement_alarm", "1 when int8 and fp32 differ too often and fp32 answers.", ["slot"], alarms)


def _gauge(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"vitalcheck_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, float(value))
    return family


def _counter(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(f"vitalcheck_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, float(value))
    return family
