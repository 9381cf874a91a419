"""spool: the bytes, kept so that a power cut takes nothing that was acknowledged.

write .part > fdatasync > check > ( rename > fsync of the folder > row in the ledger ) > 0x0000      ( ): once for all that wait

STATE/spool/<study UID>/<SOP Instance UID>.dcm            an instance, as sent
STATE/spool/<study UID>/<SOP Instance UID>.<sha256>.aside same UID and transfer syntax, other bytes: kept, never mixed in
STATE/spool/incoming/*.part                               not acknowledged; removed at start
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from listener import headers, logs, uids
from listener.arrivals import Arrival
from listener.commit import GroupCommit
from listener.eligibility import can_answer
from listener.errors import CannotUnderstand, Mismatch, NotDicom, OutOfResources
from listener.incoming import Command, Incoming, Room, is_full, write_all
from listener.ledger import Ledger
from listener.rows import UNREAD
from pipeline.records import Instance

log = logs.get()

Outcome = Literal["kept", "duplicate", "other_syntax", "conflict"]
Placed = tuple[Outcome, Instance]
PAUSE = 0.1  # s; reading the headers of an instance takes as long as receiving it, and scanners that are slower than this leave the time
LARGEST = 1 << 40  # bytes of one instance, where nobody said fewer


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An instance whose bytes are on disk, and that waits for its name and its row."""

    part: Path
    instance: Instance
    command: Command


class Spool:
    """The folder `state`/spool and its rows. One process receives; its threads share this object."""

    def __init__(self, state: Path, ledger: Ledger, min_free_bytes: int, max_object_bytes: int = LARGEST) -> None:
        self.folder = state / "spool"
        self._incoming = self.folder / "incoming"
        self._ledger = ledger
        self._room = Room(max_object_bytes, min_free_bytes)
        self._commit = GroupCommit(self._place_all)
        self._ended_at = 0.0  # s, monotonic; the last of them
        self._open: set[Incoming] = set()  # on their way; to end one twice ends it once
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    # An instance comes in

    def receive(self, command: Command) -> Incoming:
        """Where the data set that `command` announced goes; `keep` or `give_up` ends it. Raises CannotUnderstand, OutOfResources."""
        _check_uid(command.sop_instance_uid, "Affected SOP Instance UID")
        incoming = Incoming(self._incoming, command, self._room)
        self._open.add(incoming)
        return incoming

    def keep(self, incoming: Incoming) -> Placed:
        """When this returns, bytes and row survive a power cut.

        Raises OutOfResources, Mismatch or CannotUnderstand; then nothing is left behind.
        """
        uid = incoming.command.sop_instance_uid
        try:
            incoming.seal()
            outcome, instance = self._commit(_Waiting(incoming.path, _read(incoming), incoming.command))
            incoming.renamed = outcome == "kept"
            return outcome, instance
        except OSError as error:
            raise OutOfResources(f"spool: {error.strerror}; free or mend the disk of state.dir", uid) from error
        except SQLAlchemyError as error:
            why = getattr(error, "orig", None) or type(error).__name__
            raise OutOfResources(f"ledger: {why}; free or mend the disk of state.dir", uid) from error
        finally:
            self.give_up(incoming)

    def give_up(self, incoming: Incoming) -> None:
        """It came to an end, or its sender did."""
        incoming.drop()
        self._open.discard(incoming)
        self._ended_at = time.monotonic()

    @property
    def is_calm(self) -> bool:
        """Has nothing come in for a moment? Between two instances of one burst is no pause."""
        return not self._open and time.monotonic() - self._ended_at > PAUSE

    @property
    def is_full(self) -> bool:
        """Would the next instance be refused for want of space?"""
        return is_full(self.folder, self._room.free_bytes)

    # Start

    def recover(self) -> tuple[int, int]:
        """At start: removes what was never acknowledged, and gives rows to files without one. Returns both counts."""
        parts = list(self._incoming.glob("*.part"))
        for part in parts:
            part.unlink()
        known = self._ledger.paths()
        unknown = [path for path in sorted(self.folder.glob("*/*.dcm")) if path not in known]
        for folder in dict.fromkeys((self.folder.parent, self.folder, *(path.parent for path in unknown))):
            sync_folder(folder)  # whoever ended us may have done so between a name and its sync
        for path in unknown:
            self._index(path)
        for path in sorted(path for path in known if not path.is_file()):
            log.error("spool.missing", study_uid=path.parent.name, sop_instance_uid=path.name.removesuffix(".dcm"))
        return len(parts), len(unknown)

    def _index(self, path: Path) -> None:
        """A row for a file that was renamed but not acknowledged before the last end, or whose row was lost."""
        try:
            instance = headers.read(path, received_at=time.time())
            calling, called = headers.application_entities(path)
        except NotDicom as error:
            log.error("spool.unreadable", study_uid=path.parent.name, error=error.why)
            return
        self._ledger.add(instance, can_answer=can_answer(instance), calling_ae=calling, called_ae=called)
        log.info("spool.indexed", study_uid=instance.study_uid, sop_instance_uid=instance.sop_instance_uid)

    # Names and rows, for all that wait

    def _place_all(self, waiting: Sequence[_Waiting]) -> list[Placed | Exception]:
        """Renames each to where it belongs, syncs the folders once, and writes all rows in one transaction."""
        held = self._ledger.find_all((one.instance.study_uid, one.instance.sop_instance_uid) for one in waiting)
        batch = _Batch(self.folder, self._ledger, held)
        try:
            placed = [batch.place(one) for one in waiting]
            for folder in batch.folders:
                sync_folder(folder)
            self._ledger.add_all(batch.arrivals, batch.asides)
        except Exception:
            batch.undo()  # what has no row was not kept
            raise
        return placed


