"""service: the life of `vitalcheck serve`, from top to bottom. Read me first.

    start   lock the state folder, open the ledger, recover the spool, open the ports, report what was promised, start workers
    serve   judge what is complete, hand it over, keep the workers alive
    drain   accept nothing more, let associations end, let workers finish or persist
    stop    everything is on disk; exit 0

The receiver (this process) and its workers meet only through spool and ledger.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from listener import completion, engine, logs
from listener.committer import Committer
from listener.completion import Clock, Complete, Limits
from listener.config import Config
from listener.eligibility import reason_against
from listener.engine import Engine
from listener.errors import AlreadyRunning, NoState
from listener.index import Index
from listener.ledger import FILE, Ledger
from listener.scp import Scp
from listener.spool import Spool
from listener.supervisor import Supervisor
from listener.web import app as web
from pipeline.identity import contradiction
from pipeline.records import Instance

log = logs.get()

LEAST_WAIT, LONGEST_WAIT = 0.05, 1.0  # s between two looks at the clocks
PAUSE_WAIT = 0.25  # s between two looks whether senders pause, while headers wait to be read
READ_SECONDS = 0.2  # of reading headers before the clocks are looked at again
SWEEP_SECONDS = 5.0  # between two looks for what the engine gave up
OVERDUE_SECONDS = 60.0  # after its time a delivery is looked after, and between two looks
ASSOCIATIONS_PATIENCE, COMMITMENTS_PATIENCE, WORKERS_PATIENCE = 5.0, 2.0, 20.0  # s; together under the 30 that SIGTERM may take


def serve(config: Config, config_path: Path | None) -> int:
    """Runs until SIGTERM or Ctrl-C; the exit status. Raises VitalCheckError where it cannot start."""
    logs.configure(config.log.format, config.log.level)
    os.umask(0o077)
    try:
        config.state.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (config.state.dir / "lock").touch()
    except OSError as error:
        raise NoState(config.state.dir, error) from error
    with _locked(config.state.dir):
        service = Service(config, config_path)
        try:
            service.start()
            gc.collect()
            gc.freeze()  # what is there now stays: to look through all of it again stops every association meanwhile
            service.serve()
        finally:
            service.drain()
    log.info("service.stopped")
    return 0


class Service:
    """The receiver process. `port`, `tls_port` and `accepting` are what the page wants to know."""

    def __init__(self, config: Config, config_path: Path | None) -> None:
        self.config = config
        if not (config.state.dir / FILE).exists():
            engine.forget(config.state.dir)  # it would take a new ledger's jobs for done
        self.ledger = Ledger(config.state.dir)
        engine.prepare(config.state.dir)
        self.engine = Engine(config.state.dir)
        self.spool = Spool(config.state.dir, self.ledger, config.state.min_free_bytes, config.listener.max_object_bytes)
        self.index = Index(self.ledger, lambda: self.spool.is_calm)
        self.workers = Supervisor(config.worker.processes, config_path)
        self.committer = Committer(config.listener, self.ledger)
        self._scp = Scp(config.listener, self.spool, self._on_kept, self.committer)
        self._web: web.Server | None = None
        self._limits = Limits(config.completion.quiet_seconds, config.completion.max_wait_seconds)
        self._stop = threading.Event()
        self._ready = False
        self._longest = min(LONGEST_WAIT, config.completion.quiet_seconds)
        self._swept_at = self._looked_at = 0.0

    @property
    def port(self) -> int | None:
        return self._scp.port

    @property
    def tls_port(self) -> int | None:
        return self._scp.tls_port

    @property
    def accepting(self) -> bool:
        return self._scp.listening

    # Start

    def start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        parts, indexed = self.spool.recover()
        self.ledger.forget_workers()
        self.engine.take_back(self.config.worker.processes)
        self._hand_over_again()
        self._scp.start()
        self.committer.start()
        self._web = web.start(self.config, self.ledger, self)
        self.workers.start()  # last: a port that is taken ends us at once
        log.info(
            "service.started",
            port=self.port,
            tls_port=self.tls_port,
            http=self._web.port,
            count=parts,
            instances=indexed,
            dir=str(self.config.state.dir),
        )

    def _hand_over_again(self) -> None:
        """What was open when we ended, told to the engine again; what it knows already it takes for told."""
        for job in self.ledger.jobs_unfinished():
            self.engine.hand_over(job)
        for waiting in self.ledger.deliveries_waiting():
            self.engine.deliver(waiting.sop_instance_uid, waiting.destination, waiting.attempts + 1)

    def _on_signal(self, number: int, _frame: object) -> None:
        log.info("service.stopping", signal=signal.Signals(number).name)
        self._stop.set()

    def _on_kept(self, instance: Instance) -> None:
        """Nobody is woken: the clocks are looked at more often than a study may be quiet."""
        self.index.note(instance)

    # Serve

    def serve(self) -> None:
        """Until we are asked to stop. A database that fails for a while is waited for: what was acknowledged is on disk."""
        while not self._stop.is_set():
            try:
                wait = self._tick(time.time())
            except SQLAlchemyError as error:
                log.error("ledger.failed", error=logs.explain(error))
                wait = LONGEST_WAIT
            self.workers.keep_alive(time.monotonic())
            self._stop.wait(max(wait, LEAST_WAIT))  # a burst of instances is one look at the clocks

    def _tick(self, now: float) -> float:
        """One round; seconds until the next one is due."""
        unread = self.index.work(READ_SECONDS)
        due = self._judge(now)
        for job in self.ledger.jobs_to_hand_over():
            self.engine.hand_over(job)
            self.ledger.handed_over(job, now)
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            self._sweep(now)
        if not self._ready and self._workers_ready():
            self._ready = True
            log.info(
                "service.ready",
                port=self.port,
                tls_port=self.tls_port,
                http=self._web.port if self._web else 0,
                pid=os.getpid(),
                version=version("vitalcheck"),
            )
        return min(self._longest, max(0.0, due - now), self._until_read(unread)) if self._ready else LEAST_WAIT

    def _until_read(self, unread: bool) -> float:
        """Headers that wait for a pause are looked after sooner."""
        if not unread:
            return LONGEST_WAIT
        return LEAST_WAIT if self.spool.is_calm else PAUSE_WAIT

    def _judge(self, now: float) -> float:
        """A verdict for every study that can have one; when the next one is due."""
        due = now + LONGEST_WAIT
        for uid, clock in self.ledger.receiving().items():
            verdict = completion.judge(clock, now, self._limits)
            if isinstance(verdict, Complete):
                self._conclude(uid, clock, verdict.because, now)
            else:
                due = min(due, verdict.until)
        return due

    def _conclude(self, uid: str, clock: Clock, because: str, now: float) -> None:
        """A complete study becomes a job, or is declined where nothing in it could be analysed."""
        self.index.settle(uid)
        study = self.ledger.study(uid)
        reason = reason_against(study) if study else None
        if reason is not None:
            if self.ledger.decline(uid, clock, reason, now):
                log.info("study.declined", study_uid=uid, reason=reason)
            return
        snapshot = self.ledger.answering(uid)
        said = contradiction(study) if study else None  # the report or the PDF of another patient that came with it, too
        job = self.ledger.queue(snapshot, clock, because, now, wrong=said) if snapshot else None
        if job is not None and said is not None:
            log.error("study.quarantined", study_uid=uid, digest=job.digest, attempt=job.attempt, error=said)
        elif job is not None and snapshot is not None:
            log.info("study.complete", study_uid=uid, because=because, instances=len(snapshot.instances), digest=job.digest)

    def _sweep(self, now: float) -> None:
        """A study that ended its worker too often is quarantined, so that it cannot stop the others. A delivery that was lost goes on."""
        for job in self.engine.given_up(self.ledger.jobs_unfinished()):
            reason = "its analysis ended the worker process, again and again; `vitalcheck studies retry` tries once more"
            self.ledger.quarantine(job, reason, now)
            log.error("study.quarantined", study_uid=job.study_uid, digest=job.digest, attempt=job.attempt, error=reason)
        if now - self._looked_at >= OVERDUE_SECONDS:
            self._looked_at = now
            for one in self.engine.deliver_again(self.ledger.deliveries_overdue(now - OVERDUE_SECONDS)):
                log.warning("delivery.again", study_uid=one.study_uid, document=one.sop_instance_uid, destination=one.destination)

    def _workers_ready(self) -> bool:
        ready = {line.pid for line in self.ledger.workers() if line.ready}
        return bool(self.workers.pids) and self.workers.pids <= ready

    # Drain and stop

    def drain(self) -> None:
        """What is acknowledged is on disk already, so nothing here can lose it."""
        self._scp.stop(ASSOCIATIONS_PATIENCE)
        self.committer.stop(COMMITMENTS_PATIENCE)
        self.workers.stop(WORKERS_PATIENCE)
        if self._web:
            self._web.stop()
        self.engine.close()
        self.ledger.close()


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Two receivers on one state folder would run each other's work. The lock ends with the process, however it ends."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyRunning(state) from error
        yield
