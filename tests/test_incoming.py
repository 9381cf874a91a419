"""listener/incoming.py: one instance on its way to the disk."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import subprocess
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import need

from listener import incoming as incomings
from listener.errors import OutOfResources
from listener.incoming import BLOCK, LOOK, LOOK_SECONDS, STAGE, Command, Incoming, Room, past_the_cache

COMMAND = Command("1.2.840.10008.5.1.4.1.1.4", "1.2.3", "CT01", "VITALCHECK", "1.2.840.10008.1.2.1")
EDGES = [at + near for at in (BLOCK, STAGE, 2 * STAGE) for near in (-1, 0, 1)]


@pytest.fixture(params=["past the cache", "through it"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    found = past_the_cache(tmp_path) if request.param == "past the cache" else 0
    if request.param == "past the cache" and not found:
        pytest.skip("the file system of the tests knows no O_DIRECT")
    return found


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return (data[start:end] for start, end in pairwise(places))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.one_of(st.sampled_from(EDGES), st.integers(1, 3 * STAGE)),
    cuts=st.lists(st.integers(0, 3 * STAGE), max_size=9),
    to_the_edge=st.booleans(),
)
def test_what_was_written_lies_there(tmp_path: Path, way: int, size: int, cuts: list[int], to_the_edge: bool) -> None:
    """However it is cut, and wherever it ends beside a block or a stage: head and data set, byte for byte, and the hash of the data set."""
    incoming = Incoming(tmp_path, COMMAND, Room(1 << 30, 0), way)
    data = os.urandom(max(1, size - incoming.start) if to_the_edge else size)
    for piece in pieces(data, cuts):
        incoming.write(piece)
    incoming.seal()
    written = incoming.path.read_bytes()
    assert written[128:132] == b"DICM"
    assert written[incoming.start :] == data
    assert (incoming.size, incoming.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert data.startswith(incoming.head)
    incoming.drop()


def test_a_file_system_without_that_way_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where O_DIRECT is refused, as open(2) says, files go through the page cache, and nothing of the trial is left."""
    real = os.open

    def refusing(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    assert past_the_cache(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_comes_in_pushes_nothing_out_of_memory(tmp_path: Path) -> None:
    """Of an instance that was kept, the page cache holds no more than its last block, and what lies around it on disk."""
    way = past_the_cache(tmp_path)
    if not way:
        pytest.skip("the file system of the tests knows no O_DIRECT")
    incoming = Incoming(tmp_path, COMMAND, Room(1 << 30, 0), way)
    incoming.write(bytes(4 * STAGE + 100))
    incoming.seal()
    said = subprocess.run([need("fincore"), "-nbo", "RES", str(incoming.path)], capture_output=True, text=True, check=True)
    assert int(said.stdout) <= 4 * BLOCK
    incoming.drop()


def test_every_stage_is_given_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However an instance ends, and however often it is ended: no two write into the same memory, and a full disk costs none."""
    waiting = deque[mmap.mmap]()
    monkeypatch.setattr(incomings, "_SPARE", waiting)
    sealed, dropped, refused = (Incoming(tmp_path, COMMAND, Room(3 * STAGE, 0)) for _ in range(3))
    sealed.write(b"x")
    sealed.seal()
    with pytest.raises(OutOfResources):
        refused.write(bytes(5 * STAGE))
    for each in (sealed, dropped, refused) * 2:
        each.drop()
    with pytest.raises(OutOfResources):
        Incoming(tmp_path, COMMAND, Room(1, 1 << 62))
    assert len(waiting) == len({id(stage) for stage in waiting}) == 3


def test_what_has_ended_takes_no_more(tmp_path: Path) -> None:
    """Its memory belongs to the next instance."""
    ended = Incoming(tmp_path, COMMAND, Room(1 << 30, 0))
    ended.drop()
    with pytest.raises(ValueError, match="released"):
        ended.write(b"late")


@pytest.mark.parametrize("after", ["many bytes", "a while"])
def test_free_space_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    """Not for each instance, which takes a call of the system, but often enough."""
    now, looks, room = [100.0], [0], Room(1, 1)
    monkeypatch.setattr(incomings.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(room, "is_full", lambda _folder: looks.append(0))
    room.check(tmp_path)
    room.check(tmp_path, 5)
    assert len(looks) == 2
    now[0] += LOOK_SECONDS if after == "a while" else 0
    room.check(tmp_path, LOOK if after == "many bytes" else 0)
    assert len(looks) == 3


def test_a_full_disk_is_asked_each_time(tmp_path: Path) -> None:
    """So that it is seen at once when there is space again."""
    room = Room(1, 1 << 62)
    for _ in range(3):
        with pytest.raises(OutOfResources):
            room.check(tmp_path)
