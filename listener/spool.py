"""spool: the bytes, kept so that a power cut takes nothing that was acknowledged.

write .part > fdatasync > check > rename > fsync of the folder > ( row in the ledger ) > 0x0000      ( ): once for all that wait

STATE/spool/<study UID>/<SOP Instance UID>.dcm            an instance, as sent
STATE/spool/<study UID>/<SOP Instance UID>.<sha256>.aside same UID and transfer syntax, other bytes: kept, never mixed in
STATE/spool/incoming/*.part                               not acknowledged; removed at start
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from listener import headers, logs, uids
from listener.arrivals import Arrival
from listener.commit import GroupCommit, Turns
from listener.eligibility import can_answer
from listener.errors import CannotUnderstand, Mismatch, NotDicom, OutOfResources
from listener.incoming import Command, Incoming, Room, past_the_cache
from listener.ledger import Ledger
from listener.names import Names, sync_folder
from listener.rows import UNREAD
from pipeline.records import Instance
from pipeline.syntaxes import LITTLE, LOSSLESS

log = logs.get()

Outcome = Literal["kept", "duplicate", "other_syntax", "conflict"]
Placed = tuple[Outcome, Instance]
Row = Arrival | Instance
"""Of an instance that is new, or of one that is kept aside."""
PAUSE = 0.1  # s; reading the headers of an instance takes as long as receiving it, and scanners that are slower than this leave the time
LARGEST = 1 << 40  # bytes of one instance, where nobody said fewer


class Spool:
    """The folder `state`/spool and its rows. One process receives; its threads share this object."""

    def __init__(self, state: Path, ledger: Ledger, min_free_bytes: int, max_object_bytes: int = LARGEST) -> None:
        self.folder = state / "spool"
        self._incoming = self.folder / "incoming"
        self._ledger = ledger
        self._room = Room(max_object_bytes, min_free_bytes)
        self._turns, self._commit, self._names = Turns(), GroupCommit(self._add), Names(self.folder)
        self._ended_at = 0.0  # s, monotonic; the last of them
        self._open: set[Incoming] = set()  # on their way; to end one twice ends it once
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._way = past_the_cache(self._incoming)

    # An instance comes in

    def receive(self, command: Command) -> Incoming:
        """Where the data set that `command` announced goes; `keep` or `give_up` ends it. Raises CannotUnderstand, OutOfResources."""
        _check_uid(command.sop_class_uid, "Affected SOP Class UID")
        _check_uid(command.sop_instance_uid, "Affected SOP Instance UID")
        incoming = Incoming(self._incoming, command, self._room, self._way)
        self._open.add(incoming)
        return incoming

    def keep(self, incoming: Incoming) -> Placed:
        """When this returns, bytes and row survive a power cut.

        Raises OutOfResources, Mismatch or CannotUnderstand; then nothing is left behind.
        """
        uid = incoming.command.sop_instance_uid
        try:
            incoming.seal()
            new = _read(incoming)
            with self._turns((new.study_uid, new.sop_instance_uid)):
                outcome, instance = self._place(new, incoming.command)
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
        return self._room.is_full(self.folder)

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

    # A name and a row

    def _place(self, new: Instance, command: Command) -> Placed:
        """Where `new` is now, unless we hold it already."""
        held = self._ledger.find(new.study_uid, new.sop_instance_uid)
        if held is None:
            kept = replace(new, path=self.folder / new.study_uid / f"{new.sop_instance_uid}.dcm")
            self._settle(new.path, kept.path, Arrival(kept, can_answer(kept), command.calling_ae, command.called_ae))
            return "kept", kept
        if held.transfer_syntax_uid != new.transfer_syntax_uid and self._is_same(held, new):
            self._names.make_sure(held.path)
            return "other_syntax", held
        if held.sha256 == new.sha256:
            if _is_whole(held):
                self._names.make_sure(held.path)
            else:  # lost or altered since, by an operator or a disk
                self._settle(new.path, held.path, None)
                log.warning("spool.mended", study_uid=held.study_uid, sop_instance_uid=held.sop_instance_uid)
                with suppress(NotDicom):
                    self._ledger.read_again(headers.read(held.path))
            return "duplicate", held
        aside = replace(new, path=self.folder / new.study_uid / f"{new.sop_instance_uid}.{new.sha256[:16]}.aside")
        if _is_whole(aside):
            self._names.make_sure(aside.path)
            self._commit(aside)
        else:
            self._settle(new.path, aside.path, aside)
        return "conflict", aside

    def _is_same(self, held: Instance, instance: Instance) -> bool:
        """Is it `held` in another transfer syntax? What says otherwise than it did is no copy, nor what a lossy one shows; and of a
        study that was quarantined any may be the correction that was asked for.
        """
        syntaxes = {held.transfer_syntax_uid, instance.transfer_syntax_uid}
        if not syntaxes <= LOSSLESS or self._ledger.awaits_correction(instance.study_uid):
            return False
        try:
            old, new = headers.read(held.path), headers.read(instance.path)
            if syntaxes <= LITTLE and headers.pixels(held.path) != headers.pixels(instance.path):
                return False
        except NotDicom:
            return False
        if old.sha256 != held.sha256 or not new.headers.has_pixels:  # of a report or a PDF nothing was compared yet
            return False
        return (old.series_uid, old.sop_class_uid, old.headers) == (new.series_uid, new.sop_class_uid, new.headers)

    def _settle(self, part: Path, target: Path, row: Row | None) -> None:
        """A name and then a row on disk, or neither: what has no row was not kept. What a name stood for before has one, and stays."""
        is_new = not target.exists()
        try:
            self._names.give(part, target)
            if row:
                self._commit(row)
        except Exception:
            if is_new:
                self._names.take_back(target)
            raise

    def _add(self, rows: Sequence[Row]) -> list[None]:
        """All of them in one transaction."""
        self._ledger.add_all([row for row in rows if isinstance(row, Arrival)], [row for row in rows if isinstance(row, Instance)])
        return [None] * len(rows)


def _is_whole(kept: Instance) -> bool:
    """Does its file hold what came? Only then may another copy go. Raises OSError where we cannot tell, for want of descriptors say."""
    try:
        return headers.on_disk(kept.path)[1] == kept.sha256
    except NotDicom as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno not in (errno.ENOENT, errno.EIO):
            raise error.__cause__ from None
        return False


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
