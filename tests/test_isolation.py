"""Decoding in a process with limits: whatever a series does to it, the next one is decoded."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from objects import SECRET, dataset, instance, write
from peers import is_alive, wait_for
from stand_in_decoder import DEEDS

from listener import cli, headers
from listener.isolation import Isolated, NoDecoder
from pipeline.decode import Undecodable, decode
from pipeline.records import Series, Slices

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_decoder.py")))
UIDS = {deed: uid for uid, deed in DEEDS.items()}
MEMORY = 512 << 20


@pytest.fixture
def isolated() -> Iterator[Isolated]:
    """A decoder that can be told to misbehave."""
    with stand_in() as decoder:
        yield decoder


def stand_in(seconds: float = 30.0) -> Isolated:
    decoder = Isolated(MEMORY, seconds)
    decoder.command = STAND_IN
    return decoder


@pytest.fixture
def series(tmp_path: Path) -> Callable[[str], Series]:
    """Three slices, in a series that names a deed."""

    def make(deed: str = "") -> Series:
        uid = UIDS.get(deed, "1.2.3.1")
        made = [instance(tmp_path / (deed or "plain"), number=k + 1, SeriesInstanceUID=uid) for k in range(3)]
        return headers.group(made)[0].series[0]

    return make


def same(one: Slices, other: Slices) -> bool:
    told = [field.name for field in fields(Slices) if field.name != "pixels"]
    return all(getattr(one, name) == getattr(other, name) for name in told) and np.array_equal(one.pixels, other.pixels)


def test_the_same_slices_as_in_process(series: Callable[[], Series]) -> None:
    """Behind the process boundary a series gives the very slices that it gives without: values, places, types."""
    with Isolated(MEMORY, 30.0) as isolated:
        far, near = isolated(series()), decode(series())
    assert same(far, near)
    assert far.pixels.dtype == near.pixels.dtype
    assert [type(source) for source in far.sources] == [type(source) for source in near.sources]
    far.pixels[0, 0, 0] = 7  # the array outlives the process, and is ours to write to


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("allocate", "ran out of its 536870912 bytes of memory; if it is not damaged, raise worker.decode_memory_bytes"),
        ("kill", r"was ended by the operating system \(signal 9\)"),
        ("crash", r"crashed the decoder \(signal 11, SIGSEGV\).*send it again"),
    ],
)
def test_a_decoder_that_dies_is_replaced(isolated: Isolated, series: Callable[..., Series], deed: str, why: str) -> None:
    """Out of memory, killed, crashed: the series ends with a sentence that says how to mend it, the next is decoded by a new process."""
    assert same(isolated(series()), decode(series()))
    first = isolated.pid
    with pytest.raises(Undecodable, match=f"^instance 1.2.3.1.1: decoding its series {why}"):
        isolated(series(deed))
    assert same(isolated(series()), decode(series()))
    assert isolated.pid != first
    assert not is_alive(first or 0)


def test_a_decoder_that_hangs_is_replaced(series: Callable[..., Series]) -> None:
    """A series gets the time that is configured, and no more; the next one is decoded."""
    with stand_in(seconds=1.0) as isolated:
        isolated(series())
        began = time.monotonic()
        with pytest.raises(Undecodable, match=r"took longer than 1 s; if it is not damaged, raise worker.decode_seconds"):
            isolated(series("sleep"))
        assert time.monotonic() - began < 5
        assert same(isolated(series()), decode(series()))


def test_an_objection_comes_through_in_its_words(isolated: Isolated, series: Callable[..., Series]) -> None:
    """What decode says of an instance is what the worker hears, by the same process; of another's error only type and place."""
    isolated(series())
    first = isolated.pid
    with pytest.raises(Undecodable, match=r"^instance 1.2.3.9: its pixel data are damaged; send it again$") as objection:
        isolated(series("object"))
    assert objection.value.sop_instance_uid == "1.2.3.9"
    with pytest.raises(Undecodable, match=r"\(ValueError at stand_in_decoder.py:\d+\)$"):
        isolated(series("err"))
    assert isolated.pid == first


def test_one_that_was_killed_while_idle_is_not_missed(isolated: Isolated, series: Callable[..., Series]) -> None:
    """A process that ended between two series costs neither of them."""
    isolated(series())
    os.kill(isolated.pid or 0, signal.SIGKILL)
    wait_for(lambda: not is_alive(isolated.pid or 0), what="its death")
    assert same(isolated(series()), decode(series()))


