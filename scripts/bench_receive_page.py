"""What `make bench-receive` found: goals, tables and a plot. Decides and writes; measures nothing."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scripts.bench_senders import Burst

ECHO, SET_UP, PSS, PSS_ALONE = "C-ECHO p50, ms", "association set-up, ms", "PSS, MB", "PSS of the receiving process, MB"
IDLE = 64  # associations
IDLE_MB, IDLE_ALONE, CORE = f"{IDLE} idle: MB more", f"{IDLE} idle: MB more, receiving process", f"{IDLE} idle: % of a core"
PEAK, PEAK_ALONE = "64 MB multi-frame: MB more", "64 MB multi-frame: MB more, receiving process"
MEASURES = (ECHO, SET_UP, PSS, PSS_ALONE, IDLE_MB, IDLE_ALONE, CORE, PEAK, PEAK_ALONE)
PRODUCT, STORESCP, ORTHANC, SINK = "product", "storescp", "orthanc", "sink"
JUDGED, BARE = "CT by storescu", "CT"  # the goals were set with dcmtk at both ends
LEAST = {1: 0.3, 4: 0.65, 16: 0.75, 64: 2.0}  # x storescp by associations, CT
OF_ORTHANC = 1.5
MOST = {ECHO: 1.0, IDLE_MB: 20.0, CORE: 5.0, PEAK: 16.0}


class Cell(NamedTuple):
    """One field of the table of bursts."""

    receiver: str
    kind: str
    associations: int


@dataclass(frozen=True)
class Sample:
    """One burst, and the CPU seconds that the receiver's processes took for it."""

    burst: Burst
    cpu_seconds: float

    @property
    def ms_per_mb(self) -> float:
        """CPU milliseconds for 10^6 bytes."""
        return 1e9 * self.cpu_seconds / self.burst.bytes if self.burst.bytes else math.nan


@dataclass
class Results:
    """All that a run found, in the order of its rounds."""

    receivers: tuple[str, ...]
    bursts: dict[Cell, list[Sample]] = field(default_factory=dict)
    measures: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def note(self, receiver: str, measure: str, value: float) -> None:
        self.measures.setdefault((receiver, measure), []).append(value)

    def measure(self, receiver: str, name: str) -> float:
        """Median over the rounds, of peaks the highest; nan where nothing was measured."""
        values = self.measures.get((receiver, name), [])
        if not values:
            return math.nan
        return max(values) if name in (PEAK, PEAK_ALONE) else statistics.median(values)

    def rate(self, cell: Cell) -> float:
        """Median of instances per second; nan where a round did not get everything acknowledged."""
        return _median(sample.burst.rate for sample in self.bursts.get(cell, []))

    def cpu(self, cell: Cell) -> float:
        return _median(sample.ms_per_mb for sample in self.bursts.get(cell, []))

    def ratio(self, kind: str, associations: int, rival: str, of: str = PRODUCT) -> float:
        """Median over the rounds of how many times the rival's instances per second those of `of` are."""
        ours, theirs = (self.bursts.get(Cell(name, kind, associations), []) for name in (of, rival))
        return _median(mine.burst.rate / other.burst.rate for mine, other in zip(ours, theirs, strict=False))

    def levels(self, kind: str) -> list[int]:
        return sorted({cell.associations for cell in self.bursts if cell.kind == kind})

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(cell.kind for cell in self.bursts))


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return math.nan if not found or any(map(math.isnan, found)) else statistics.median(found)


# --- goals ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """What is asked for and what was found; nan: not measured."""

    what: str
    wanted: str
    found: float
    reached: bool
    bare: float = math.nan  # the same with senders of our own
    most: float = math.nan  # what a receiver that keeps nothing reached of it, with the senders that judge

    @property
    def verdict(self) -> str:
        return "not measured" if math.isnan(self.found) else "met" if self.reached else "**missed**"


def goals(results: Results) -> list[Goal]:
    """Every goal of receiving, judged."""
    found = [_beside(results, STORESCP, "storescp", n, least) for n, least in LEAST.items()]
    found += [_beside(results, ORTHANC, "Orthanc", n, OF_ORTHANC) for n in LEAST]
    return found + [_below(name, most, results.measure(PRODUCT, name)) for name, most in MOST.items()]


def _beside(results: Results, rival: str, name: str, associations: int, least: float) -> Goal:
    found, bare = (results.ratio(kind, associations, rival) for kind in (JUDGED, BARE))
    what = f"CT, {associations} association{'s' * (associations > 1)}: x {name}"
    return Goal(what, f"at least {least:g}", found, found >= least, bare, results.ratio(JUDGED, associations, rival, SINK))


def _below(what: str, most: float, found: float) -> Goal:
    return Goal(what, f"below {most:g}", found, found < most)


# --- the page ---------------------------------------------------------------------------------------------------------


