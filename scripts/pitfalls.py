"""The three pitfalls of int8, measured: calibration without teaching, biased calibration, answers that hang on the batch.

    python -m scripts.pitfalls --data DIR --work runs/train --out docs/measured

One fp32 network (of `--work`) is made int8 in several ways, and every way is measured in ONNX Runtime on slices that were not learnt.
It reports and chooses nothing, so these are the sealed ones. The twin that serves is not made
again: its row is `--work`/artifacts/model_int8.onnx. The other ways see 160 slices of calibration and 1,200 slices to draw them from, and
teaching by labels takes 60 steps: a short run, so its row says less than the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import torch
import typer
from numpy.typing import NDArray

from models import golden
from models.runtime import Session
from models.training.data import Samples
from models.training.export import export
from models.training.loop import OtherRun, Plan
from models.training.network import Network, adjusted
from models.training.qat import Rounding, quantise
from models.training.teachers import latest
from scripts.datasets import DataError, Examples, join
from scripts.learnt import CLEAR, FEED, NAMES, measured_heads, read, samples, tensor
from scripts.model_card import ABSENT, RECIPE
from scripts.tables import write

LEARNT = 1200  # slices that the ways are made from
PLAN = Plan(calibration=160, qat_steps=60)
SERVED = "QAT taught by fp32, channels equalised"
WAYS = {
    "PTQ, MinMax": Rounding(observer="minmax", taught_by="nobody", rewritten=False),
    "PTQ, histogram": Rounding(taught_by="nobody", rewritten=False),
    "PTQ, histogram, obvious cases only": Rounding(calibrated_with="obvious", taught_by="nobody", rewritten=False),
    "PTQ, histogram, channels equalised": Rounding(taught_by="nobody"),
    "QAT taught by labels": Rounding(observer="moving", taught_by="labels", rewritten=False),
}
Floats = NDArray[np.float32]
Row = dict[str, Any]

app = typer.Typer(add_completion=False)


class Sets(NamedTuple):
    """What is judged: row i of everything is slice i."""

    tensor: Floats  # (n, 1, 224, 224), as served
    labels: NDArray[np.int64]
    names: tuple[str, ...]  # of the set a slice belongs to


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="folder with slices.csv and volumes.csv")],
    work: Annotated[Path, typer.Option(help="of the training run: its checkpoints, artifacts/")] = Path("runs/train"),
    out: Annotated[Path, typer.Option(help="where the two tables go")] = Path("docs/measured"),
    head: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that was learnt; may be given several times")] = [],  # noqa: B006
    healthy: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that was not learnt; may be given several times")] = [],  # noqa: B006
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="go on without files that cannot be read; they are listed")] = False,
) -> None:
    """Make int8 in several ways and write pitfalls.csv and batches.csv."""
    torch.set_num_threads(2)
    wanted = (work / "fp32.pt", *(work / "artifacts" / f"model_{variant}.onnx" for variant in ("fp32", "int8")))
    if missing := [path for path in wanted if not path.exists()]:
        raise typer.BadParameter(f"{missing[0]}: not there; make train DATA=... makes it", param_hint="--work")
    try:
        added_to(work / "artifacts" / "model_fp32.onnx")  # an older training is told before anything is read
        found = read(data, head, skip_bad=skip_bad, leave_out=True)
        sets = sets_of(found.take(found.sealed), healthy, head)
        rows = list(pitfalls(work, some(found.take(~found.sealed)), sets))
    except (DataError, OtherRun) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    told(out / "pitfalls.csv", rows)
    told(out / "batches.csv", list(batches(work, sets)))


def sets_of(judged: Examples, healthy: Sequence[Path], learnt: Sequence[Path]) -> Sets:
    """The slices to judge, named by where they come from. Raises DataError, also where a head is `learnt`."""
    heads = measured_heads(healthy, learnt)
    judged = judged if heads is None else join([judged, heads])
    kinds = {"volume": "volumes", "healthy": "healthy heads"}
    return Sets(tensor(torch.from_numpy(judged.images)), judged.labels, tuple(kinds.get(source, "fold") for source in judged.sources))


def some(learnt: Examples, count: int = LEARNT) -> Samples:
    """At most `count` of them, evenly spaced."""
    rows = np.zeros(len(learnt), bool)
    rows[np.linspace(0, len(learnt) - 1, min(count, len(learnt))).astype(int)] = True
    return samples(learnt.take(rows))


def pitfalls(work: Path, learnt: Samples, sets: Sets, plan: Plan = PLAN, ways: Mapping[str, Rounding] = WAYS) -> Iterator[Row]:
    """Rows of pitfalls.csv: fp32, every way, and the twin that serves."""
    network, folder = Network(), work / "pitfalls"
    network.load_state_dict(torch.load(latest(work), map_location="cpu", weights_only=True)["network"])
    adjusted(network, added_to(work / "artifacts" / "model_fp32.onnx"))
    fp32 = Session(work / "artifacts" / "model_fp32.onnx").run(sets.tensor).logits
    yield from scores("fp32", sets, fp32, fp32)
    for name, rounding in ways.items():
        path = folder / (name.replace(" ", "_").replace(",", "") + ".onnx")
        path.parent.mkdir(parents=True, exist_ok=True)
        twin = quantise(network.eval(), learnt, FEED, plan, None, rounding)
        export(twin, path, labels=NAMES, absent=ABSENT, recipe_id=RECIPE.id)
        yield from scores(name, sets, Session(path).run(sets.tensor).logits, fp32)
    yield from scores(SERVED, sets, Session(work / "artifacts" / "model_int8.onnx").run(sets.tensor).logits, fp32)


def added_to(model: Path) -> list[float]:
    """What its training added to each label's evidence, as the file says. Raises DataError."""
    said = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    if "added" not in said:
        raise DataError(f"{model}: does not say what was added to each label's evidence, for it is of an older training; train again")
    return [float(by) for by in said["added"].split()]


