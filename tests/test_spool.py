"""listener/spool.py over a real folder and a real ledger."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import objects
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import data_set, dataset, part_10
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import EnhancedSRStorage, ImplicitVRLittleEndian, JPEGBaseline8Bit, MRImageStorage
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from listener import headers, names
from listener.arrivals import Arrival
from listener.errors import CannotUnderstand, Mismatch, NotDicom, OutOfResources, Refused
from listener.incoming import Command, past_the_cache
from listener.index import Index
from listener.ledger import FILE, Ledger
from listener.spool import Spool
from pipeline.records import Instance


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, Ledger(tmp_path), 0)


def keep(spool: Spool, ds: FileDataset) -> tuple[str, Path]:
    outcome, instance = objects.keep(spool, ds)
    return outcome, instance.path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_sent_is_what_lies_there(spool: Spool, tmp_path: Path) -> None:
    """Byte for byte, under names made of UIDs only, readable by nobody else, with its row."""
    ds = dataset()
    outcome, path = keep(spool, ds)
    assert (outcome, path) == ("kept", tmp_path / "spool" / "1.2.3" / "1.2.3.1.1.dcm")
    assert data_set(path.read_bytes()) == data_set(part_10(ds))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert files(tmp_path / "spool") == ["1.2.3/1.2.3.1.1.dcm"]
    found = Ledger(tmp_path).find("1.2.3", "1.2.3.1.1")
    assert found is not None
    assert found.path == path


def test_the_same_again_changes_nothing(spool: Spool, tmp_path: Path) -> None:
    """An instance that comes twice is one file and one row."""
    assert [keep(spool, dataset())[0] for _ in range(2)] == ["kept", "duplicate"]
    assert files(tmp_path / "spool") == ["1.2.3/1.2.3.1.1.dcm"]


def test_another_transfer_syntax_is_no_conflict(spool: Spool, tmp_path: Path) -> None:
    """The first is kept, the second is known."""
    keep(spool, dataset())
    other = dataset()
    other.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    outcome, instance = objects.keep(spool, other)
    assert (outcome, instance.transfer_syntax_uid) == ("other_syntax", "1.2.840.10008.1.2.1")
    assert files(tmp_path / "spool") == ["1.2.3/1.2.3.1.1.dcm"]


def _implicit(**more: Any) -> FileDataset:
    ds = dataset(**more)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


@pytest.mark.parametrize("first", ["pixels", "lossy", "report", "altered"])
def test_another_transfer_syntax_of_something_else_is_kept(spool: Spool, tmp_path: Path, first: str) -> None:
    """Other pixels, a lossy copy, an object without pixels, a file that was altered since: the second is not taken for known."""
    kind = {"sop_class_uid": EnhancedSRStorage} if first == "report" else {"ImageComments": "harmless"}
    held = dataset(**kind)
    if first == "lossy":
        held.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        held.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        held["PixelData"].VR = "OB"
    path = keep(spool, held)[1]
    other = _implicit(**kind)
    if first == "pixels":
        other.PixelData = bytes(len(other.PixelData))
    if first == "altered":
        path.write_bytes(path.read_bytes().replace(b"harmless", b"harmful "))
    outcome, aside = keep(spool, other)
    assert outcome == "conflict" and data_set(aside.read_bytes()) == data_set(part_10(other))


@pytest.mark.parametrize("what", ["kept", "aside"])
@pytest.mark.parametrize("harm", [lambda raw: raw[:400], lambda raw: raw[:-1] + b"x", lambda _: b""])
def test_a_file_that_is_no_longer_whole_is_replaced_by_the_next_copy(spool: Spool, what: str, harm: Callable[[bytes], bytes]) -> None:
    """Truncated, altered, emptied: the copy that comes is acknowledged for what it brings, not for what lies there."""
    keep(spool, dataset())
    ds = dataset() if what == "kept" else dataset(EchoTime="5")
    path = keep(spool, ds)[1]
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    with capture_logs() as told:
        keep(spool, ds)
    assert [line["event"] for line in told] == (["spool.mended"] if what == "kept" else [])
    assert data_set(path.read_bytes()) == data_set(whole)


def test_a_copy_in_another_syntax_with_padding_is_one(spool: Spool) -> None:
    """Data Set Trailing Padding is written otherwise in another syntax; only the pixels are compared."""
    keep(spool, dataset(DataSetTrailingPadding=b"\0\0"))
    assert keep(spool, _implicit(DataSetTrailingPadding=b"\0\0"))[0] == "other_syntax"


def test_a_file_made_whole_has_its_headers_again(spool: Spool, tmp_path: Path) -> None:
    """What was read of the damaged file does not outlive it."""
    path = keep(spool, dataset(SeriesDescription="T1"))[1]
    path.write_bytes(b"torn")
    ledger = Ledger(tmp_path)
    Index(ledger, lambda: True).settle("1.2.3")
    keep(spool, dataset(SeriesDescription="T1"))
    (held,) = ledger.study("1.2.3").instances  # type: ignore[union-attr]
    assert held.headers.has_pixels and held.headers.series_description == "T1"


@pytest.mark.parametrize("whole", [True, False])
def test_a_replacement_that_fails_takes_nothing_away(spool: Spool, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    """For want of descriptors nobody can tell whether the file is whole, or sync its folder: refused, and what lay there stays."""
    path = keep(spool, dataset())[1]
    if whole:
        monkeypatch.setattr(headers, "on_disk", _unreadable)
    else:
        path.write_bytes(path.read_bytes()[:-2])
        monkeypatch.setattr(names, "sync_folder", _no_descriptors)
    with pytest.raises(OutOfResources, match="Too many open files"):
        keep(spool, dataset())
    assert path.is_file()


def _no_descriptors(_folder: Path) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _unreadable(path: Path) -> tuple[str, str]:
    try:
        _no_descriptors(path)
    except OSError as error:
        raise NotDicom(path, "cannot be read") from error
    raise AssertionError


def test_other_bytes_are_kept_aside(spool: Spool, tmp_path: Path) -> None:
    """Neither overwritten nor mixed in; sent a third time it is still one file aside."""
    first = keep(spool, dataset())[1].read_bytes()
    for _ in range(2):
        assert keep(spool, dataset(EchoTime="5"))[0] == "conflict"
    aside, kept = files(tmp_path / "spool")
    assert (tmp_path / "spool" / kept).read_bytes() == first
    assert aside.endswith(".aside")
    assert len(Ledger(tmp_path).describe("1.2.3")["kept_aside"]) == 1
    assert len(Ledger(tmp_path).study("1.2.3").instances) == 1  # type: ignore[union-attr]


def test_a_lost_file_comes_back_with_the_next_copy(spool: Spool) -> None:
    """A row is no promise without its bytes: a duplicate of a file that has gone is kept."""
    path = keep(spool, dataset())[1]
    path.unlink()
    assert keep(spool, dataset())[0] == "duplicate"
    assert path.is_file()


@pytest.mark.parametrize("uid", ["../../x", "", "1.2\0", "1." + "2" * 64, "1..2", "1.2.", "a.b", "1/2"])
def test_uids_that_are_none_are_refused(spool: Spool, tmp_path: Path, uid: str) -> None:
    """Whatever the command calls itself, no file leaves the spool, and none is left in it."""
    ds = dataset()
    with pytest.raises(CannotUnderstand, match="not a UID") as caught:
        objects.keep(spool, ds, Command(MRImageStorage, uid, "CT01", "VITALCHECK"))
    assert caught.value.status == 0xC000
    assert files(tmp_path / "spool") == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_study_uid_that_is_none_is_refused(spool: Spool, tmp_path: Path, keyword: str) -> None:
    """UIDs inside the data set become names of folders too."""
    ds = dataset()
    raw = part_10(ds)
    old = str(ds[keyword].value).encode()
    tag = b"\x20\x00\x0d\x00UI" if keyword == "StudyInstanceUID" else b"\x20\x00\x0e\x00UI"
    at = raw.index(tag) + 8
    raw = raw[:at] + b"../x"[: len(old)].ljust(len(old), b"/") + raw[at + len(old) :]
    with pytest.raises(CannotUnderstand, match="not a UID"):
        objects.keep(spool, ds, raw=data_set(raw))
    assert files(tmp_path / "spool") == []


def test_command_and_data_set_must_agree(spool: Spool, tmp_path: Path) -> None:
    """0xA900 where SOP class or SOP Instance UID differ, 0xC000 where the data set cannot be read; nothing is left behind."""
    ds = dataset()
    for wrong in (Command("1.2.840.10008.5.1.4.1.1.2", ds.SOPInstanceUID, "CT01", ""), Command(ds.SOPClassUID, "1.2.9", "CT01", "")):
        with pytest.raises(Mismatch) as caught:
            objects.keep(spool, ds, wrong)
        assert caught.value.status == 0xA900
    with pytest.raises(CannotUnderstand):
        objects.keep(spool, ds, raw=b"rubbish" * 20)
    assert files(tmp_path / "spool") == []


def test_too_little_space_is_out_of_resources(tmp_path: Path) -> None:
    """Below state.min_free_bytes nothing is written and the status is 0xA700."""
    spool = Spool(tmp_path, Ledger(tmp_path), 1 << 62)
    with pytest.raises(OutOfResources, match="min_free_bytes") as caught:
        keep(spool, dataset())
    assert caught.value.status == 0xA700


def test_a_disk_that_fills_up_leaves_nothing_behind(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write followed by ENOSPC is 0xA700, and the next instance is kept when space returns."""
    real = os.write

    def short(descriptor: int, data: memoryview) -> int:
        if len(data) < 600:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:500])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        with pytest.raises(OutOfResources, match="No space left"):
            keep(spool, dataset())
    assert files(tmp_path / "spool") == []
    assert keep(spool, dataset())[0] == "kept"


