"""`make viewer`: a PACS, a viewer and VitalCheck on one machine, to see reports as radiologists would. Read `__main__.py` first."""

from __future__ import annotations

from scripts.demo import DemoFailed


class Missing(DemoFailed):
    """A part is not installed, or cannot be fetched; it says what to do about it."""