def scores(method: str, sets: Sets, logits: Floats, fp32: Floats) -> Iterator[Row]:
    """One row for each set; nan where a set holds no tumour, or nothing else."""
    for name in dict.fromkeys(sets.names):
        rows = np.array([n == name for n in sets.names])
        truth, said, twin = sets.labels[rows], logits[rows].argmax(1), fp32[rows].argmax(1)
        tumour = truth != CLEAR
        yield {
            "method": method,
            "set": name,
            "slices": len(truth),
            "accuracy": _share(said == truth),
            "sensitivity": _share(said[tumour] != CLEAR),
            "specificity": _share(said[~tumour] == CLEAR),
            "agreement": _share(said == twin),
        }


def _share(right: NDArray[np.bool_]) -> str:
    return f"{right.mean():.6f}" if len(right) else "nan"


def batches(work: Path, sets: Sets) -> Iterator[Row]:
    """Rows of batches.csv: what a slice's logits owe to the slices beside it. 24 slices, evenly spaced over the sets."""
    image = sets.tensor[np.linspace(0, len(sets.tensor) - 1, max(golden.SIZES)).astype(int)]
    for variant in ("fp32", "int8"):
        session = Session(work / "artifacts" / f"model_{variant}.onnx")
        for size, batched in golden.batches(session, image).items():
            yield {"variant": variant, "batch": size, "largest_difference": f"{batched.off:.2e}", "same_argmax": f"{batched.same:g}"}


def told(path: Path, rows: Sequence[Row]) -> None:
    """Writes `rows` as CSV and prints them."""
    write(path, rows)
    widths = {key: max(len(key), *(len(str(row[key])) for row in rows)) for key in rows[0]}
    for line in [{key: key for key in widths}, *rows]:
        print("  ".join(str(line[key]).ljust(width) for key, width in widths.items()).rstrip())
    print(f"> {path}\n")


if __name__ == "__main__":
    app()
