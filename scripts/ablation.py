"""What each ingredient of the training is worth: the same training with one thing changed, or two, read on slices it never saw.

    python -m scripts.ablation --data DIR --head S1.nii.gz --healthy mni152.nii.gz
    python -m scripts.ablation --data DIR --configuration "without the volumes"

Left out by all: fold 3, patients btp01 and btp02, tumours of another origin, the bundled healthy head. Writes docs/measured/ablation.csv.
A configuration that is done is not trained again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from models.training.looks import Looks
from models.training.loop import OtherRun, Plan
from scripts.datasets import DataError, Examples
from scripts.learnt import FULL, measured_heads, read
from scripts.leave_out import Parts, Rows, leave_out, left_out, part, summary, web_tumours
from scripts.tables import rows_of, write

PLAN = replace(FULL, sizes=(160, 160, 160, 224))
HEAD = "colin27 (phantoms are painted into it)"
ABLATED: Parts = {"3": part("3"), "btp01": part("btp01"), "btp02": part("btp02"), "web": web_tumours, HEAD: part("colin27")}

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Configuration:
    """What is left out of the whole for the ablation."""

    keep: Callable[[Examples], Rows] = lambda examples: np.ones(len(examples), bool)
    change: Callable[[Plan], Plan] = lambda plan: plan


def _not(*sources: str) -> Callable[[Examples], Rows]:
    return lambda examples: ~np.isin(np.array(examples.sources), sources)


CONFIGURATIONS: dict[str, Configuration] = {
    "whole": Configuration(),
    "one label per slice, no masks": Configuration(change=lambda plan: replace(plan, masks=False)),
    "without a loss for the place": Configuration(change=lambda plan: replace(plan, place=0.0)),
    "without the volumes": Configuration(keep=_not("volume")),
    "without healthy heads": Configuration(keep=_not("healthy", "phantom")),
    "without phantoms": Configuration(keep=_not("phantom")),
    "with uptake in every glioma": Configuration(change=lambda plan: replace(plan, looks=replace(plan.looks, uptake=()))),
    "without other sequences, strengths and blur": Configuration(change=lambda plan: replace(plan, looks=Looks(uptake=plan.looks.uptake))),
    "without pasted tumours": Configuration(change=lambda plan: replace(plan, shares=replace(plan.shares, paste=0.0))),
    "with tumours healed, too": Configuration(change=lambda plan: replace(plan, shares=replace(plan.shares, heal=0.1))),
}


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="folder in one of the layouts of docs/data.md")],
    head: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that is learnt")] = [],  # noqa: B006 - typer reads it
    healthy: Annotated[list[Path], typer.Option(help="a healthy head (NIfTI) that no configuration learns")] = [],  # noqa: B006
    work: Annotated[Path, typer.Option(help="checkpoints and maps")] = Path("runs/ablation"),
    out: Annotated[Path, typer.Option(help="folder of the table")] = Path("docs/measured"),
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="go on without files that cannot be read; they are listed")] = False,
    configuration: Annotated[list[str], typer.Option(help=f"only these: {'; '.join(CONFIGURATIONS)}")] = [],  # noqa: B006
) -> None:
    """Trains with something changed, and reads what all configurations leave out."""
    torch.set_num_threads(2)
    if wrong := set(configuration) - CONFIGURATIONS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: no such configuration", param_hint="--configuration")
    try:
        examples, others = read(data, head, skip_bad=skip_bad, leave_out=True), measured_heads(healthy, head)
        examples = examples.take(~examples.sealed)
        for title in configuration or CONFIGURATIONS:
            ablate(title, examples, others, work / folder_of(title))
    except (DataError, OtherRun) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    summarise(work, out / "ablation.csv")


def ablate(title: str, examples: Examples, others: Examples | None, work: Path, plan: Plan = PLAN) -> None:
    """One configuration. Raises OtherRun where `work` holds another."""
    changed = CONFIGURATIONS[title]
    parts = {name: choose for name, choose in ABLATED.items() if choose(examples).any()}
    kept = examples.take(changed.keep(examples) | left_out(examples, parts))
    leave_out(title, parts, kept, others, changed.change(plan), work)


def folder_of(title: str) -> str:
    return title.replace(" ", "_").replace(",", "")


def summarise(work: Path, table: Path) -> None:
    """One row a configuration and part; configurations that `work` does not hold keep their rows."""
    kept = rows_of(table) if table.exists() else []
    found: list[dict[str, object]] = []
    for title in CONFIGURATIONS:
        path = work / folder_of(title) / "rows.csv"
        found += list(summary(title, rows_of(path))) if path.exists() else [dict(row) for row in kept if row["configuration"] == title]
    write(table, found)
    for row in found:
        print("  ".join(f"{value!s:>10}" if k > 1 else f"{value!s:36}" for k, value in enumerate(row.values())))


if __name__ == "__main__":
    app()
