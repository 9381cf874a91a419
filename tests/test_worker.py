"""The worker: what it hands back to the engine when something under it fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from listener import config, engine, names
from listener.ledger import FILE
from listener.worker import Worker
from pipeline.records import Choice, Document, Report


def test_the_worker_speaks_the_language_of_the_configuration(tmp_path: Path) -> None:
    """Summaries are made in reports.language."""
    (tmp_path / "vitalcheck.toml").write_text('state = { dir = "state" }\nreports = { language = "de" }\n')
    (tmp_path / "state").mkdir()
    assert Worker(config.load(tmp_path / "vitalcheck.toml"), 0).order.language.code == "de"


def test_the_folder_of_a_report_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder on the way to a document is synced in the one above it, not only the document in its own."""
    synced: list[Path] = []
    monkeypatch.setattr(names, "sync_folder", lambda folder: synced.append(folder))
    (tmp_path / "vitalcheck.toml").write_text('[state]\ndir = "state"\n')
    state = tmp_path / "state"
    state.mkdir()
    document = Document("summary", "2.25.1", "1.2.840.10008.5.1.4.1.1.88.22", b"SR")
    report = Report("1.2.3", "declined", "nothing", None, Choice(None, ""), documents=(document,))
    Worker(config.load(tmp_path / "vitalcheck.toml"), 0)._keep(report)
    assert synced == [state, state / "reports", state / "reports" / "1.2.3"]


def test_a_ledger_that_fails_costs_an_attempt(tmp_path: Path) -> None:
    """A delivery that meets a broken ledger is tried again after the usual pause."""
    (tmp_path / "vitalcheck.toml").write_text('[state]\ndir = "state"\n')
    (tmp_path / "state").mkdir()
    worker = Worker(config.load(tmp_path / "vitalcheck.toml"), 0)
    with sqlite3.connect(tmp_path / "state" / FILE) as connection:
        connection.execute("drop table deliveries")

    assert worker.deliver("1.2", "pacs", 3) == engine.pause(3)
