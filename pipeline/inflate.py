"""inflate: a deflated data set (PS3.5 A.5) with a bound. One kilobyte can claim a gigabyte; nobody gets more than asked for."""

from __future__ import annotations

import zlib
from typing import BinaryIO

HEADER = 2**24
"""Bytes of a data set in which everything before its pixels is looked for: 16 MiB hold the functional groups of 5000 frames."""


class TooMuch(ValueError):
    """The data inflate beyond the limit."""


def beginning(deflated: bytes | BinaryIO, limit: int) -> bytes:
    """At most the first `limit` bytes of what `deflated` (raw deflate, from where a stream stands) inflates to.

    Memory is bounded by `limit`, time too. Ends early where the data are cut short. Raises zlib.error on bytes that are not deflated.
    """
    source = deflated if isinstance(deflated, bytes) else deflated.read()
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(source, limit) if limit > 0 else b""


def inflate(deflated: bytes | BinaryIO, limit: int) -> bytes:
    """All of what `deflated` inflates to. Raises TooMuch where that is more than `limit` bytes, else as `beginning`."""
    inflated = beginning(deflated, limit + 1)
    if len(inflated) > limit:
        raise TooMuch(f"deflated data set holds more than {limit} bytes; raise the limit or send it in another transfer syntax")
    return inflated
