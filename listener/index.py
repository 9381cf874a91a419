"""index: reads the headers of what was kept, when nobody is sending, and at the latest when its study is judged.

A C-STORE is answered when bytes and row are on disk; what decisions need of the headers takes longer to read than all of that, so it is
read in the pauses that scanners leave. What was not read when we ended is read by the next start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from listener import headers, logs
from listener.errors import NotDicom
from listener.ledger import Ledger
from pipeline.records import Headers, Instance

log = logs.get()

TOGETHER = 64  # headers in one transaction, some 0.1 s


class Index:
    """`note` is called by the threads that receive, the rest by the one that judges."""

    def __init__(self, ledger: Ledger, is_calm: Callable[[], bool]) -> None:
        self._ledger, self._is_calm = ledger, is_calm
        self._waiting: deque[Instance] = deque(ledger.unread())

    def note(self, instance: Instance) -> None:
        """It was kept, and its headers wait."""
        self._waiting.append(instance)

    def work(self, seconds: float) -> bool:
        """Reads on while nobody sends, for at most so long; is there more to read?"""
        deadline = time.monotonic() + seconds
        while self._waiting and self._is_calm() and time.monotonic() < deadline:
            self._ledger.read(self._some())
        return bool(self._waiting)

    def settle(self, study_uid: str) -> None:
        """Whatever comes in meanwhile: when this returns, the headers of this study are in the ledger."""
        waiting = self._ledger.unread(study_uid)
        for start in range(0, len(waiting), TOGETHER):
            self._ledger.read([_with_headers(instance) for instance in waiting[start : start + TOGETHER]])

    def _some(self) -> Sequence[Instance]:
        found: list[Instance] = []
        while self._waiting and len(found) < TOGETHER and (self._is_calm() or not found):
            found.append(_with_headers(self._waiting.popleft()))
        return found


def _with_headers(instance: Instance) -> Instance:
    """An object that cannot be read further than its UIDs was kept all the same; nothing in it can be analysed, and the log says so."""
    try:
        return replace(instance, headers=headers.read(instance.path).headers)
    except NotDicom as error:
        log.error("instance.unreadable", study_uid=instance.study_uid, sop_instance_uid=instance.sop_instance_uid, reason=error.why)
        return replace(instance, headers=Headers(has_pixels=False))