def test_short_writes_are_made_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write less than it was asked to."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, memoryview(data)[:100]))
    ds = dataset()
    assert data_set(keep(spool, ds)[1].read_bytes()) == data_set(part_10(ds))


def test_bytes_are_on_disk_before_the_row(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """fdatasync of the file, then fsync of every folder whose names changed, then the row."""
    order: list[str] = []
    real_data, real_folder, real_add = os.fdatasync, os.fsync, Ledger.add_all
    monkeypatch.setattr(os, "fdatasync", lambda fd: (order.append("file"), real_data(fd))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("folder"), real_folder(fd))[1])
    monkeypatch.setattr(Ledger, "add_all", lambda self, *a, **k: (order.append("row"), real_add(self, *a, **k))[1])
    keep(spool, dataset())
    keep(spool, dataset(number=2))
    assert order == ["file", "folder", "folder", "row", "file", "folder", "row"]


def test_start_up_mends_what_a_crash_left(spool: Spool, tmp_path: Path) -> None:
    """A part is removed, a file without a row gets one, and a second start finds nothing to do."""
    kept = keep(spool, dataset())[1]
    (tmp_path / FILE).unlink()
    (tmp_path / "spool" / "incoming" / "x.part").write_bytes(b"torn")
    again = Spool(tmp_path, Ledger(tmp_path), 0)
    assert again.recover() == (1, 1)
    assert Ledger(tmp_path).find("1.2.3", "1.2.3.1.1").path == kept  # type: ignore[union-attr]
    assert again.recover() == (0, 0)


