"""incoming: one instance on its way from the wire to the disk, as STATE/spool/incoming/<name>.part.

    Part 10 head (PS3.10 7.1) | fragments of the data set as they came > a stage > hash > past the page cache to the disk | fdatasync

No more of it is held than a stage, and its first bytes, in which the four UIDs stand. It goes past the page cache (O_DIRECT, open(2)), for
what is synced at once gains nothing there and pays for a copy and for pages, dearly on a virtual machine whose memory the host hands out
page by page. Whole blocks do; the rest of the last one, and all on file systems that know no such way, are written as usual.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import shutil
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from struct import Struct

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from listener.errors import OutOfResources, Refused

HEAD = 1 << 13  # bytes of a data set that are remembered; the series UID lies in the first two thousand, usually
LOOK, LOOK_SECONDS = 1 << 24, 1.0  # bytes written between two looks at the free space, and s
STAGE = (1 << 19) + (1 << 16)  # bytes collected before they are written: a CT slice with its headers, in one piece
BLOCK = 1 << 12  # bytes; where O_DIRECT begins and ends, in the file and in memory
_NUMBERS = count(1)
_SPARE = deque[mmap.mmap](maxlen=64)  # stages that wait for their next instance: the pages of a new one are to be cleared first
_SHORT, _LONG = Struct("<HH2sH"), Struct("<HH2sHL")


@dataclass(frozen=True, slots=True)
class Command:
    """What the C-STORE request said about the data set that came with it, and who sent it."""

    sop_class_uid: str
    sop_instance_uid: str
    calling_ae: str
    called_ae: str
    transfer_syntax_uid: str = ""


class Room:
    """How much may come in: bytes of one instance, and bytes that stay free on the disk. Shared by all that come in."""

    def __init__(self, object_bytes: int, free_bytes: int) -> None:
        self.object_bytes, self._free_bytes = object_bytes, free_bytes
        self._unseen, self._looked_at = LOOK, 0.0  # bytes written since the last look that found space, and when (monotonic) that was

    def check(self, folder: Path, written: int = 0) -> None:
        """`written` bytes more lie in `folder`. Raises OutOfResources where too little is left, and OSError."""
        self._unseen += written
        if self._unseen < LOOK and time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        if self.is_full(folder):
            self._unseen = LOOK  # the next looks, too
            raise OutOfResources("spool: less than state.min_free_bytes would be left; free the disk of state.dir")
        self._unseen, self._looked_at = 0, time.monotonic()

    def is_full(self, folder: Path) -> bool:
        """Asks the disk."""
        return self._free_bytes > 0 and shutil.disk_usage(folder).free < self._free_bytes


class Incoming:
    """`write` collects and writes, `seal` makes it survive a power cut. Raises OutOfResources, and then nothing is left behind."""

    def __init__(self, folder: Path, command: Command, room: Room, way: int = 0) -> None:
        self.path = folder / f"{os.getpid()}-{next(_NUMBERS)}.part"
        self.command, self.size, self.head = command, 0, b""
        meta = part_10_head(command) if command.transfer_syntax_uid else b""
        self.start = len(meta)
        self._room, self._way, self._hash = room, way, hashlib.sha256()
        self._descriptor, self.renamed = -1, False
        self._stage: mmap.mmap | None = None
        try:
            room.check(folder)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | way, 0o600)
        except OSError as error:
            raise self._out(error) from error
        self._stage = _stage()
        self._view = memoryview(self._stage)
        self._view[: self.start] = meta
        self._filled = self._hashed = self.start  # of the stage; up to where it is no data set, or hashed

    @property
    def sha256(self) -> str:
        """Of the data set alone."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes | memoryview) -> None:
        """Takes a copy of `chunk`."""
        self.size += len(chunk)
        while len(chunk) > STAGE - self._filled:
            free = STAGE - self._filled
            self._view[self._filled :] = chunk[:free]
            self._filled, chunk = STAGE, chunk[free:]
            self._empty()
        end = self._filled + len(chunk)
        self._view[self._filled : end] = chunk
        self._filled = end

    def seal(self) -> None:
        """All of it on disk, under its temporary name."""
        self._empty()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._out(error) from error
        self._close()

    def drop(self) -> None:
        """Leaves nothing behind."""
        self._close()
        if self.renamed:
            return
        with suppress(OSError):  # of a disk that became read-only; the next start removes it
            self.path.unlink(missing_ok=True)

    def _empty(self) -> None:
        """Hashes and writes what was collected."""
        full, self._filled = self._view[: self._filled], 0
        if self.size > self._room.object_bytes:
            self.drop()
            why = f"larger than listener.max_object_bytes ({self._room.object_bytes} bytes); raise it, or send less in one instance"
            raise OutOfResources(why, self.command.sop_instance_uid)
        self.head = self.head or bytes(full[self.start : self.start + HEAD])
        try:
            self._room.check(self.path.parent, len(full))
            self._hash.update(full[self._hashed :])
            self._hashed = 0
            self._put(full)
        except OSError as error:
            raise self._out(error) from error
        except Refused:
            self.drop()
            raise

    def _put(self, full: memoryview) -> None:
        """A stage is whole blocks, but for the last."""
        whole = len(full) - len(full) % BLOCK
        write_all(self._descriptor, full[:whole])
        if whole < len(full):
            if self._way:
                fcntl.fcntl(self._descriptor, fcntl.F_SETFL, 0)
            write_all(self._descriptor, full[whole:])

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):  # of a network's disk; what counts was synced, or is given up
                os.close(descriptor)
        stage, self._stage = self._stage, None
        if stage:
            self._view.release()  # whoever still wrote would write into the next instance
            _SPARE.append(stage)

    def _out(self, error: OSError) -> OutOfResources:
        self.drop()
        return OutOfResources(f"spool: {error.strerror}; free or mend the disk of state.dir", self.command.sop_instance_uid)


