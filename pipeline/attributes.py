"""attributes: values of a data set as plain numbers. A value that is missing, empty or broken is None, never an exception."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from pydicom import Dataset
from pydicom.tag import BaseTag, Tag


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value(ds: Dataset, keyword: str) -> Any:
    """The value as pydicom reads it."""
    try:
        element = ds.get(_tag(keyword))  # by tag, for pydicom looks a keyword up in three places: this is half of reading a header
        return None if element is None else element.value
    except Exception:  # noqa: BLE001 - any broken byte may surface here, under many names
        return None


def number(ds: Dataset, keyword: str) -> float | None:
    """One finite number."""
    found = numbers(ds, keyword, 1)
    return found[0] if found else None


def integer(ds: Dataset, keyword: str) -> int | None:
    found = number(ds, keyword)
    return None if found is None else int(found)


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers."""
    found = value(ds, keyword)
    if found is None or isinstance(found, bytes):
        return None
    several = hasattr(found, "__iter__") and not isinstance(found, str)
    try:
        read = tuple(float(v) for v in found) if several else (float(found),)
    except (ValueError, TypeError, OverflowError):
        return None
    return read if len(read) == count and all(math.isfinite(v) for v in read) else None


def text(ds: Dataset, keyword: str) -> str:
    """The value in capitals; several values with a backslash between them."""
    found = value(ds, keyword)
    if found is None or isinstance(found, bytes):
        return ""
    several = hasattr(found, "__iter__") and not isinstance(found, str)
    return ("\\".join(str(v) for v in found) if several else str(found)).strip().upper()


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence."""
    found = value(ds, keyword)
    if found is None or isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
        return []
    return [item for item in found if isinstance(item, Dataset)]


def item(ds: Dataset, keyword: str) -> Dataset | None:
    """The first item of a sequence."""
    return next(iter(items(ds, keyword)), None)
