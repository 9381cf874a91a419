"""supervisor: keeps one worker process per slot alive. One that ends unasked is started again, later each time it does so soon."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from listener import logs, metrics

log = logs.get()

SOON = 60.0  # s; a worker that lived longer is started again at once
LONGEST_PAUSE = 60.0  # s


@dataclass
class Slot:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # monotonic
    start_at: float = 0.0
    failures: int = 0  # in a row, each within SOON of its start


class Supervisor:
    """Used by the receiver's main thread only: the kernel ties a worker to the thread that started it."""

    command: tuple[str, ...] = (sys.executable, "-m", "listener.worker")

    def __init__(self, processes: int, config_path: Path | None) -> None:
        self._slots = [Slot(number) for number in range(processes)]
        self._arguments = ["--config", str(config_path)] if config_path else []

    @property
    def pids(self) -> set[int]:
        return {slot.process.pid for slot in self._slots if slot.process and slot.process.poll() is None}

    def start(self) -> None:
        self.keep_alive(time.monotonic())

    def keep_alive(self, now: float) -> None:
        """Starts what should run and does not. `now` is monotonic."""
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._ended(slot, slot.process, now)
            if slot.process is None and now >= slot.start_at:
                self._start(slot, now)

    def stop(self, patience: float) -> None:
        """SIGTERM to all, SIGKILL to those that are not done after `patience` s; what they did is taken up at the next start."""
        running = [slot.process for slot in self._slots if slot.process]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + patience
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, slot: Slot, now: float) -> None:
        command = [*self.command, "--slot", str(slot.number), "--parent", str(os.getpid()), *self._arguments]
        slot.started_at = now
        try:
            slot.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:  # no memory for another process, say; receiving needs none
            log.error("worker.not_started", slot=slot.number, error=logs.explain(error), next_in_s=self._pause(slot, now))
        else:
            log.info("worker.started", slot=slot.number, pid=slot.process.pid)

    def _pause(self, slot: Slot, now: float) -> float:
        """Seconds until it is started again: 0 after a long life, 1, 2, 4 ..."""
        slot.failures = slot.failures + 1 if now - slot.started_at < SOON else 0
        pause = min(2.0 ** min(slot.failures, 10) // 2, LONGEST_PAUSE)
        slot.start_at = now + pause
        return pause

    def _ended(self, slot: Slot, process: subprocess.Popen[bytes], now: float) -> None:
        slot.process, pause = None, self._pause(slot, now)
        metrics.worker_restarts.inc()
        log.error("worker.ended", slot=slot.number, pid=process.pid, exit=process.returncode, next_in_s=pause)
