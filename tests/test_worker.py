"""The worker: what it hands back to the engine when something under it fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from listener import config, engine
from listener.ledger import FILE
from listener.worker import Worker


def test_the_worker_speaks_the_language_of_the_configuration(tmp_path: Path) -> None:
    """Summaries are made in reports.language."""
    (tmp_path / "vitalcheck.toml").write_text('state = { dir = "state" }\nreports = { language = "de" }\n')
    (tmp_path / "state").mkdir()
    assert Worker(config.load(tmp_path / "vitalcheck.toml"), 0).order.language.code == "de"


def test_a_ledger_that_fails_costs_an_attempt(tmp_path: Path) -> None:
    """A delivery that meets a broken ledger is tried again after the usual pause."""
    (tmp_path / "vitalcheck.toml").write_text('[state]\ndir = "state"\n')
    (tmp_path / "state").mkdir()
    worker = Worker(config.load(tmp_path / "vitalcheck.toml"), 0)
    with sqlite3.connect(tmp_path / "state" / FILE) as connection:
        connection.execute("drop table deliveries")

    assert worker.deliver("1.2", "pacs", 3) == engine.pause(3)
