"""eligibility: from headers alone, is there anything in a study that could be analysed? Pure.

Only what needs no worker is decided here; which series is read, and why the others are not, is `pipeline.choose`'s to say.
"""

from __future__ import annotations

from collections import Counter

from listener.contexts import ANSWERS, name
from pipeline.records import Instance, Study


def can_answer(instance: Instance) -> bool:
    """Can this instance change an answer? An SR, a presentation state, a PDF, a result of our own cannot."""
    return instance.sop_class_uid in ANSWERS


def reason_against(study: Study) -> str | None:
    """Why nothing in `study` could be analysed, in the standard's names; None where something could."""
    if any(can_answer(instance) and instance.headers.has_pixels for instance in study.instances):
        return None
    if any(can_answer(instance) for instance in study.instances):
        return "no image that could be analysed: the images have no pixel data"
    kinds = Counter(name(instance.sop_class_uid) for instance in study.instances)
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"no image that could be analysed: {held or 'the study is empty'}"
