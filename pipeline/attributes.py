"""attributes: values of a data set as plain numbers and texts. What is missing, empty or broken is None or empty, never an exception.

Everybody who must not believe a file reads it through here: the receiver its headers, decode what it says of its pixels.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

Key = str | int
"""A keyword (PS3.6), or the tag of a private element."""


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value(ds: Dataset, key: Key) -> Any:
    """The value as pydicom reads it."""
    try:
        element = ds.get(_tag(key) if isinstance(key, str) else Tag(key))  # pydicom looks keywords up in three places
        return None if element is None else element.value
    except Exception:  # noqa: BLE001 - any broken byte may surface here, under many names
        return None


def number(ds: Dataset, key: Key) -> float | None:
    """One finite number."""
    found = numbers(ds, key, 1)
    return found[0] if found else None


def integer(ds: Dataset, key: Key) -> int | None:
    found = number(ds, key)
    return None if found is None else int(found)


def numbers(ds: Dataset, key: Key, count: int, *, more: bool = False) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers; where there may be `more`, the first of them."""
    try:
        read = tuple(float(v) for v in _values(ds, key))
    except (ValueError, TypeError, OverflowError):
        return None
    read = read[:count] if more else read
    return read if len(read) == count and all(math.isfinite(v) for v in read) else None


def text(ds: Dataset, key: Key) -> str:
    """The value; several with a blank between them."""
    return " ".join(texts(ds, key))


def capitals(ds: Dataset, key: Key) -> str:
    """The same as code strings are compared."""
    return text(ds, key).upper()


def texts(ds: Dataset, key: Key) -> tuple[str, ...]:
    """Its values that are not empty."""
    return tuple(said for v in _values(ds, key) if (said := str(v).strip().strip("\0")))


def _values(ds: Dataset, key: Key) -> tuple[Any, ...]:
    """One value or several; bytes are none."""
    found = value(ds, key)
    if found is None or isinstance(found, bytes):
        return ()
    return tuple(found) if hasattr(found, "__iter__") and not isinstance(found, str) else (found,)


def items(ds: Dataset, key: Key) -> list[Dataset]:
    """The items of a sequence."""
    return [item for item in _values(ds, key) if isinstance(item, Dataset)]


def item(ds: Dataset, key: Key) -> Dataset | None:
    """The first item of a sequence."""
    return next(iter(items(ds, key)), None)