def test_a_row_that_cannot_be_written_takes_its_file_along(spool: Spool, tmp_path: Path) -> None:
    """A ledger that is locked or full refuses the instance with 0xA700, and nothing of it stays."""
    with Ledger(tmp_path)._write() as c:
        c.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON instances BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END")
    with pytest.raises(OutOfResources, match="ledger"):
        keep(spool, dataset())
    assert files(tmp_path / "spool") == []


def test_a_ledger_that_cannot_be_read_is_out_of_resources(spool: Spool, tmp_path: Path) -> None:
    """Looking an instance up may fail as writing its row may: 0xA700, and nothing of it stays."""
    with Ledger(tmp_path)._write() as c:
        c.exec_driver_sql("ALTER TABLE instances RENAME TO lost")
    with pytest.raises(OutOfResources, match="ledger"):
        keep(spool, dataset())
    assert files(tmp_path / "spool") == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_any_order_with_duplicates_is_the_same_spool(tmp_path_factory: pytest.TempPathFactory, arrivals: list[int]) -> None:
    """However instances come, and come again, at once or one by one, each lies there once."""
    folder = tmp_path_factory.mktemp("state")
    spool = Spool(folder, Ledger(folder), 0)
    threads = [threading.Thread(target=keep, args=(spool, dataset(number=n))) for n in arrivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(folder / "spool") == sorted(f"1.2.3/1.2.3.1.{n}.dcm" for n in set(arrivals))


def test_refusals_know_their_instance(spool: Spool) -> None:
    """The error carries the UID it happened to."""
    ds = dataset()
    with pytest.raises(Refused) as caught:
        objects.keep(spool, ds, Command("1.2", ds.SOPInstanceUID, "CT01", ""))
    assert caught.value.uid == ds.SOPInstanceUID


def test_a_commit_that_failed_leaves_no_folder(spool: Spool, tmp_path: Path) -> None:
    """The folder of a new study goes with its instance: one that stayed would not be synced when the instance comes again."""
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(OutOfResources):
        keep(spool, dataset())
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["incoming"]
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("DROP TRIGGER full")
    assert keep(spool, dataset())[0] == "kept"


def test_a_duplicate_does_not_wait_for_writers(spool: Spool, tmp_path: Path) -> None:
    """What we hold is looked up by reading: a worker that writes at the same moment is not waited for."""
    keep(spool, dataset())
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert keep(spool, dataset())[0] == "duplicate"
    assert time.monotonic() - began < 5
    other.close()


# What a power cut would take, and what an undo may touch


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that were synced, as they are."""
    seen: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(Path(f"/proc/self/fd/{fd}").readlink().name), real(fd))[1])
    return seen


def broken(_fd: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def refuse_rows(
    folder: Path, statement: str = "CREATE TRIGGER full BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'full'); END"
) -> None:
    with sqlite3.connect(folder / FILE) as other:
        other.execute(statement)


def test_a_spool_goes_past_the_page_cache(spool: Spool) -> None:
    """Where its file system can."""
    assert spool._way == past_the_cache(spool.folder)


def test_a_study_that_was_taken_back_is_named_again(spool: Spool, tmp_path: Path, synced: list[str]) -> None:
    """Its folder went with its first instance, so the next one syncs the folder's own name, too."""
    refuse_rows(tmp_path)
    with pytest.raises(OutOfResources):
        keep(spool, dataset())
    refuse_rows(tmp_path, "DROP TRIGGER full")
    synced.clear()
    keep(spool, dataset())
    assert synced == ["1.2.3", "spool"]


def test_the_second_of_a_new_study_waits_for_the_name_of_its_folder(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds the folder made does not know that its name is on disk."""
    syncing, go_on, real = threading.Event(), threading.Event(), names.sync_folder

    def slow(folder: Path) -> None:
        if folder == spool.folder:
            syncing.set()
            go_on.wait(5)
        real(folder)

    monkeypatch.setattr(names, "sync_folder", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(keep, spool, dataset(number=1))
        assert syncing.wait(5)
        second = pool.submit(keep, spool, dataset(number=2))
        with pytest.raises(TimeoutError):
            second.result(0.3)
        go_on.set()
        assert [each.result(5)[0] for each in (first, second)] == ["kept", "kept"]


@pytest.mark.parametrize("lost", ["its file", "its folder"])
def test_what_comes_back_is_synced(spool: Spool, synced: list[str], lost: str) -> None:
    """A duplicate that brings a lost file back is answered when its name, and its folder's, are on disk."""
    path = keep(spool, dataset())[1]
    path.unlink()
    if lost == "its folder":
        path.parent.rmdir()
    synced.clear()
    assert keep(spool, dataset())[0] == "duplicate"
    assert synced == (["1.2.3"] if lost == "its file" else ["1.2.3", "spool"])


def test_what_cannot_be_brought_back_is_refused_and_gone(spool: Spool, monkeypatch: pytest.MonkeyPatch, synced: list[str]) -> None:
    """A copy of a lost file whose name cannot be synced leaves none behind that the next copy would be taken for held by."""
    path = keep(spool, dataset())[1]
    path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(OutOfResources):
            keep(spool, dataset())
    assert not path.is_file()
    synced.clear()
    assert keep(spool, dataset())[0] == "duplicate"
    assert "1.2.3" in synced


def test_aside_is_synced_before_its_row(spool: Spool, monkeypatch: pytest.MonkeyPatch, synced: list[str]) -> None:
    """As what is kept."""
    keep(spool, dataset())
    synced.clear()
    real = Ledger.add_all
    monkeypatch.setattr(Ledger, "add_all", lambda self, *rows: (synced.append("row"), real(self, *rows))[1])
    assert keep(spool, dataset(EchoTime="5"))[0] == "conflict"
    assert synced == ["1.2.3", "row"]


def test_a_name_that_a_kill_left_is_synced_when_it_comes_again(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[str]
) -> None:
    """An aside that lies there when we start has its name, and nobody knows whether the disk has it."""

    class Killed(BaseException):
        pass

    def killed(_folder: Path) -> None:
        raise Killed

    keep(spool, dataset())
    with monkeypatch.context() as patched:
        patched.setattr(names, "sync_folder", killed)
        with pytest.raises(Killed):
            keep(spool, dataset(EchoTime="5"))
    again = Spool(tmp_path, Ledger(tmp_path), 0)
    again.recover()
    synced.clear()
    assert keep(again, dataset(EchoTime="5"))[0] == "conflict"
    assert "1.2.3" in synced


def test_an_undo_takes_no_folder_that_another_has_just_made(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the first fails while the second makes the folder of the same study: the second is kept."""
    made, undone, real_mkdir, real_add = threading.Event(), threading.Event(), Path.mkdir, Ledger.add_all

    def mkdir(path: Path, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        real_mkdir(path, mode, parents=parents, exist_ok=exist_ok)
        if threading.current_thread().name == "second":
            made.set()
            undone.wait(0.5)  # the undo waits for us: it would otherwise take the folder now

    def add_all(ledger: Ledger, arrived: list[Arrival], aside: list[Instance]) -> None:
        if any(arrival.instance.sop_instance_uid.endswith(".1") for arrival in arrived):
            raise OperationalError(None, None, sqlite3.OperationalError("disk I/O error"))
        real_add(ledger, arrived, aside)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Ledger, "add_all", add_all)
    found: list[str] = []
    second = threading.Thread(target=lambda: found.append(keep(spool, dataset(number=2))[0]), name="second")
    second.start()
    assert made.wait(5)
    with pytest.raises(OutOfResources):
        keep(spool, dataset(number=1))
    undone.set()
    second.join(5)
    assert found == ["kept"]


def test_a_close_that_fails_is_the_end_all_the_same(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """close(2) of a network's disk repeats the error of a write: nothing stays, and nothing is taken for on its way."""
    real = os.close

    def bad(descriptor: int) -> None:
        real(descriptor)
        broken(descriptor)

    incoming = spool.receive(Command(MRImageStorage, "1.2.3.1.1", "CT01", "VITALCHECK", "1.2.840.10008.1.2.1"))
    incoming.write(b"some")
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", bad)
        spool.give_up(incoming)
    assert files(tmp_path / "spool") == []
    assert not spool._open


def test_a_sop_class_that_is_none_is_refused(spool: Spool) -> None:
    """However long: it would not fit into the file meta information."""
    with pytest.raises(CannotUnderstand, match="SOP Class UID is not a UID"):
        spool.receive(Command("1" * 70_000, "1.2.3", "CT01", "VITALCHECK", "1.2.840.10008.1.2.1"))
