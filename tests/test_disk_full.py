"""Disks that fill up, fail, refuse and recover, under the running service: a small tmpfs, a read-only mount, a limit on the length of
files, and errors that strace(1) puts into its system calls.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from peers import Node, strace, wait_for
from rude import Rude, data_set, new_uid, sender, stored

from listener.ledger import Ledger

SIZE = 16 << 20  # bytes of the disk
OBJECT = 300_000  # bytes


def mount(*arguments: str) -> None:
    """mount(8); skips the test where we may not."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount needs root and a system that lets it: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A service whose state folder is a tmpfs of its own, and whose spool can be made read-only. It waits for no free space."""
    made = Node(tmp_path_factory.mktemp("full"), stand_in="answer")
    made.spool.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(made.state))
    try:
        made.spool.mkdir()
        mount("--bind", str(made.spool), str(made.spool))
        with made:
            yield made
    finally:
        for folder in (made.spool, made.state):
            with suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def fill(folder: Path, leave: int) -> Path:
    """A file that leaves `leave` bytes of the disk."""
    ballast = folder / "ballast"
    free = int(subprocess.run(["df", "--output=avail", "-B1", str(folder)], capture_output=True, text=True, check=True).stdout.split()[-1])
    ballast.write_bytes(bytes(free - leave))
    return ballast


def push_until_full(rude: Rude, size: int) -> list[str]:
    """Objects until one is refused with 0xA700, and two more; those that were acknowledged."""
    kept, refused = [], 0
    for _ in range(2000):
        uid = new_uid()
        status = rude.store(uid, data_set(uid, size))
        assert status in (0x0000, 0xA700)
        kept += [uid] if status == 0x0000 else []
        refused += status == 0xA700
        if refused == 3:
            return kept
    raise AssertionError("the disk never filled up")


def is_whole(node: Node, kept: list[str], size: int) -> None:
    """Every acknowledged object has its bytes and its row, and nothing else is there."""
    wait_for(lambda: not list((node.spool / "incoming").iterdir()), 3, "an empty spool/incoming")
    for uid in kept:
        assert stored(node.spool, uid) == data_set(uid, size)
    rows = {path.name for path in Ledger(node.state, create=False).paths()}
    assert rows == {path.name for path in node.spool.glob("*/*.dcm")}
    assert rows >= {f"{uid}.dcm" for uid in kept}


@pytest.mark.parametrize("size", [OBJECT, 2_000], ids=["inside an object", "in the ledger or at a folder"])
def test_a_full_disk_is_said_and_recovers(node: Node, size: int) -> None:
    """0xA700 while there is no space, whichever write finds none; nothing is torn; with space the same association goes on."""
    ballast = fill(node.state, 2_000_000 if size == OBJECT else 300_000)
    try:
        with sender(node.port) as rude:
            kept = push_until_full(rude, size)
            assert rude.echo() == 0x0000
            assert not list(node.spool.glob("*/*.part"))
            ballast.unlink()
            uid = new_uid()
            assert rude.store(uid, data_set(uid, size)) == 0x0000
            is_whole(node, [*kept, uid], size)
    finally:
        ballast.unlink(missing_ok=True)


def test_an_object_larger_than_the_space_left(node: Node) -> None:
    """Its writes fail in the middle of it, half of it sent: it is read to its end, answered 0xA700, and gone."""
    ballast = fill(node.state, 3_000_000)
    try:
        uid, small = new_uid(), new_uid()
        with sender(node.port) as rude:
            assert rude.store(uid, data_set(uid, 6_000_000)) == 0xA700
            assert rude.store(small, data_set(small)) == 0x0000
        is_whole(node, [small], 2000)
        assert not list(node.spool.glob(f"*/{uid}*"))
    finally:
        ballast.unlink()


def test_a_read_only_disk_is_said_and_recovers(node: Node) -> None:
    """A disk that the kernel made read-only is 0xA700 on the association that is open, which goes on when it can be written again."""
    refused, kept = new_uid(), new_uid()
    with sender(node.port) as rude:
        mount("-o", "remount,bind,ro", str(node.spool))
        try:
            assert [rude.store(refused, data_set(refused, size)) for size in (2000, OBJECT)] == [0xA700, 0xA700]
            assert rude.echo() == 0x0000
        finally:
            mount("-o", "remount,bind,rw", str(node.spool))
        assert rude.store(kept, data_set(kept)) == 0x0000
    is_whole(node, [kept], 2000)


def test_a_write_that_fails_for_another_reason(node: Node) -> None:
    """A file that may not grow (EFBIG; setrlimit(2): RLIMIT_FSIZE) stands for every error of a write: 0xA700, and nothing torn."""
    refused, kept = new_uid(), new_uid()
    longest = max(path.stat().st_size for path in [*node.state.glob("*.sqlite*"), node.log_path]) + 1_000_000
    with sender(node.port) as rude:
        before = resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))
        try:
            assert rude.store(refused, data_set(refused, longest + 200_000)) == 0xA700
        finally:
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, before)
        assert rude.store(kept, data_set(kept)) == 0x0000
    is_whole(node, [kept], 2000)
    assert not list(node.spool.glob(f"*/{refused}*"))


def threads(node: Node) -> set[str]:
    return {path.name for path in Path(f"/proc/{node.pid}/task").iterdir()}


@contextmanager
def failing(tids: set[str], call: str, when: str) -> Iterator[None]:
    """The `when`-th `call` of each of these threads ends with EIO, undone."""
    with strace(*tids, options=["-o", "/dev/null", "-e", f"inject={call}:error=EIO:when={when}"]):
        yield


@pytest.mark.parametrize(
    ("call", "when"),
    [("write", "1"), ("fdatasync", "1"), ("rename", "1"), ("fsync", "1"), ("pwrite64", "1"), ("fdatasync", "2"), ("openat", "1")],
    ids=["its bytes", "their sync", "its name", "the folder's sync", "its row", "the ledger's sync", "its file"],
)
def test_a_disk_that_fails_is_said_and_nothing_stays(node: Node, call: str, when: str) -> None:
    """EIO from any call that an instance needs is 0xA700 and leaves nothing of it; the same association goes on, and keeps it when it comes
    again.
    """
    before, uid, other = threads(node), new_uid(), new_uid()
    with sender(node.port) as rude:
        with failing(threads(node) - before, call, when):
            assert rude.store(uid, data_set(uid, OBJECT)) == 0xA700
            assert not list(node.spool.glob(f"*/{uid}*"))
        assert [rude.store(each, data_set(each, OBJECT)) for each in (uid, other)] == [0x0000, 0x0000]
    is_whole(node, [uid, other], OBJECT)