def test_several_threads_may_ask(isolated: Isolated, series: Callable[..., Series]) -> None:
    """Each gets its own answer, also beside a series that kills the process."""
    plain, deadly = series(), series("kill")

    def ask(k: int) -> Slices | Undecodable:
        try:
            return isolated(deadly if k % 4 == 0 else plain)
        except Undecodable as error:
            return error

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(12)))
    assert [isinstance(answer, Undecodable) for answer in answers] == [k % 4 == 0 for k in range(12)]
    assert all(same(answer, decode(plain)) for answer in answers if isinstance(answer, Slices))


def test_nothing_is_left(series: Callable[..., Series]) -> None:
    """A closed decoder leaves no process, not even one that is busy."""
    with stand_in() as isolated, ThreadPoolExecutor(1) as thread:
        isolated(series())
        pid = isolated.pid or 0
        busy = thread.submit(isolated, series("sleep"))
        time.sleep(0.3)
        began = time.monotonic()
        isolated.close()
        assert time.monotonic() - began < 10
        with pytest.raises(Undecodable):
            busy.result(5)
    assert not is_alive(pid)


def test_it_dies_with_its_parent(series: Callable[..., Series]) -> None:
    """A worker that is killed while its decoder is busy leaves none behind."""
    paths = [str(i.path) for i in series("sleep").instances]
    code = f"""
import sys
from pathlib import Path
from listener import headers
from listener.isolation import Isolated
Isolated.command = {STAND_IN!r}
isolated = Isolated({MEMORY}, 60)
isolated.start()
while not isolated.pid: pass
print(isolated.pid, flush=True)
isolated(headers.studies([Path(p) for p in sys.argv[1:]])[0].series[0])
"""
    with subprocess.Popen([sys.executable, "-c", code, *paths], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        time.sleep(1.0)  # it is asleep over the series, or on its way there
        assert is_alive(pid)
        parent.kill()
    wait_for(lambda: not is_alive(pid), 5, "the death of the decoder")


def test_memory_does_not_grow(isolated: Isolated, tmp_path: Path) -> None:
    """Slices that nobody holds any more are given back: 40 of 16 MiB do not add up, nor do their open files."""
    made = [instance(tmp_path, number=k + 1, **_large(k)) for k in range(4)]
    large = headers.group(made)[0].series[0]
    for _ in range(3):
        isolated(large)
    before, files = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(40):
        assert isolated(large).pixels.sum() > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def _large(k: int) -> dict[str, Any]:
    return {"Rows": 1024, "Columns": 1024, "PixelData": np.full((1024, 1024), k + 1, np.uint16).tobytes()}


def test_the_child_is_given_no_secret(monkeypatch: pytest.MonkeyPatch, isolated: Isolated, series: Callable[..., Series]) -> None:
    """The process that meets hostile bytes knows no token of our configuration, and leaves no core file."""
    monkeypatch.setenv("VITALCHECK_HTTP__TOKEN", "swordfish")
    isolated(series())
    assert b"swordfish" not in Path(f"/proc/{isolated.pid}/environ").read_bytes()
    assert resource.prlimit(isolated.pid or 0, resource.RLIMIT_CORE) == (0, 0)


def test_one_that_does_not_start_says_so(series: Callable[..., Series]) -> None:
    """Where there is no decoder the study is told so, and its instances are not blamed."""
    isolated = Isolated(MEMORY, 30.0)
    isolated.command = (sys.executable, "-c", "raise SystemExit(3)")
    with isolated, pytest.raises(NoDecoder, match=r"does not start \(exit status 3\)"):
        isolated(series())


def test_analyze_goes_on_after_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A study whose pixels take all memory, and one that crashes the decoder, are quarantined with the reason; the next is analysed."""
    monkeypatch.setattr(Isolated, "command", STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITALCHECK_WORKER__DECODE_MEMORY_BYTES", str(MEMORY))
    t1 = {"SeriesDescription": "t1_se_ax", "BodyPartExamined": "HEAD", "PixelData": np.arange(256, dtype=np.uint16).tobytes()}
    write(tmp_path / "in", dataset("1.2.1", SeriesInstanceUID=UIDS["allocate"], **t1))
    write(tmp_path / "in", dataset("1.2.2", SeriesInstanceUID=UIDS["crash"], **t1))
    write(tmp_path / "in", dataset("1.2.3", **t1))
    with pytest.raises(SystemExit) as ended:
        cli.main(["analyze", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"])
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert not ended.value.code
    assert [answer["state"] for answer in answers] == ["quarantined", "quarantined", "analysed"]
    assert "ran out of its 536870912 bytes of memory" in answers[0]["reason"]
    assert "signal 11" in answers[1]["reason"]
    assert SECRET not in printed.out + printed.err
