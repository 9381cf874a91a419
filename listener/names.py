"""names: files get their names, and keep them through a power cut.

rename > fsync of the folder > fsync of the spool, once for all new folders that wait                       rename(2), fsync(2)

Each association's thread names its own; a folder that is made or taken away is one thread's at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from listener.commit import GroupCommit
from listener.incoming import write_all

REMEMBERED = 256  # folders whose own name need not be synced again


class Names:
    """Of the files in the folders of `spool`. Raises OSError."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._sure: set[Path] = set()  # folders: their own names are on disk, and whatever lay in them when we first came
        self._changing = threading.Lock()  # folders are made and taken away by one at a time
        self._sync_spool = GroupCommit(self._sync_all)

    def give(self, part: Path, target: Path) -> None:
        """`part` becomes `target`. When this returns, the name survives a power cut, and that of its folder."""
        try:
            part.rename(target)
        except FileNotFoundError:  # the first of its study
            with self._changing:
                self._sure.discard(target.parent)
                target.parent.mkdir(mode=0o700, exist_ok=True)
                part.rename(target)
        self._sync(target.parent)

    def make_sure(self, path: Path) -> None:
        """As `give`, of a file that lies there: whoever gave it its name may have ended before its sync."""
        if path.parent not in self._sure:
            self._sync(path.parent)

    def take_back(self, target: Path) -> None:
        """`target` goes, and its folder where nothing else is in it: one that stayed would be taken for one whose name is on disk."""
        with self._changing, suppress(OSError):  # of a folder that others are in, or of a disk that became read-only
            self._sure.discard(target.parent)
            target.unlink(missing_ok=True)
            target.parent.rmdir()

    def _sync(self, folder: Path) -> None:
        sync_folder(folder)
        if folder in self._sure:
            return
        self._sync_spool(folder)  # whoever made it may not have come so far
        if len(self._sure) >= REMEMBERED:
            self._sure.clear()
        self._sure.add(folder)

    def _sync_all(self, folders: Sequence[Path]) -> list[None]:
        """The names of all of them at once."""
        sync_folder(self._spool)
        return [None] * len(folders)


def sync_folder(folder: Path) -> None:
    """Names in a folder survive a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """When this returns, `folder` is there, and its name survives a power cut. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)  # also where it was there: whoever made it may have ended before


def write_whole(path: Path, data: bytes) -> None:
    """`data` at `path`, whole or not at all, on disk when this returns. Raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(descriptor, data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
