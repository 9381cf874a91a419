"""incoming: one instance on its way from the wire to the disk, as STATE/spool/incoming/<name>.part.

    Part 10 head (PS3.10 7.1) | fragments of the data set as they came, hashed as they pass | fdatasync

Nothing of it is held but its first bytes, in which the four UIDs stand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from struct import Struct

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from listener.errors import OutOfResources, Refused

HEAD = 1 << 13  # bytes of a data set that are remembered; the series UID lies in the first two thousand, usually
LOOK = 1 << 24  # bytes written between two looks at the free space
_NUMBERS = count(1)
_TOGETHER = 256  # chunks in one write; the kernel takes 1024 (IOV_MAX)
_SHORT, _LONG = Struct("<HH2sH"), Struct("<HH2sHL")


@dataclass(frozen=True, slots=True)
class Command:
    """What the C-STORE request said about the data set that came with it, and who sent it."""

    sop_class_uid: str
    sop_instance_uid: str
    calling_ae: str
    called_ae: str
    transfer_syntax_uid: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """How much may come in: bytes of one instance, and bytes that stay free on the disk."""

    object_bytes: int
    free_bytes: int


class Incoming:
    """`write` collects, `flush` writes, `seal` makes it survive a power cut. Raises OutOfResources, and then nothing is left behind."""

    def __init__(self, folder: Path, command: Command, room: Room) -> None:
        self.path = folder / f"{os.getpid()}-{next(_NUMBERS)}.part"
        self.command, self.size, self.head = command, 0, bytearray()
        self._meta = part_10_head(command) if command.transfer_syntax_uid else b""
        self.start = len(self._meta)
        self._room, self._hash, self._waiting, self._looked = room, hashlib.sha256(), list[bytes | memoryview](), 0
        self._descriptor, self.renamed = -1, False
        try:
            _check_space(folder, room)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._out(error) from error

    @property
    def sha256(self) -> str:
        """Of the data set alone."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes | memoryview) -> None:
        """Takes `chunk`, which must stay as it is until the next `flush`."""
        self._waiting.append(chunk)
        self.size += len(chunk)
        if len(self.head) < HEAD:
            self.head += chunk[: HEAD - len(self.head)]
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Writes what was collected."""
        chunks, self._waiting = self._waiting, []
        if not chunks:
            return
        if self.size > self._room.object_bytes:
            self.drop()
            why = f"larger than listener.max_object_bytes ({self._room.object_bytes} bytes); raise it, or send less in one instance"
            raise OutOfResources(why, self.command.sop_instance_uid)
        try:
            if self.size - self._looked >= LOOK:
                _check_space(self.path.parent, self._room)
                self._looked = self.size
            together = chunks[0] if len(chunks) == 1 else b"".join(chunks)  # each call lets other threads in, which costs more than a copy
            self._hash.update(together)
            write_all(self._descriptor, [self._meta, together] if self._meta else [together])
            self._meta = b""
        except OSError as error:
            raise self._out(error) from error
        except Refused:
            self.drop()
            raise

    def seal(self) -> None:
        """All of it on disk, under its temporary name."""
        self.flush()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._out(error) from error
        self._close()

    def drop(self) -> None:
        """Leaves nothing behind."""
        self._waiting = []
        self._close()
        if self.renamed:
            return
        with suppress(OSError):  # of a disk that became read-only; the next start removes it
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _out(self, error: OSError) -> OutOfResources:
        self.drop()
        return OutOfResources(f"spool: {error.strerror}; free or mend the disk of state.dir", self.command.sop_instance_uid)


def is_full(folder: Path, free_bytes: int) -> bool:
    """Would less than `free_bytes` be left?"""
    return free_bytes > 0 and shutil.disk_usage(folder).free < free_bytes


def write_all(descriptor: int, chunks: list[bytes | memoryview]) -> int:
    """All of `chunks`, or OSError; how many bytes that were. A full disk writes short before it fails."""
    total = sum(map(len, chunks))
    left, written = total, 0
    while left:
        written = os.writev(descriptor, chunks)
        left -= written
        while chunks and written >= len(chunks[0]):
            written -= len(chunks.pop(0))
        if written:
            chunks[0] = memoryview(chunks[0])[written:]
    return total


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


def _check_space(folder: Path, room: Room) -> None:
    if is_full(folder, room.free_bytes):
        raise OutOfResources("spool: less than state.min_free_bytes would be left; free the disk of state.dir")
