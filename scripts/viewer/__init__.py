"""`make viewer`: a PACS, a viewer and VitalCheck on one machine, to see reports as radiologists would. Read `__main__.py` first."""

from __future__ import annotations

import subprocess

from scripts.demo import DemoFailed


class Missing(DemoFailed):
    """A part is not installed, or cannot be fetched; it says what to do about it."""


def end(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Asks `child` to end, and after `seconds` makes it."""
    child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
