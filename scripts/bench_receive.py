"""`make bench-receive`: VitalCheck's receiver beside dcmtk's storescp, Orthanc and stock pynetdicom, in docs/benchmarks/receive.md.

    python -m scripts.bench_receive                                             all of it, some minutes
    python -m scripts.bench_receive --quick                                     a look: one round of few instances, nothing written
    python -m scripts.bench_receive --receivers product,storescp --kinds CT --associations 1,4

In each round every receiver starts anew, idle measures come first, then bursts: for each kind and number of associations all receivers
in turns, another one first each round, so that what else the machine does hits all of them. Medians over the rounds; ratios are made
within a round. Before each burst all have come to rest and the disk has written what was waiting, so nobody pays for what another
left to do. Files are removed at the end: a file system is slow to make new ones after many were removed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from scripts import bench_receive_page as page
from scripts import bench_tools
from scripts.bench_objects import KINDS, Kind
from scripts.bench_receive_page import (
    CORE,
    ECHO,
    IDLE,
    IDLE_ALONE,
    IDLE_MB,
    PEAK,
    PEAK_ALONE,
    PSS,
    PSS_ALONE,
    SET_UP,
    Cell,
    Results,
    Sample,
)
from scripts.bench_receivers import COMMANDS, NoReceiver, Running, cpu_seconds, pss_mb, started, tree
from scripts.bench_senders import Association, Burst, NotSent, burst, echo_ms, set_up_ms

DOCUMENTS = Path("docs/benchmarks")
LEVELS, ROUNDS = (1, 4, 16, 64), 3
ECHOES, SET_UPS, IDLE_SECONDS = 200, 20, 10.0
SAMPLE_SECONDS = 0.005  # between two looks at memory
SETTLE_SECONDS = 0.3  # for forked processes of the last burst to end
CALM_SECONDS, CALM_CPU, CALM_PATIENCE = 0.25, 0.02, 60.0  # until all receivers together use no more CPU than so in so long
LARGE = KINDS["multi-frame"]


def main(
    receivers: Annotated[str, typer.Option(help=f"which, with commas: {', '.join(COMMANDS)}")] = ",".join(COMMANDS),
    associations: Annotated[str, typer.Option(help="how many senders at once, with commas")] = ",".join(map(str, LEVELS)),
    kinds: Annotated[
        str, typer.Option(help=f"what is sent, with commas: {', '.join(KINDS)} (at most {LARGE.associations} send the last)")
    ] = ",".join(KINDS),
    rounds: Annotated[int, typer.Option(min=1, help="medians are of these")] = ROUNDS,
    quick: Annotated[bool, typer.Option("--quick", help="one round of few instances; writes nothing unless --out says where")] = False,
    where: Annotated[
        Path, typer.Option("--dir", help="a folder on the disk to be measured; what was received is removed afterwards")
    ] = Path("out"),
    out: Annotated[Path | None, typer.Option(help=f"where receive.md and receive.png go; {DOCUMENTS} unless --quick")] = None,
) -> None:
    """Receivers side by side: instances per second, CPU, memory, C-ECHO, association set-up. Prints the page with a table of goals.

    Ratios to storescp count; a busy machine makes everybody slow. dcmtk and orthanc come from Debian: apt-get install dcmtk orthanc.
    """
    try:
        bench = Bench(
            _chosen(receivers, COMMANDS, "--receivers"),
            [KINDS[name] for name in _chosen(kinds, KINDS, "--kinds")],
            _numbers(associations),
            1 if quick else rounds,
            quick,
        )
        results = bench.run(where)
    except NoReceiver as error:
        print(f"bench-receive: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    text = page.page(results, bench.rounds, page.file_system(where))
    print(text, end="")
    print(*page.failures(results), sep="\n", end="", file=sys.stderr)
    folder = out or (None if quick else DOCUMENTS)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "receive.md").write_text(text)
        page.plot(results, folder / "receive.png")


def _chosen(text: str, known: Collection[str], option: str) -> list[str]:
    """Names from `text`, in its order. Raises typer.BadParameter."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"there is no {name!r}; choose from {', '.join(known)}", param_hint=option)
    return names


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} are no numbers; for example 1,4,16", param_hint="--associations") from error
    if min(numbers) < 1:
        raise typer.BadParameter("one sender at least", param_hint="--associations")
    return numbers


