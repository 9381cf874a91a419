"""listener/completion.py: the clock is an argument; nobody sleeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from listener.completion import Clock, Complete, Limits, Waiting, judge

T0 = 1_700_000_000.0
LIMITS = Limits(quiet_seconds=3.0, max_wait_seconds=600.0)


def test_a_study_is_complete_after_the_quiet_time() -> None:
    """Three quiet seconds after the last instance, and not a moment before."""
    clock = Clock(opened_at=T0, changed_at=T0 + 10)
    assert judge(clock, T0 + 12.9, LIMITS) == Waiting(until=T0 + 13)
    assert judge(clock, T0 + 13, LIMITS) == Complete("quiet for 3 s")


def test_a_study_that_never_rests_is_complete_at_the_latest_after_the_longest_wait() -> None:
    """A sender that trickles one instance a second is answered after max_wait_seconds."""
    assert judge(Clock(T0, T0 + 599.5), T0 + 599.9, LIMITS) == Waiting(until=T0 + 600)
    assert judge(Clock(T0, T0 + 599.5), T0 + 600, LIMITS) == Complete("open for 600 s")


def test_a_clock_that_was_set_back_holds_no_study_up() -> None:
    """An hour back, and the study is judged now, not in an hour; the few ms between two looks at the clock are no such thing."""
    assert judge(Clock(T0, T0 + 10), T0 - 3600, LIMITS) == Complete("the clock was set back")
    assert judge(Clock(T0, T0), T0 - 0.01, LIMITS) == Waiting(until=T0 + 3)


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(0, 2000))
def test_waiting_until_its_own_deadline_is_enough(opened: float, streamed: float, later: float) -> None:
    """Whoever is told to wait until t, and asks again at t, is told complete."""
    clock = Clock(T0 + opened, T0 + opened + streamed)
    verdict = judge(clock, T0 + later, LIMITS)
    if isinstance(verdict, Waiting):
        assert verdict.until > T0 + later
        assert isinstance(judge(clock, verdict.until, LIMITS), Complete)
