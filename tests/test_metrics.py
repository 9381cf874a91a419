"""listener/metrics.py: what Prometheus gets to see."""

from __future__ import annotations

from pathlib import Path

from filled import filled
from objects import SECRET
from prometheus_client.parser import text_string_to_metric_families

from listener import metrics
from listener.ledger import Ledger

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(ledger: Ledger) -> Samples:
    families = text_string_to_metric_families(metrics.render(ledger).decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"vitalcheck_{name}", frozenset(labels.items())]


def test_work_of_the_workers_is_read_from_the_ledger(tmp_path: Path) -> None:
    """Studies, answers and deliveries are counted from the ledger, so a process that just started knows them too."""
    filled(tmp_path).close()
    samples = scraped(Ledger(tmp_path))
    assert value(samples, "studies", state="quarantined") == 1
    assert value(samples, "studies", state="queued") == 0
    assert value(samples, "spool_instances") == 10
    assert value(samples, "jobs_total", outcome="analysed", variant="int8") == 2
    assert value(samples, "jobs_total", outcome="quarantined", variant="") == 1
    assert value(samples, "findings_total", label="glioma", call="present") == 2
    assert value(samples, "agreements_total", agreement="agree") == 2
    assert value(samples, "deliveries", destination="pacs", state="waiting") == 2
    assert value(samples, "delivery_attempts_total", destination="pacs") == 4


def test_the_alarm_is_a_metric(tmp_path: Path) -> None:
    """A worker whose variants disagree too often shows as 1, and its variant by name."""
    ledger = filled(tmp_path)
    ledger.heartbeat(0, 1, 1.7e9, ready=True, models={"brain_tumor_4class": "fp32"}, alarm="int8 and fp32 differ")
    samples = scraped(ledger)
    assert value(samples, "disagreement_alarm", slot="0") == 1
    assert value(samples, "worker_model", slot="0", model="brain_tumor_4class", variant="fp32") == 1


def test_counters_of_this_process_are_shown(tmp_path: Path) -> None:
    """What the receiver counted stands beside what the ledger knows."""
    metrics.instances.labels(outcome="kept").inc(0)
    before = value(scraped(filled(tmp_path)), "instances_total", outcome="kept")
    metrics.instances.labels(outcome="kept").inc()
    assert value(scraped(Ledger(tmp_path)), "instances_total", outcome="kept") == before + 1


def test_metrics_hold_no_uid_and_no_patient(tmp_path: Path) -> None:
    """Labels are states, variants and names of ours: never a UID, never free text of a study."""
    text = metrics.render(filled(tmp_path)).decode()
    assert SECRET not in text
    assert "1.2.826" not in text
