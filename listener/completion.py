"""completion: is a study whole? Pure: the clocks are arguments, and nothing is touched.

DICOM has no "that was all" (PS3.4 B), so a study counts as complete when nothing that can change the answer came for a while.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """When instances of one study came, in Unix seconds."""

    opened_at: float  # the first after the last verdict
    changed_at: float  # the last that can change the answer


@dataclass(frozen=True, slots=True)
class Limits:
    quiet_seconds: float
    max_wait_seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    until: float


@dataclass(frozen=True, slots=True)
class Complete:
    because: str


def judge(clock: Clock, now: float, limits: Limits) -> Waiting | Complete:
    """Complete after `quiet_seconds` without change, at the latest `max_wait_seconds` after opening; the larger set gets a new answer."""
    quiet_at = clock.changed_at + limits.quiet_seconds
    latest = clock.opened_at + limits.max_wait_seconds
    if now < clock.changed_at - limits.quiet_seconds:
        return Complete("the clock was set back")  # by how long nothing came cannot be known; the larger set gets a new answer
    if now >= quiet_at:
        return Complete(f"quiet for {limits.quiet_seconds:g} s")
    if now >= latest:
        return Complete(f"open for {limits.max_wait_seconds:g} s")
    return Waiting(min(quiet_at, latest))
