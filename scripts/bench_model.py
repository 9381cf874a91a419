"""How large and how fast the bundled network is, against what one would otherwise take: `make bench-model`.

    python -m scripts.bench_model                                   sizes and times, docs/measured/speed.csv
    python -m scripts.bench_model --train-resnet --data DIR         ResNet18 learns the same slices, docs/measured/resnet.csv

Medians of interleaved rounds in one process, so that a busy moment hits everyone alike; between two jobs a pause, in which the threads of
the last one come to rest. OpenVINO reads the same files, once for each batch size, which is what it likes best; float32 stays float32
there, for on some CPUs it would take bfloat16 unasked. Weights do not change times: ResNet18 and the eager networks have random ones.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from models.manifest import read as read_manifest
from models.runtime import Session
from models.training.export import write as write_onnx
from models.training.network import CHANNELS, Network
from models.training.resnet import COLOURS, ResNet18, answers, train_resnet
from scripts import pitfalls
from scripts.datasets import DataError
from scripts.learnt import FEED, read, samples

ZOO = Path("models/zoo/brain_tumor_4class")
ROUNDS = 25  # after one to warm up
PAUSE = 0.02  # s: ONNX Runtime's threads spin for some milliseconds after their work
SIZES, STEPS = (160, 160, 160, 224), 100  # of ResNet18's training: a short run
OURS, ORDINARY = "Lite0", "ResNet18"
Floats = NDArray[np.float32]

app = typer.Typer(add_completion=False)


class Runner(NamedTuple):
    """One network in one runtime."""

    network: str
    runtime: str
    precision: str
    bytes: int  # of the file; of the weights where there is none
    channels: int
    run: Callable[[Floats], object]


class Goal(NamedTuple):
    """What is asked of int8 in ONNX Runtime, at batch 24, against one rival."""

    network: str
    runtime: str
    smaller: float  # 0: nothing was asked for
    faster: dict[int, float]  # by threads


GOALS = (
    Goal(OURS, "ONNX Runtime", 3.5, {1: 2.2, 2: 1.8}),
    Goal(ORDINARY, "ONNX Runtime", 13.0, {1: 7.0, 2: 4.5}),
    Goal(ORDINARY, "PyTorch", 0.0, {1: 10.0, 2: 7.0}),
)


@app.command()
def main(
    folder: Annotated[Path, typer.Option(help="of the model: model_fp32.onnx, model_int8.onnx")] = ZOO,
    out: Annotated[Path, typer.Option(help="where the table goes")] = Path("docs/measured"),
    work: Annotated[Path, typer.Option(help="where ResNet18 goes")] = Path("runs"),
    rounds: Annotated[int, typer.Option(min=1, help="of each timing")] = ROUNDS,
    data: Annotated[Path | None, typer.Option(help="folder with slices.csv and volumes.csv, for --train-resnet")] = None,
    head: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that ResNet18 learns, too")] = [],  # noqa: B006
    healthy: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that ResNet18 is judged by")] = [],  # noqa: B006
    learn: Annotated[bool, typer.Option("--train-resnet", help="train ResNet18 on DATA instead, once")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="of --train-resnet: go on without files that cannot be read; they are listed")
    ] = False,
) -> None:
    """Time the bundled network and its rivals on this CPU."""
    if learn:
        if data is None:
            raise typer.BadParameter("--train-resnet learns from --data DIR; name the folder")
        torch.set_num_threads(2)
        try:
            pitfalls.told(out / "resnet.csv", list(resnet(data, work, head, healthy, skip_bad=skip_bad)))
        except DataError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(2) from error
        return
    work.mkdir(parents=True, exist_ok=True)
    rows = [row for threads in (1, 2) for batch in (1, 24) for row in speeds(runners(folder, work, threads, batch), threads, batch, rounds)]
    pitfalls.told(out / "speed.csv", rows)
    print("\n".join(ratios(rows)))


def runners(folder: Path, work: Path, threads: int, batch: int) -> list[Runner]:
    """Everyone, ready to run batches of that size. Sets the threads of PyTorch."""
    torch.set_num_threads(threads)
    lite, ordinary, file = Network().eval(), ResNet18().eval(), work / "resnet18_random.onnx"
    if not file.exists():
        write_onnx(ordinary, file, outputs=("logits",), channels=COLOURS)
    channels = read_manifest(folder / "manifest.toml").recipe.channels
    ours = [(OURS, precision, folder / f"model_{precision}.onnx") for precision in ("int8", "fp32")]
    files = [*((*our, channels) for our in ours), (ORDINARY, "fp32", file, COLOURS)]
    found = [Runner(name, "ONNX Runtime", p, path.stat().st_size, c, Session(path, threads).run) for name, p, path, c in files]
    eager = ((OURS, lite, CHANNELS), (ORDINARY, ordinary, COLOURS))
    found += [Runner(name, "PyTorch", "fp32", _weights(net), c, partial(_eager, net)) for name, net, c in eager]
    sizes = (batch, channels)
    return [
        *found,
        *(Runner(name, "OpenVINO", p, path.stat().st_size, channels, _openvino(path, threads, sizes)) for name, p, path in ours),
    ]


def _weights(network: torch.nn.Module) -> int:
    return sum(value.nbytes for value in network.state_dict().values())


def _eager(network: torch.nn.Module, tensor: Floats) -> object:
    with torch.no_grad():
        return network(torch.from_numpy(tensor))


def _openvino(path: Path, threads: int, shape: tuple[int, int]) -> Callable[[Floats], object]:
    import openvino  # the bench extra; training ResNet18 does without

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([*shape, 224, 224])
    wanted = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled: Callable[[Floats], object] = core.compile_model(model, "CPU", wanted)
    return compiled


def speeds(everyone: list[Runner], threads: int, batch: int, rounds: int) -> Iterator[pitfalls.Row]:
    """Rows of speed.csv: one for each runner, ms for one batch."""
    tensor = np.random.default_rng(0).random((batch, COLOURS, 224, 224), np.float32)
    tensors = {channels: np.ascontiguousarray(tensor[:, :channels]) for channels in {runner.channels for runner in everyone}}
    taken: list[list[float]] = [[] for _ in everyone]
    for _ in range(rounds + 1):
        for runner, seconds in zip(everyone, taken, strict=True):
            seconds.append(_timed(runner, tensors[runner.channels]))
    for runner, seconds in zip(everyone, taken, strict=True):
        setting = {"threads": threads, "batch": batch, "ms": f"{statistics.median(seconds[1:]) * 1000:.1f}", "bytes": runner.bytes}
        yield {"network": runner.network, "runtime": runner.runtime, "precision": runner.precision, **setting, "cpu": cpu()}


def cpu() -> str:
    """What the kernel calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _timed(runner: Runner, tensor: Floats) -> float:
    time.sleep(PAUSE)
    started = time.perf_counter()
    runner.run(tensor)
    return time.perf_counter() - started