def page(results: Results, rounds: int, disk: str) -> str:
    """The whole document."""
    bursts = "\n\n".join(_bursts_of(results, kind) for kind in results.kinds)
    machine = f"{platform.machine()} with {os.cpu_count()} cores, {disk}"
    return f"""# Receiving, beside others

Written by `make bench-receive`: {rounds} round{"s" * (rounds > 1)} in turns, medians, on {machine}.
Other machines have other speeds; only ratios of one run mean something, and they are made within a round, by receivers that took turns.

![Instances per second](receive.png)

## Goals

{_table(["goal", "wanted", "found", "verdict", "by bare sockets", "sink"], [_line(goal) for goal in goals(results)])}

Goals are judged with dcmtk at both ends: `storescu` sends, and `storescp` as it starts by itself receives, one association after another.
Its processes cost more than a receiver does: `sink` is what one that only reads reached of the same goal, and no receiver can be above it.
With senders of our own, bare sockets that cost next to nothing ("CT", "MR"), a receiver that does next to nothing looks its best. Its
fastest options (`forking`) stand below, too.

## Who receives, and what an acknowledgement is worth

| receiver | started as | answers 0x0000 |
|---|---|---|
| product | `vitalcheck serve`, defaults, one worker | when the file is synced and renamed, its folder synced, its row committed |
| storescp | dcmtk `storescp PORT` | when the kernel has the bytes |
| forking | dcmtk `storescp --fork --bit-preserving --max-pdu 131072 PORT` | as storescp |
| orthanc | its defaults, PDUs of 131072 bytes | after one fdatasync of the file; neither folder nor index are synced |
| stock | pynetdicom's public API with default settings, `encoded_dataset()` to a file | as storescp |
| sink | reads, answers, keeps nothing | never: it shows how fast the senders are |

So a power cut takes nothing that the product acknowledged, and from the others what the kernel had not written, up to half a minute of it.

storescp and Orthanc run with `TCP_NODELAY=1`; without it each instance waits some 44 ms for the sender's delayed acknowledgement. The
product's `completion.quiet_seconds` is a day here, so that nothing is analysed while it is measured; its worker idles, and its memory
counts. A burst begins when no receiver works at anything, and nothing is removed before the end. All keep their files in one file system;
only the product writes past the page cache, which makes the others faster or slower, as the machine has pages at hand or not.
"refuses": associations were rejected; "fails": not everything was answered 0x0000.

"By storescu": one process of dcmtk's storescu for each association, files read from disk, its start included. The other senders are bare
sockets in one process, the same for all: requests are encoded before the clock starts, each instance gets UIDs of its own, each
association is one study, one request is open at a time. A burst: all senders connect at once, send, and release; its time goes from the
first connection to the last acknowledgement, so at 64 associations it includes how long a receiver takes to let them in. CT: 512 x 512 x
16 bits, MR: 256 x 256, multi-frame: 512 frames of 256 x 256. Noise.

## Bursts

{bursts}

## Standing

{_table(["", *results.receivers], [[name, *(_held(results, receiver, name) for receiver in results.receivers)] for name in MEASURES])}

PSS counts shared memory in parts; "more" is against the same process before. C-ECHO and set-up: one association at a time, receiver idle.
Peaks are the highest of all rounds, looked at every few milliseconds, by the first large instance a process sees.
"""


def _line(goal: Goal) -> list[str]:
    return [goal.what, goal.wanted, _number(goal.found), goal.verdict, _number(goal.bare), _number(goal.most)]


def _bursts_of(results: Results, kind: str) -> str:
    """Tables of instances per second, ratios and CPU of one kind."""
    levels = results.levels(kind)
    head = [f"{kind}, associations", *map(str, levels)]
    rows = [[f"{name}, instances/s", *(_rate(results, Cell(name, kind, n)) for n in levels)] for name in results.receivers]
    rivals = [name for name in results.receivers if name != PRODUCT] if PRODUCT in results.receivers else []
    rows += [[f"product / {name}", *(_number(results.ratio(kind, n, name)) for n in levels)] for name in rivals]
    rows += [[f"{name}, CPU ms per MB", *(_number(results.cpu(Cell(name, kind, n))) for n in levels)] for name in results.receivers]
    return _table(head, rows)


def _rate(results: Results, cell: Cell) -> str:
    rate = results.rate(cell)
    if not math.isnan(rate):
        return f"{rate:.3g}"
    samples = results.bursts.get(cell, [])
    return "refuses" if any(sample.burst.rejected for sample in samples) else "fails" if samples else "-"


def _held(results: Results, receiver: str, name: str) -> str:
    value = results.measure(receiver, name)
    return "refuses" if math.isnan(value) and name in (IDLE_MB, IDLE_ALONE, CORE) else _number(value)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def failures(results: Results) -> list[str]:
    """One line for each receiver, kind and number of associations that did not answer everything with 0x0000."""
    told = ((cell, sample.burst.failures) for cell, samples in results.bursts.items() for sample in samples if sample.burst.failures)
    return [f"{cell.receiver}, {cell.kind} x {cell.associations}: {len(what)} failures, the first: {what[0]}" for cell, what in told]


def file_system(folder: Path) -> str:
    """The kind of file system that `folder` lies in, by the longest mount point above it (proc_pid_mounts(5))."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(len(point), kind) for _, point, kind, *_ in lines if folder.absolute().is_relative_to(point.replace("\\040", " "))]
    return max(above, default=(0, "unknown file system"))[1]


# --- the plot ---------------------------------------------------------------------------------------------------------


def plot(results: Results, path: Path) -> None:
    """Instances per second by associations, a panel for each kind; without matplotlib there is none, and that is said."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print(f"bench-receive: no {path.name}, for matplotlib is not installed: pip install matplotlib", file=sys.stderr)
        return
    plt.switch_backend("agg")
    figure, panels = plt.subplots(1, len(results.kinds), figsize=(4.2 * len(results.kinds), 3.6), squeeze=False, layout="constrained")
    for panel, kind in zip(panels[0], results.kinds, strict=True):
        _lines(results, kind, panel.plot)
        panel.set(title=kind, xlabel="associations", ylabel="instances per second", xscale="log", yscale="log")
        panel.set_xticks(results.levels(kind), [str(n) for n in results.levels(kind)])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(results.receivers), fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(results: Results, kind: str, draw: Callable[..., object]) -> None:
    for name in results.receivers:
        rates = [results.rate(Cell(name, kind, n)) for n in results.levels(kind)]
        draw(results.levels(kind), rates, marker="o", label=name, linewidth=2.5 if name == PRODUCT else 1.2)
