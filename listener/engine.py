"""engine: what receiver and workers agree on about the durable engine (DBOS on SQLite), and the receiver's end of it.

    process   job|study|digest|attempt     queue infer: one at a time in each worker
    deliver   sr|document|destination|n    queue deliver: one workflow per attempt; a waiting attempt is a row, not a sleeping thread

Starting a workflow id twice starts it once, so whoever is in doubt hands over again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient

from listener.rows import Delivery, Job

APPLICATION = "vitalcheck"
VERSION = "1"  # of the workflows' steps; in-flight work of another version waits for a program of that version
PROCESS, DELIVER = "process", "deliver"
INFER_QUEUE, DELIVER_QUEUE = "infer", "deliver"
POLL_SECONDS = 0.2  # 0.1 halves the wait and doubles the idle cost
DELIVERIES_PER_DESTINATION = 2  # at a time; a slow PACS does not hold up the others
MAX_RECOVERIES = 3  # of one study whose analysis ends its process; then it is quarantined
LONGEST_PAUSE = 300.0  # s between two attempts to deliver
_LIVE = ["DELAYED", "ENQUEUED", "PENDING"]
_LOST = ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_PRIORITY = 10  # always given: an unset one would go before every other


def url(state: Path) -> str:
    return f"sqlite:///{state / 'engine.sqlite'}"


def prepare(state: Path) -> None:
    """Makes the engine's tables and queues. Before any client or worker."""
    with sqlite3.connect(state / "engine.sqlite") as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # the engine does not ask for it; without it a kill run is half as fast
    connection.close()
    DBOS.migrate(url(state))


def forget(state: Path) -> None:
    """Removes what the engine remembers. Jobs and deliveries are facts of the ledger; without it these are memories of nothing."""
    for suffix in ("", "-wal", "-shm"):
        (state / f"engine.sqlite{suffix}").unlink(missing_ok=True)


def executor(slot: int) -> str:
    """Who runs a workflow, in the engine's words: the successor in a slot takes up what its predecessor left."""
    return f"slot-{slot}"


def pause(attempt: int) -> float:
    """Seconds between failed `attempt`, counted from 1, and the next."""
    return float(min(2.0 ** min(attempt, 16), LONGEST_PAUSE))  # capped twice: attempt 1024 would overflow


def process_options(job: Job) -> dict[str, Any]:
    return {**_options(PROCESS, INFER_QUEUE), "workflow_id": job.workflow_id}


def deliver_options(document: str, destination: str, attempt: int, delay: float = 0.0) -> dict[str, Any]:
    options = {
        **_options(DELIVER, DELIVER_QUEUE),
        "workflow_id": f"{_delivery(document, destination)}{attempt}",
        "queue_partition_key": destination,
    }
    return {**options, "delay_seconds": delay} if delay else options


def _delivery(document: str, destination: str) -> str:
    """How the ids of all attempts begin."""
    return f"sr|{document}|{destination}|"


def _options(workflow: str, queue: str) -> dict[str, Any]:
    return {"workflow_name": workflow, "queue_name": queue, "app_version": VERSION, "priority": _PRIORITY}


class Engine:
    """The receiver's end: it hands over, and asks what was given up."""

    def __init__(self, state: Path) -> None:
        self._client = DBOSClient(system_database_url=url(state), application_name=APPLICATION)
        update: dict[str, Any] = {"polling_interval_sec": POLL_SECONDS, "on_conflict": "always_update"}
        self._client.register_queue(INFER_QUEUE, worker_concurrency=1, **update)
        self._client.register_queue(DELIVER_QUEUE, partition_concurrency=DELIVERIES_PER_DESTINATION, **update)

    def hand_over(self, job: Job) -> None:
        self._client.enqueue(process_options(job), job.study_uid, job.digest, job.attempt)

    def deliver(self, document: str, destination: str, attempt: int) -> None:
        self._client.enqueue(deliver_options(document, destination, attempt), document, destination, attempt)

    def given_up(self, jobs: Iterable[Job]) -> list[Job]:
        """Those of `jobs` that the engine will not run again."""
        by_id = {job.workflow_id: job for job in jobs}
        if not by_id:
            return []
        lost = self._client.list_workflows(workflow_ids=list(by_id), status=_LOST, load_input=False, load_output=False)
        return [by_id[workflow.workflow_id] for workflow in lost]

    def take_back(self, processes: int) -> None:
        """What slots that there are no more had begun, to begin again: nobody else takes it up, and it keeps its place in the queue.
        Before any worker starts.
        """
        here = {executor(slot) for slot in range(processes)}
        for workflow in self._client.list_workflows(status="PENDING", load_input=False, load_output=False):
            if workflow.executor_id not in here:
                self._client.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)

    def deliver_again(self, waiting: Sequence[Delivery]) -> list[Delivery]:
        """Those of `waiting` that no workflow is about any more, handed over again: the engine's database failed between two attempts."""
        live = self._client.list_workflows(name=DELIVER, status=_LIVE, load_input=False, load_output=False) if waiting else []
        known = {workflow.workflow_id.rpartition("|")[0] + "|" for workflow in live}
        lost = [one for one in waiting if _delivery(one.sop_instance_uid, one.destination) not in known]
        for one in lost:
            self.deliver(one.sop_instance_uid, one.destination, self._next(one))
        return lost

    def _next(self, of: Delivery) -> int:
        """The first attempt after those counted that the engine was never told; it may know of some that a full disk kept uncounted."""
        start, attempt = _delivery(of.sop_instance_uid, of.destination), of.attempts + 1
        while self._client.list_workflows(workflow_ids=[f"{start}{attempt}"], load_input=False, load_output=False):
            attempt += 1
        return attempt

    def close(self) -> None:
        self._client.destroy()