def past_the_cache(folder: Path) -> int:
    """The flag that opens files of `folder` for writing past the page cache; 0 where its file system knows no such way."""
    flag = getattr(os, "O_DIRECT", 0)
    path = folder / f"{os.getpid()}-direct.part"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
        try:
            return flag if os.write(descriptor, _pages(BLOCK)) == BLOCK else 0
        finally:
            os.close(descriptor)
    except OSError:
        return 0
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _stage() -> mmap.mmap:
    try:
        return _SPARE.pop()
    except IndexError:
        return _pages(STAGE)


def _pages(size: int) -> mmap.mmap:
    """Memory that begins where a page does."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """All of `data`, or OSError. A full disk writes short before it fails."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def part_10_head(command: Command) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 table 7.1-1). Sending and receiving AE stand in it, so that a ledger
    that was lost can be made again from the files.
    """
    values = [
        (0x02, b"UI", command.sop_class_uid),
        (0x03, b"UI", command.sop_instance_uid),
        (0x10, b"UI", command.transfer_syntax_uid),
        (0x12, b"UI", PYNETDICOM_IMPLEMENTATION_UID),
        (0x13, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION),
        (0x17, b"AE", command.calling_ae),
        (0x18, b"AE", command.called_ae),
    ]
    version = _LONG.pack(2, 0x01, b"OB", 0, 2) + b"\0\1"
    body = version + b"".join(_meta(number, vr, value) for number, vr, value in values if value)
    return b"\0" * 128 + b"DICM" + _SHORT.pack(2, 0x00, b"UL", 4) + len(body).to_bytes(4, "little") + body


def _meta(number: int, vr: bytes, value: str) -> bytes:
    text = value.encode("ascii", "replace")
    padded = text + (b"\0" if vr == b"UI" else b" ") * (len(text) % 2)
    return _SHORT.pack(2, number, vr, len(padded)) + padded
