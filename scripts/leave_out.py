"""Leave something out, train, and read it: how good the network is on heads that it has never seen. Fold 4 and btp06 stay sealed.

    python -m scripts.leave_out --data DIR --head S1.nii.gz --healthy mni152.nii.gz            every run of RUNS
    python -m scripts.leave_out --data DIR --ablation                                          what each ingredient is good for

    read > for each run: train without its parts > read these parts with the network > rows, maps

Writes docs/measured/leave_out.csv (names of files, truth, logits; no pictures) and `--work`/<run>/maps.npz, which scripts/study_rule.py
fits the study rule on. A run that is done is not trained again; remove its folder to have it done.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from models.training.data import strata, widened
from models.training.lesions import Shares, Uptake
from models.training.loop import Plan, train_fp32
from models.training.network import Network, against, strongest
from scripts.datasets import DataError, Examples
from scripts.learnt import CLEAR, FEED, FULL, NAMES, measured_heads, read, samples
from scripts.study_rule import head_area

WIDENED = 11  # pixels of 224: about 5 mm to every side (models.md: the pointing game's slightly widened mask)
Rows = NDArray[np.bool_]
Parts = dict[str, Callable[[Examples], Rows]]

app = typer.Typer(add_completion=False)


def part(*names: str) -> Callable[[Examples], Rows]:
    return lambda examples: np.isin(np.array(examples.parts), names) & (np.array(examples.sources) != "phantom")


def web_tumours(examples: Examples) -> Rows:
    return np.asarray((np.array(examples.sources) == "web") & (examples.labels != CLEAR))


def second_half(examples: Examples) -> Rows:
    """Of the original numbering of each tumour class: other patients, and nearly another time."""
    found = np.zeros(len(examples), bool)
    for label in set(examples.labels.tolist()):
        rows = np.flatnonzero((np.array(examples.sources) == "figshare") & (examples.labels == label))
        order = rows[np.argsort(np.array(examples.blocks)[rows], kind="stable")]  # blocks are named in the order of the numbering
        found[order[len(order) // 2 :]] = True
    return found


RUNS: dict[str, Parts] = {
    **{f"fold{k}": {str(k): part(str(k)), f"btp0{k + 1}": part(f"btp0{k + 1}")} for k in range(4)},
    "web": {"web": web_tumours, "btp05": part("btp05"), "colin27": part("colin27")},
    "half": {"second half": second_half},
}


@dataclass(frozen=True)
class Configuration:
    """What is left out of the whole for the ablation."""

    keep: Callable[[Examples], Rows] = lambda examples: np.ones(len(examples), bool)
    change: Callable[[Plan], Plan] = lambda plan: plan


def _not(*sources: str) -> Callable[[Examples], Rows]:
    return lambda examples: ~np.isin(np.array(examples.sources), sources)


SHORT = replace(FULL, sizes=(160, 160, 224, 224))  # fewer epochs than what serves: some six minutes a run, and figures that flatter nobody
UPTAKE = (Uptake(0.3, 0.45, 1.0), Uptake(0.1, 0.8, 1.15), Uptake(0.1, 0.8, 1.1), Uptake(0.0, 1.0, 1.0))  # in the order of NAMES
MADE_UP = Shares(paste=0.25, heal=0.15)
ABLATED: Parts = {"3": part("3"), "btp01": part("btp01"), "btp02": part("btp02"), "web": web_tumours, "colin27": part("colin27")}
CONFIGURATIONS: dict[str, Configuration] = {
    "whole": Configuration(),
    "one label per slice, no masks": Configuration(change=lambda plan: replace(plan, masks=False)),
    "without the volumes": Configuration(keep=_not("volume")),
    "without healthy heads": Configuration(keep=_not("healthy", "phantom")),
    "with tumours pasted and healed": Configuration(change=lambda plan: replace(plan, shares=MADE_UP)),
    "the same, and some without uptake": Configuration(change=lambda plan: replace(plan, shares=replace(MADE_UP, uptake=UPTAKE))),
    "all these, without phantoms": Configuration(_not("phantom"), lambda plan: replace(plan, shares=replace(MADE_UP, uptake=UPTAKE))),
}


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="folder with slices.csv and volumes.csv")],
    head: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that is learnt")] = [],  # noqa: B006 - typer reads it
    healthy: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that no run learns")] = [],  # noqa: B006
    work: Annotated[Path, typer.Option(help="checkpoints and maps")] = Path("runs/leave_out"),
    out: Annotated[Path, typer.Option(help="folder of the tables")] = Path("docs/measured"),
    run: Annotated[list[str], typer.Option(help=f"only these of {', '.join(RUNS)}")] = [],  # noqa: B006
    ablation: Annotated[bool, typer.Option("--ablation", help="the ablation in place of the runs")] = False,
    configuration: Annotated[list[str], typer.Option(help="only these of the ablation's configurations")] = [],  # noqa: B006
    epochs: Annotated[int, typer.Option(help="of the ablation: at 160 pixels, the last at 224")] = 5,
) -> None:
    """Trains without parts of DATA and reads them."""
    torch.set_num_threads(2)
    try:
        examples, others = read(data, head, leave_out=True), measured_heads(healthy)
    except DataError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    examples = examples.take(~examples.sealed)
    out.mkdir(parents=True, exist_ok=True)
    if ablation:
        _ablate(
            examples, others, replace(FULL, sizes=(160,) * (epochs - 1) + (224,)), work / "ablation", out / "ablation.csv", configuration
        )
    else:
        for name in run or RUNS:
            _run(name, RUNS[name], examples, others, SHORT, work / name)
        _collect(work, out / "leave_out.csv")


def _run(name: str, parts: Parts, examples: Examples, others: Examples | None, plan: Plan, work: Path) -> None:
    """Trains without `parts`, and writes rows and maps of them and of `others`."""
    if (work / "maps.npz").exists():
        return
    found = {title: choose(examples) for title, choose in parts.items()}
    network = _trained(examples.take(~np.any(list(found.values()), axis=0)), plan, work)
    rows, maps = [], []
    sets = {**{title: examples.take(rows) for title, rows in found.items()}, **_by_part(others)}
    for title, part in sets.items():
        evidence = evidence_of(network, part)
        rows += [{"run": name, "part": title, **row} for row in _rows(part, evidence)]
        maps.append(evidence.astype(np.float16))
    _write(work / "rows.csv", rows)
    masks = np.concatenate([part.masks[:, ::2, ::2] > 0 for part in sets.values()])  # at half the size
    areas = np.concatenate([head_area(part) for part in sets.values()])
    np.savez_compressed(work / "maps.npz", maps=np.concatenate(maps), head_area=areas, masks=masks)


def _by_part(examples: Examples | None) -> dict[str, Examples]:
    if examples is None:
        return {}
    return {name: examples.take(np.array(examples.parts) == name) for name in dict.fromkeys(examples.parts)}


def _trained(examples: Examples, plan: Plan, work: Path) -> Network:
    return train_fp32(samples(examples), FEED, plan, work)


def evidence_of(network: Network, examples: Examples) -> NDArray[np.float32]:
    """(slice, label, 14, 14) of the fp32 network."""
    network = network.eval()
    with torch.no_grad():
        grey = torch.from_numpy(examples.images)
        found: NDArray[np.float32] = torch.cat([against(network(FEED(part.float()[:, None])), CLEAR) for part in grey.split(32)]).numpy()
    return found


def _rows(examples: Examples, evidence: NDArray[np.float32]) -> Iterator[dict[str, object]]:
    logits = strongest(torch.from_numpy(evidence)).numpy()
    pointed = points(evidence, examples)
    for k, stratum in enumerate(strata(samples(examples))):
        yield {
            "source": examples.sources[k],
            "plane": examples.planes[k],
            "stratum": stratum,
            "block": examples.blocks[k],
            "file": examples.names[k],
            "truth": NAMES[examples.labels[k]],
            **{f"fp32_{name}": f"{logit:.3f}" for name, logit in zip(NAMES, logits[k], strict=True)},
            **pointed[k],
        }


def points(evidence: NDArray[np.float32], examples: Examples) -> list[dict[str, str]]:
    """For each slice with a drawn tumour: does the strongest cell of its label lie in the widened mask, and Dice of evidence above 0."""
    found = []
    for cells, mask, label in zip(evidence, examples.masks, examples.labels, strict=True):
        if not mask.any():
            found.append({"pointed": "", "dice": ""})
            continue
        side = mask.shape[0] / cells.shape[-1]
        row, column = ((np.array(np.unravel_index(cells[label].argmax(), cells[label].shape)) + 0.5) * side).astype(int)
        wide = widened(torch.from_numpy(mask)[None, None].float(), WIDENED)[0, 0].numpy() > 0
        full = (
            torch.nn.functional.interpolate(torch.from_numpy(cells[label])[None, None], size=mask.shape, mode="bilinear")[0, 0].numpy() > 0
        )
        dice = 2 * float((full & (mask > 0)).sum()) / float(full.sum() + mask.sum())
        found.append({"pointed": str(int(wide[row, column])), "dice": f"{dice:.3f}"})
    return found


def _ablate(examples: Examples, others: Examples | None, plan: Plan, work: Path, table: Path, only: list[str]) -> None:
    for title, configuration in CONFIGURATIONS.items():
        if only and title not in only:
            continue
        folder = work / title.replace(" ", "_").replace(",", "")
        changed = configuration.change(plan)
        _run(title, ABLATED, examples.take(configuration.keep(examples) | _left_out(examples)), others, changed, folder)
    _summarise(work, table)


def _left_out(examples: Examples) -> Rows:
    return np.asarray(np.any([choose(examples) for choose in ABLATED.values()], axis=0))


def _summarise(work: Path, table: Path) -> None:
    """One row a configuration and part."""
    found: list[dict[str, object]] = []
    for title in CONFIGURATIONS:
        path = work / title.replace(" ", "_").replace(",", "") / "rows.csv"
        if path.exists():
            with path.open(newline="") as stream:
                found += _summary(title, list(csv.DictReader(stream)))
    _write(table, found)
    for row in found:
        print("  ".join(f"{value:>10}" if k > 1 else f"{value:30}" if k == 0 else f"{value:12}" for k, value in enumerate(row.values())))


def _summary(title: str, rows: list[dict[str, str]]) -> Iterator[dict[str, object]]:
    for name in dict.fromkeys(row["part"] for row in rows):
        of_part = [row for row in rows if row["part"] == name]
        truth = np.array([NAMES.index(row["truth"]) for row in of_part])
        said = np.array([[float(row[f"fp32_{label}"]) for label in NAMES] for row in of_part]).argmax(1)
        clear = CLEAR
        tumour, found = truth != clear, (truth != clear) & (said != clear)
        pointed = [row["pointed"] == "1" for row in of_part if row["pointed"]]
        shares = {
            "accuracy": truth == said,
            "sensitivity": said[tumour] != clear,
            "specificity": said[~tumour] == clear,
            "class_right": (truth == said)[found],
            "pointed": np.array(pointed),
        }
        told = {key: f"{hits.mean():.3f}" if len(hits) else "" for key, hits in shares.items()}
        yield {"configuration": title, "part": name, "slices": len(of_part), **told}


def _collect(work: Path, table: Path) -> None:
    """The rows of all runs that are done, and a summary on stdout."""
    rows: list[dict[str, str]] = []
    for name in RUNS:
        if (work / name / "rows.csv").exists():
            with (work / name / "rows.csv").open(newline="") as stream:
                rows += csv.DictReader(stream)
            for row in _summary(name, [row for row in rows if row["run"] == name]):
                print("  ".join(f"{value!s:>12}" for value in row.values()))
    _write(table, rows)


def _write(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    app()
