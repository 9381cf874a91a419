"""listener/engine.py over the real durable engine: nothing that was begun is forgotten."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import wait_for

from listener import engine
from listener.engine import Engine
from listener.rows import Delivery, Job

JOB = Job("1.2.3", "d" * 64)
WORKER = """
import sys, time
from pathlib import Path
from dbos import DBOS
from listener import engine, worker
state, slot, sleeps = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "sleeps"
class Worker:
    def analyse(self, job):
        time.sleep(600 * sleeps)
        return []
    def deliver(self, document, destination, attempt):
        time.sleep(600 * sleeps)
worker.register(Worker())
DBOS(config={"name": engine.APPLICATION, "system_database_url": engine.url(state), "application_version": engine.VERSION,
             "executor_id": engine.executor(slot), "log_level": "CRITICAL", "run_migrations": False})
DBOS.launch()
time.sleep(600)
"""


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Engine]:
    engine.prepare(tmp_path)
    found = Engine(tmp_path)
    yield found
    found.close()


def states(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "engine.sqlite") as connection:
        return dict(connection.execute("select workflow_uuid, status from workflow_status").fetchall())


def works(folder: Path, slot: int, how: str, until: str) -> None:
    """A worker in `slot`, killed when every workflow is in the state `until`."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(slot), how])
    try:
        wait_for(lambda: set(states(folder).values()) == {until}, 60, f"workflows that are {until}")
    finally:
        process.kill()
        process.wait()


def test_what_a_slot_had_begun_that_is_no_more_is_begun_again(told: Engine, tmp_path: Path) -> None:
    """worker.processes was lowered: a study and both deliveries that fill their destination's places go on in the slot that is left."""
    told.hand_over(JOB)
    told.deliver("9.1", "pacs", 1), told.deliver("9.2", "pacs", 1)
    works(tmp_path, 1, "sleeps", "PENDING")
    told.take_back(2)
    assert set(states(tmp_path).values()) == {"PENDING"}  # slot 1 will be there again and take it up itself
    told.take_back(1)
    told.deliver("9.3", "pacs", 1)
    works(tmp_path, 0, "works", "SUCCESS")


def test_a_delivery_that_the_engine_lost_goes_on(told: Engine, tmp_path: Path) -> None:
    """Its disk was full between two attempts: handed over again under a new id, once; what is on its way is left alone."""
    lost, going = (Delivery(uid, "pacs", "1.2.3", tmp_path, attempts=0) for uid in ("9.1", "9.2"))
    told.deliver("9.1", "pacs", 1), told.deliver("9.2", "pacs", 1)
    with sqlite3.connect(tmp_path / "engine.sqlite") as connection:
        connection.execute("update workflow_status set status = 'ERROR' where workflow_uuid = 'sr|9.1|pacs|1'")
    assert told.deliver_again([lost, going]) == [lost]
    assert states(tmp_path) == {"sr|9.1|pacs|1": "ERROR", "sr|9.1|pacs|2": "ENQUEUED", "sr|9.2|pacs|1": "ENQUEUED"}
    assert told.deliver_again([lost, going]) == []
