"""commit: leader and followers. Whoever comes while nobody commits, commits for all that wait; whoever comes meanwhile, waits for the next.

One transaction, or one sync, serves as many as have come, and who is alone has no thread to wait for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Place(Generic[T, R]):
    """One item in the queue, and what became of it."""

    __slots__ = ("done", "item", "leads", "result", "turn")

    def __init__(self, item: T) -> None:
        self.item, self.turn = item, threading.Lock()  # free when it is this one's turn; an Event is more than is needed
        self.turn.acquire()
        self.leads = self.done = False
        self.result: R | Exception | None = None


class GroupCommit(Generic[T, R]):
    """`commit` gets a batch in order of arrival and answers for each item: a result or an exception; what it raises, all of them get."""

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: deque[_Place[T, R]] = deque()
        self._busy = False

    def __call__(self, item: T) -> R:
        """The result for `item`; raises what was answered for it."""
        place = _Place[T, R](item)
        with self._lock:
            self._waiting.append(place)
            place.leads, self._busy = not self._busy, True
        if not place.leads:
            place.turn.acquire()
        if place.leads and not place.done:
            self._lead()
        if isinstance(place.result, Exception):
            raise place.result
        return place.result  # type: ignore[return-value]

    def _lead(self) -> None:
        with self._lock:
            batch = list(self._waiting)
            self._waiting.clear()
        try:
            results: Sequence[R | Exception] = self._commit([place.item for place in batch])
        except Exception as error:  # noqa: BLE001 - each of them waits for an answer
            results = [error] * len(batch)
        with self._lock:
            heir = self._waiting[0] if self._waiting else None
            self._busy = heir is not None
        if heir:
            heir.leads = True
            heir.turn.release()
        for place, result in zip(batch, results, strict=True):
            place.result, place.done = result, True
            if not place.leads:
                place.turn.release()


class Turns:
    """Of those with the same key, one at a time."""

    def __init__(self) -> None:
        self._taken, self._free = set[Hashable](), threading.Condition()

    @contextmanager
    def __call__(self, key: Hashable) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: key not in self._taken)
            self._taken.add(key)
        try:
            yield
        finally:
            with self._free:
                self._taken.discard(key)
                self._free.notify_all()
