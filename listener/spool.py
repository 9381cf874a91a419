"""spool: the bytes, kept so that a power cut takes nothing that was acknowledged.

write .part > check > fdatasync > rename > fsync of the folder > row in the ledger > 0x0000

STATE/spool/<study UID>/<SOP Instance UID>.dcm            an instance, as sent
STATE/spool/<study UID>/<SOP Instance UID>.<sha256>.aside same UID and transfer syntax, other bytes: kept, never mixed in
STATE/spool/incoming/*.part                               not acknowledged; removed at start
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from listener import headers, logs
from listener.eligibility import can_answer
from listener.errors import CannotUnderstand, Mismatch, NotDicom, OutOfResources
from listener.ledger import Ledger
from pipeline.records import Instance

log = logs.get()

Outcome = Literal["kept", "duplicate", "other_syntax", "conflict"]


@dataclass(frozen=True, slots=True)
class Command:
    """What the C-STORE request said about the data set that came with it, and who sent it."""

    sop_class_uid: str
    sop_instance_uid: str
    calling_ae: str
    called_ae: str


class Spool:
    """The folder `state`/spool and its rows. One process receives; its threads share this object."""

    def __init__(self, state: Path, ledger: Ledger, min_free_bytes: int) -> None:
        self.folder = state / "spool"
        self._incoming = self.folder / "incoming"
        self._ledger = ledger
        self._min_free_bytes = min_free_bytes
        self._commit = threading.Lock()  # looking up, renaming and writing the row are one act
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, chunks: Sequence[bytes | memoryview], command: Command) -> tuple[Outcome, Instance]:
        """Keeps one Part 10 file, given as `chunks`. When this returns, bytes and row survive a power cut.

        Raises OutOfResources, Mismatch or CannotUnderstand; then nothing is left behind.
        """
        _check_uid(command.sop_instance_uid, "Affected SOP Instance UID")
        self._check_space(sum(map(len, chunks)))
        part = self._incoming / f"{uuid.uuid4().hex}.part"
        try:
            _write(part, chunks)
            instance = _read(part, command)
            with self._commit:
                return self._place(part, instance, command)
        except OSError as error:
            raise OutOfResources(f"spool: {error.strerror}; free or mend the disk of state.dir", command.sop_instance_uid) from error
        except SQLAlchemyError as error:
            why = getattr(error, "orig", None) or type(error).__name__
            raise OutOfResources(f"ledger: {why}; free or mend the disk of state.dir", command.sop_instance_uid) from error
        finally:
            part.unlink(missing_ok=True)

    def recover(self) -> tuple[int, int]:
        """At start: removes what was never acknowledged, and gives rows to files without one. Returns both counts."""
        parts = list(self._incoming.glob("*.part"))
        for part in parts:
            part.unlink()
        known = self._ledger.paths()
        unknown = [path for path in sorted(self.folder.glob("*/*.dcm")) if path not in known]
        for path in unknown:
            self._index(path)
        for path in sorted(path for path in known if not path.is_file()):
            log.error("spool.missing", study_uid=path.parent.name, sop_instance_uid=path.name.removesuffix(".dcm"))
        return len(parts), len(unknown)

    def _check_space(self, wanted: int) -> None:
        if shutil.disk_usage(self.folder).free - wanted < self._min_free_bytes:
            raise OutOfResources("spool: less than state.min_free_bytes would be left; free the disk of state.dir")

    def _place(self, part: Path, instance: Instance, command: Command) -> tuple[Outcome, Instance]:
        """Renames `part` to where it belongs and writes its row, unless we hold the instance already."""
        held = self._ledger.find(instance.study_uid, instance.sop_instance_uid)
        if held is None:
            placed = _rename(part, instance, self.folder / instance.study_uid / f"{instance.sop_instance_uid}.dcm")
            self._row(placed, command)
            return "kept", placed
        if held.transfer_syntax_uid != instance.transfer_syntax_uid and not self._ledger.is_quarantined(instance.study_uid):
            return "other_syntax", held  # of a quarantined study it may be the correction that was asked for
        if held.sha256 == instance.sha256:
            if not held.path.is_file():  # lost since, by an operator or a disk
                _rename(part, instance, held.path)
            return "duplicate", held
        name = f"{instance.sop_instance_uid}.{instance.sha256[:16]}.aside"
        aside = _rename(part, instance, self.folder / instance.study_uid / name)
        self._ledger.add_aside(aside)
        return "conflict", aside

    def _row(self, placed: Instance, command: Command) -> None:
        """A file whose row cannot be written was not kept."""
        try:
            answers = can_answer(placed)
            self._ledger.add(placed, can_answer=answers, calling_ae=command.calling_ae, called_ae=command.called_ae)
        except SQLAlchemyError:
            placed.path.unlink(missing_ok=True)
            raise

    def _index(self, path: Path) -> None:
        """A row for a file that was renamed but not acknowledged before the last end."""
        try:
            instance = headers.read(path, received_at=time.time())
        except NotDicom as error:
            log.error("spool.unreadable", study_uid=path.parent.name, error=error.why)
            return
        self._ledger.add(instance, can_answer=can_answer(instance))
        log.info("spool.indexed", study_uid=instance.study_uid, sop_instance_uid=instance.sop_instance_uid)


def _read(part: Path, command: Command) -> Instance:
    """The instance in `part`, if it is the one that the command announced (PS3.4 B.2.3)."""
    uid = command.sop_instance_uid
    try:
        instance = headers.read(part, received_at=time.time())
    except NotDicom as error:
        raise CannotUnderstand(f"data set: {error.why}", uid) from error
    if instance.sop_class_uid != command.sop_class_uid:
        raise Mismatch("the data set's SOP Class UID is not the command's", uid)
    if instance.sop_instance_uid != uid:
        raise Mismatch("the data set's SOP Instance UID is not the command's", uid)
    return instance


def _check_uid(uid: str, what: str) -> None:
    if not headers.is_uid(uid):
        raise CannotUnderstand(f"{what} is not a UID (digits and dots, at most 64)")


def _write(path: Path, chunks: Sequence[bytes | memoryview]) -> None:
    """All of `chunks`, or OSError; on disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]  # a full disk writes short before it fails
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _rename(part: Path, instance: Instance, target: Path) -> Instance:
    """`part` at `target`, and the name on disk."""
    if not target.parent.is_dir():
        target.parent.mkdir(mode=0o700)
        sync_folder(target.parent.parent)
    part.rename(target)
    sync_folder(target.parent)
    return replace(instance, path=target)


def sync_folder(folder: Path) -> None:
    """Names in a folder survive a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """`data` at `path`, whole or not at all, on disk when this returns. Raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        _write(part, [data])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