def ratios(rows: list[pitfalls.Row]) -> Iterator[str]:
    """How many times as long and as large everyone else is as int8 in ONNX Runtime, and what is asked for."""
    for threads, batch in sorted({(row["threads"], row["batch"]) for row in rows}):
        here = [row for row in rows if (row["threads"], row["batch"]) == (threads, batch)]
        int8 = next(row for row in here if (row["network"], row["runtime"], row["precision"]) == (OURS, "ONNX Runtime", "int8"))
        yield f"int8 in ONNX Runtime on {threads} thread{'s' * (threads > 1)}, batch {batch}: {int8['ms']} ms, against"
        yield from (_ratio(int8, row) for row in here if row is not int8)


def _ratio(int8: pitfalls.Row, row: pitfalls.Row) -> str:
    faster, smaller = float(row["ms"]) / float(int8["ms"]), row["bytes"] / int8["bytes"]
    said = f"  {row['network']} {row['precision']} in {row['runtime']}: {faster:.2f} x as fast, {smaller:.2f} x smaller"
    goal = next((g for g in GOALS if (g.network, g.runtime, "fp32") == (row["network"], row["runtime"], row["precision"])), None)
    if goal is None or row["batch"] != 24:
        return said
    met = faster >= goal.faster[row["threads"]] and smaller >= goal.smaller
    asked = f"{goal.faster[row['threads']]:g} x" + (f" and {goal.smaller:g} x" if goal.smaller else "")
    return f"{said} (goal {asked}: {'met' if met else 'MISSED'})"


def resnet(
    data: Path, work: Path, heads: Sequence[Path] = (), healthy: Sequence[Path] = (), *, skip_bad: bool = False
) -> Iterator[pitfalls.Row]:
    """Trains ResNet18, keeps it in `work`, and yields its rows of resnet.csv, on the sealed slices and `healthy`. Raises DataError."""
    found = read(data, heads, skip_bad=skip_bad, leave_out=True)
    network = train_resnet(samples(found.take(~found.sealed)), replace(FEED, channels=COLOURS), SIZES, STEPS)
    work.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), work / "resnet18.pt")
    sets = pitfalls.sets_of(found.take(found.sealed), healthy, heads)
    logits = answers(network, torch.from_numpy(sets.tensor).expand(-1, COLOURS, -1, -1)).numpy()
    columns = ("set", "slices", "accuracy", "sensitivity", "specificity")
    for row in pitfalls.scores("ResNet18", sets, logits, logits):
        yield {column: row[column] for column in columns}


if __name__ == "__main__":
    app()