class Bench:
    """One run: what is measured, and what was found so far."""

    def __init__(self, receivers: list[str], kinds: list[Kind], levels: list[int], rounds: int, quick: bool) -> None:
        self.receivers, self.kinds, self.rounds, self.quick = receivers, kinds, rounds, quick
        self.cells = [(kind, level) for kind in kinds for level in levels if level <= kind.associations]
        self.results = Results(tuple(receivers))
        self._files = Path()  # of tools that send

    def run(self, where: Path) -> Results:
        """All rounds, under a temporary folder in `where`. Raises NoReceiver."""
        where.mkdir(parents=True, exist_ok=True)
        self._check_space(where)
        steps = self.rounds * len(self.receivers) * (len(self.cells) + 3)
        with (
            tempfile.TemporaryDirectory(dir=where, prefix="bench-receive-") as folder,
            tqdm(total=steps, unit="step", mininterval=2) as bar,
        ):
            self._files = Path(folder).absolute() / "files"
            for number in range(self.rounds):
                first = number % len(self.receivers)
                self._round(Path(folder).absolute() / str(number), self.receivers[first:] + self.receivers[:first], bar)
        return self.results

    def _check_space(self, where: Path) -> None:
        """Of all rounds: nothing is removed before the end, for the kernel's work after it would be counted."""
        bytes_each = sum(
            level * kind.each(level, quick=self.quick) * kind.rows * kind.columns * 2 * kind.frames for kind, level in self.cells
        )
        needed, free = 1.2 * self.rounds * len(self.receivers) * bytes_each, shutil.disk_usage(where).free
        if free < needed:
            raise NoReceiver(f"{where}: {free / 1e9:.1f} GB free, all rounds need {needed / 1e9:.1f}; name another folder with --dir")

    def _round(self, folder: Path, order: list[str], bar: tqdm) -> None:
        with ExitStack() as stack:
            running = [stack.enter_context(started(name, folder / name)) for name in order]
            for measure in (self._alone, self._large):
                for receiver in running:
                    bar.set_description(f"{receiver.name}, idle")
                    measure(receiver)
                    bar.update()
            self._idle(running)
            bar.update(len(running))
            for kind, level in self.cells:
                for receiver in running:
                    bar.set_description(f"{receiver.name}, {kind.name} x {level}")
                    self._calm(running)
                    self._burst(receiver, kind, level)
                    bar.update()

    def _alone(self, receiver: Running) -> None:
        """C-ECHO, association set-up and memory of a receiver that has stored a little and does nothing now."""
        burst(receiver.port, KINDS["CT"], 1, 4)
        note = self.results.note
        with suppress(NotSent, OSError):
            note(receiver.name, ECHO, echo_ms(receiver.port, ECHOES))
            note(receiver.name, SET_UP, set_up_ms(receiver.port, SET_UPS))
        time.sleep(SETTLE_SECONDS)
        note(receiver.name, PSS, pss_mb(tree(receiver.pid)))
        note(receiver.name, PSS_ALONE, pss_mb([receiver.pid]))

    def _large(self, receiver: Running) -> None:
        """How much memory one large instance takes while it streams in; the first of its size in this process, for heaps do not shrink."""
        if LARGE not in self.kinds:
            return
        with Peak(lambda: pss_mb(tree(receiver.pid))) as whole, Peak(lambda: pss_mb([receiver.pid])) as alone:
            found = burst(receiver.port, LARGE, 1, 1)
        if not found.failures:
            self.results.note(receiver.name, PEAK, whole.growth)
            self.results.note(receiver.name, PEAK_ALONE, alone.growth)

    def _idle(self, running: Sequence[Running]) -> None:
        """What IDLE associations that say nothing add; of all receivers at once, for CPU time is counted for each."""
        before = {receiver: (pss_mb(tree(receiver.pid)), pss_mb([receiver.pid])) for receiver in running}
        alone = self._core(running)
        held = {receiver: _open(receiver, IDLE) for receiver in running}
        time.sleep(1.0)
        together = self._core(running)
        for receiver, associations in held.items():
            if len(associations) < IDLE:
                continue
            self.results.note(receiver.name, CORE, together[receiver] - alone[receiver])
            self.results.note(receiver.name, IDLE_MB, pss_mb(tree(receiver.pid)) - before[receiver][0])
            self.results.note(receiver.name, IDLE_ALONE, pss_mb([receiver.pid]) - before[receiver][1])
        for assoc in (assoc for associations in held.values() for assoc in associations):
            with suppress(NotSent, OSError):
                assoc.release()

    def _core(self, running: Sequence[Running]) -> dict[Running, float]:
        """% of a core that each uses while nobody says anything."""
        before, began = {receiver: cpu_seconds(receiver.pid) for receiver in running}, time.monotonic()
        time.sleep(2.0 if self.quick else IDLE_SECONDS)
        took = time.monotonic() - began
        return {receiver: 100 * (cpu_seconds(receiver.pid) - before[receiver]) / took for receiver in running}

    def _calm(self, running: Sequence[Running]) -> None:
        """Returns when no receiver works at what it has acknowledged already, and the disk has written it."""
        until, used = time.monotonic() + CALM_PATIENCE, float("inf")
        while time.monotonic() < until:
            before, used = used, sum(cpu_seconds(receiver.pid) for receiver in running)
            if used - before <= CALM_CPU:
                break
            time.sleep(CALM_SECONDS)
        os.sync()

    def _sent(self, port: int, kind: Kind, level: int, each: int) -> Burst:
        return bench_tools.burst(port, kind, level, each, self._files) if kind.tool else burst(port, kind, level, each)

    def _burst(self, receiver: Running, kind: Kind, level: int) -> None:
        before, each = cpu_seconds(receiver.pid), kind.each(level, quick=self.quick)
        found = self._sent(receiver.port, kind, level, each)
        time.sleep(SETTLE_SECONDS)
        sample = Sample(found, cpu_seconds(receiver.pid) - before)
        self.results.bursts.setdefault(Cell(receiver.name, kind.name, level), []).append(sample)


def _open(receiver: Running, count: int) -> list[Association]:
    """As many associations as it accepts, at most `count`."""
    found: list[Association] = []
    with suppress(NotSent, OSError):
        while len(found) < count:
            found += [Association(receiver.port)]
    return found


class Peak:
    """The largest value of `look` while the block runs, looked at by a thread; `growth` is above that at its start."""

    def __init__(self, look: Callable[[], float]) -> None:
        self._look, self._stop = look, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def growth(self) -> float:
        return self._most - self._first

    def __enter__(self) -> Peak:
        self._first = self._most = self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._most = max(self._most, self._look())


if __name__ == "__main__":
    typer.run(main)
