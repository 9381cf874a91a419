"""listener/commit.py: leader and followers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener.commit import GroupCommit


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-5, 20), min_size=1, max_size=40))
def test_everybody_gets_his_own_answer(items: list[int]) -> None:
    """However many come at once: each has its own result or error, and each was committed once, in one batch at a time."""
    committed: list[int] = []
    inside = threading.Lock()

    def commit(batch: Sequence[int]) -> list[int | Exception]:
        assert inside.acquire(blocking=False)
        committed.extend(batch)
        time.sleep(0.001)
        inside.release()
        return [ValueError(str(item)) if item < 0 else item * 2 for item in batch]

    group, answers = GroupCommit(commit), dict[int, object]()

    def ask(number: int, item: int) -> None:
        try:
            answers[number] = group(item)
        except ValueError as error:
            answers[number] = str(error)

    threads = [threading.Thread(target=ask, args=(number, item)) for number, item in enumerate(items)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == {number: str(item) if item < 0 else item * 2 for number, item in enumerate(items)}
    assert sorted(committed) == sorted(items)


def test_who_waits_is_served_together() -> None:
    """While the first commits, the others gather, and one commit serves them all."""
    batches: list[list[int]] = []
    first = threading.Event()

    def commit(batch: Sequence[int]) -> list[int]:
        batches.append(list(batch))
        if len(batches) == 1:
            first.wait(5)
        return list(batch)

    group = GroupCommit(commit)
    threads = [threading.Thread(target=group, args=(number,)) for number in range(9)]
    threads[0].start()
    while not batches:
        time.sleep(0.001)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < 8:
        time.sleep(0.001)
    first.set()
    for thread in threads:
        thread.join(5)
    assert [len(batch) for batch in batches] == [1, 8]


def test_what_fails_fails_for_all_that_were_in_it_and_the_next_goes_on() -> None:
    """An error of the commit itself is everybody's, and stops nobody who comes later."""
    fails = [True]

    def commit(batch: Sequence[int]) -> list[int]:
        if fails.pop() if fails else False:
            raise OSError("no space")
        return list(batch)

    group = GroupCommit(commit)
    with pytest.raises(OSError, match="no space"):
        group(1)
    assert group(2) == 2