class _Batch:
    """Names for instances, without a word to the disk about them yet."""

    def __init__(self, folder: Path, ledger: Ledger, held: dict[tuple[str, str], Instance]) -> None:
        self._folder, self._ledger, self._held = folder, ledger, held
        self.folders: dict[Path, None] = {}  # whose names changed, parents first
        self.arrivals: list[Arrival] = []
        self.asides: list[Instance] = []
        self._made: list[Path] = []  # files that were not there before
        self._made_folders: list[Path] = []

    def place(self, waiting: _Waiting) -> Placed | Exception:
        """Where it is now, unless we hold the instance already. An error is of this instance alone."""
        try:
            return self._place(waiting.part, waiting.instance, waiting.command)
        except OSError as error:
            return error

    def undo(self) -> None:
        for path in self._made:
            path.unlink(missing_ok=True)
        for folder in self._made_folders:  # one that stayed would be taken for one whose name is on disk
            folder.rmdir()

    def _place(self, part: Path, instance: Instance, command: Command) -> Placed:
        key = (instance.study_uid, instance.sop_instance_uid)
        held = self._held.get(key)
        if held is None:
            placed = self._rename(part, instance, self._folder / instance.study_uid / f"{instance.sop_instance_uid}.dcm")
            self.arrivals.append(Arrival(placed, can_answer(placed), command.calling_ae, command.called_ae))
            self._held[key] = placed
            return "kept", placed
        if held.transfer_syntax_uid != instance.transfer_syntax_uid and self._is_same(held, instance):
            return "other_syntax", held
        if held.sha256 == instance.sha256:
            if not held.path.is_file():  # lost since, by an operator or a disk
                self._rename(part, instance, held.path)
            return "duplicate", held
        target = self._folder / instance.study_uid / f"{instance.sop_instance_uid}.{instance.sha256[:16]}.aside"
        aside = replace(instance, path=target) if target.is_file() else self._rename(part, instance, target)
        self.asides.append(aside)
        return "conflict", aside

    def _is_same(self, held: Instance, instance: Instance) -> bool:
        """Is it `held` in another transfer syntax? What says otherwise than it did is no copy; and of a quarantined study any may be the
        correction that was asked for.
        """
        if self._ledger.is_quarantined(instance.study_uid):
            return False
        try:
            old, new = headers.read(held.path), headers.read(instance.path)
        except NotDicom:
            return False
        return (old.series_uid, old.sop_class_uid, old.headers) == (new.series_uid, new.sop_class_uid, new.headers)

    def _rename(self, part: Path, instance: Instance, target: Path) -> Instance:
        """`part` at `target`; the name is on disk once its folder was synced."""
        try:
            part.rename(target)
        except FileNotFoundError:  # the first of its study
            target.parent.mkdir(mode=0o700)
            self._made_folders.append(target.parent)
            self.folders[target.parent.parent] = None
            part.rename(target)
        self._made.append(target)
        self.folders[target.parent] = None
        return replace(instance, path=target)


def _read(incoming: Incoming) -> Instance:
    """The instance that came, if it is the one that the command announced (PS3.4 B.2.3). Its headers are read later (index.py)."""
    command = incoming.command
    uid = command.sop_instance_uid
    found = uids.read(incoming.head, command.transfer_syntax_uid)
    try:
        instance = _quick(incoming, found) if found else headers.read(incoming.path, received_at=time.time())
    except NotDicom as error:
        raise CannotUnderstand(f"data set: {error.why}", uid) from error
    if instance.sop_class_uid != command.sop_class_uid:
        raise Mismatch("the data set's SOP Class UID is not the command's", uid)
    if instance.sop_instance_uid != uid:
        raise Mismatch("the data set's SOP Instance UID is not the command's", uid)
    return instance


def _quick(incoming: Incoming, found: uids.Uids) -> Instance:
    return Instance(
        study_uid=found.study,
        series_uid=found.series,
        sop_instance_uid=found.sop_instance,
        sop_class_uid=found.sop_class,
        transfer_syntax_uid=incoming.command.transfer_syntax_uid,
        path=incoming.path,
        size=incoming.start + incoming.size,
        sha256=incoming.sha256,
        received_at=time.time(),
        headers=UNREAD,
    )


def _check_uid(uid: str, what: str) -> None:
    if not headers.is_uid(uid):
        raise CannotUnderstand(f"{what} is not a UID (digits and dots, at most 64)")


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
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(descriptor, [data])
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
