"""worker: one process per slot; takes jobs from the engine, calls pipeline.run.analyze, keeps the documents, hands them to delivery.

    python -m listener.worker --slot N --parent PID [--config FILE]

It dies with the receiver that started it, and what it was doing is taken up again by its successor in the same slot.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from listener import config as configuration
from listener import delivery, engine, logs
from listener.child import die_with
from listener.config import Config
from listener.errors import VitalCheckError
from listener.isolation import Isolated
from listener.ledger import Ledger
from listener.names import make_folder, write_whole
from listener.rows import Job
from models import registry
from models.registry import Model, ModelRefused
from pipeline import language
from pipeline.records import USUAL, Order, Report
from pipeline.run import analyze

log = logs.get()

HEARTBEAT_SECONDS = 2.0
PATIENCE = 15  # s that running work gets when we are asked to stop; what is left is persisted and taken up again
REFUSED = 3  # exit status: a model was refused


class Worker:
    """What the workflows need: ledger, models, destinations."""

    def __init__(self, config: Config, slot: int) -> None:
        self.config, self.slot = config, slot
        self.ledger = Ledger(config.state.dir)
        self.models: tuple[Model, ...] = ()
        self.decoder = Isolated(config.worker.decode_memory_bytes, config.worker.decode_seconds)
        self._reports = config.state.dir / "reports"
        self._destinations = {destination.name: destination for destination in config.destinations}
        self._documents = {destination.name: destination.documents for destination in config.destinations}
        wanted = frozenset(kind for kinds in self._documents.values() for kind in kinds) or frozenset(USUAL)
        self.order = Order(wanted, language.read(config.reports.language), config.reports.institution)

    def load(self) -> tuple[Model, ...]:
        """Loads every enabled model; each proves itself on this CPU. Raises ModelRefused where one is refused.

        All or none: a study that is declined because its model was refused would look like one that nobody meant to read.
        """
        wanted = self.config.models
        threads = self.config.worker.threads
        self.models = registry.load_all(wanted.enabled, variant=wanted.variant, threads=threads, shadow_rate=wanted.shadow_rate)
        return self.models

    def beat(self, refused: str = "") -> None:
        """Tells the ledger that this worker lives, and which variant of each model answers; or why it cannot work."""
        served = {model.manifest.name: model.selector.variant for model in self.models}
        differ = ", ".join(model.manifest.name for model in self.models if model.selector.monitor.alarm)
        alarm = f"int8 and fp32 differ on more than 5 % of the slices compared: {differ}" if differ else refused
        self.ledger.heartbeat(self.slot, os.getpid(), time.time(), ready=bool(served), models=served, alarm=alarm)

    def analyse(self, job: Job) -> list[tuple[str, str]]:
        """Answers for one job; the (document, destination) pairs to deliver.

        Whatever goes wrong quarantines the study, and the next one has its turn.
        """
        names: dict[str, Any] = {"study_uid": job.study_uid, "digest": job.digest, "attempt": job.attempt}
        try:
            self._analyse(job, names)
        except Exception as error:  # noqa: BLE001 - the edge of the worker: no study may stop the others
            self.ledger.quarantine(job, logs.explain(error), time.time())
            log.error("study.quarantined", **names, error=logs.explain(error))
        return [(waiting.sop_instance_uid, waiting.destination) for waiting in self.ledger.deliveries_of(job)]

    def _analyse(self, job: Job, names: dict[str, Any]) -> None:
        began = time.perf_counter()
        snapshot = self.ledger.begin(job, time.time())
        if snapshot is None or not self.models:
            return
        now = datetime.fromtimestamp(snapshot.judged_at, UTC).astimezone()
        report = analyze(snapshot.study, self.models, now, self.decoder, replace(self.order, replaces=snapshot.replaces))
        paths = self._keep(report)
        self.ledger.finish(job, report, paths, self._documents, time.time())
        facts = {"model": report.model, "variant": report.variant, "agreement": report.agreement, "reason": report.reason}
        ms = round((time.perf_counter() - began) * 1000, 1)
        log.info(f"study.{report.state}", **names, **facts, documents=len(report.documents), ms=ms)

    def _keep(self, report: Report) -> dict[str, Path]:
        """The documents on disk, by SOP Instance UID; kept before anyone gets them."""
        folder = self._reports / report.study_uid
        for each in (self._reports, folder):
            make_folder(each)
        paths = {document.sop_instance_uid: folder / f"{document.kind}-{document.sop_instance_uid}.dcm" for document in report.documents}
        for document in report.documents:
            write_whole(paths[document.sop_instance_uid], document.data)
        return paths

    def deliver(self, document: str, name: str, attempt: int) -> float | None:
        """One attempt; seconds until the next one, or None where none is needed. A ledger that fails costs an attempt, not the delivery."""
        try:
            return self._deliver(document, name, attempt)
        except SQLAlchemyError as error:
            log.error("ledger.failed", document=document, destination=name, attempt=attempt, error=logs.explain(error))
            return engine.pause(attempt)

    def _deliver(self, document: str, name: str, attempt: int) -> float | None:
        waiting = self.ledger.delivery(document, name)
        if waiting is None:
            return None
        names = {"study_uid": waiting.study_uid, "document": document, "destination": name, "attempt": attempt}
        outcome = self._send(waiting.path, name)
        if isinstance(outcome, delivery.Sent):
            self.ledger.stored(document, name, attempt, time.time())
            log.info("delivery.stored", **names, status=f"0x{outcome.status:04X}")
            return None
        pause = engine.pause(attempt)
        self.ledger.not_stored(document, name, attempt, outcome.reason, time.time() + pause)
        log.warning("delivery.failed", **names, reason=outcome.reason, next_in_s=pause)
        return pause

    def _send(self, path: Path, name: str) -> delivery.Sent | delivery.Failed:
        destination = self._destinations.get(name)
        if destination is None:
            return delivery.Failed(f"destination {name} is no longer configured; add it again to deliver what it waits for")
        try:
            data = path.read_bytes()
        except OSError as error:
            return delivery.Failed(f"the document cannot be read ({error.strerror}); mend state.dir")
        return delivery.send(data, destination, self.config.listener.ae_title)


def register(worker: Worker) -> None:
    """The two workflows. A step that has run is not run again when its process died afterwards."""

    @DBOS.step(name="analyse")  # type: ignore[untyped-decorator]
    def analyse(study_uid: str, digest: str, attempt: int) -> list[tuple[str, str]]:
        return worker.analyse(Job(study_uid, digest, attempt))

    @DBOS.step(name="send")  # type: ignore[untyped-decorator]
    def send(document: str, destination: str, attempt: int) -> float | None:
        return worker.deliver(document, destination, attempt)

    @DBOS.workflow(name=engine.PROCESS, max_recovery_attempts=engine.MAX_RECOVERIES)  # type: ignore[untyped-decorator]
    def process(study_uid: str, digest: str, attempt: int) -> None:
        for document, destination in analyse(study_uid, digest, attempt):
            DBOS.enqueue_workflow_with_options(engine.deliver_options(document, destination, 1), document, destination, 1)

    @DBOS.workflow(name=engine.DELIVER)  # type: ignore[untyped-decorator]
    def deliver(document: str, destination: str, attempt: int) -> None:
        delay = send(document, destination, attempt)
        if delay is not None:
            options = engine.deliver_options(document, destination, attempt + 1, delay)
            DBOS.enqueue_workflow_with_options(options, document, destination, attempt + 1)


def run(config: Config, slot: int) -> int:
    """Works until SIGTERM; the exit status."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the receiver tells us when
    worker = Worker(config, slot)
    worker.decoder.start()  # it gets ready while the models load; it ends with us, and so does a series that it is reading
    worker.beat()
    try:
        worker.load()
    except ModelRefused as error:
        worker.beat(str(error))
        log.error("worker.refused", slot=slot, error=str(error))
        return REFUSED
    register(worker)
    DBOS(config={
        "name": engine.APPLICATION,
        "system_database_url": engine.url(config.state.dir),
        "application_version": engine.VERSION,
        "executor_id": engine.executor(slot),
        "log_level": "WARNING",
        "run_migrations": False,
    })  # fmt: skip
    DBOS.launch()
    logs.tame("dbos")
    log.info("worker.ready", slot=slot, pid=os.getpid())
    while not stop.is_set():
        try:
            worker.beat()
        except SQLAlchemyError as error:  # a full disk, say; the page sees that the heartbeat is old
            log.error("ledger.failed", slot=slot, error=logs.explain(error))
        stop.wait(HEARTBEAT_SECONDS)
    DBOS.destroy(workflow_completion_timeout_sec=PATIENCE)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m listener.worker", description="Started by `vitalcheck serve`.")
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    die_with(given.parent)  # a receiver that is gone leaves no worker that holds the database
    os.umask(0o077)
    try:
        config = configuration.load(given.config)
        logs.configure(config.log.format, config.log.level)
        sys.exit(run(config, given.slot))
    except VitalCheckError as error:
        log.error("worker.failed", slot=given.slot, error=str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
