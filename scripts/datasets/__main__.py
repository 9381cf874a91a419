"""Reads a folder as training would, and says what is in it and whether it leaks: `python -m scripts.datasets DIR`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.datasets import DataError, Examples, load
from scripts.datasets.audit import Leak, audited, between_parts, leaks
from scripts.model_card import ABSENT, LABELS, RECIPE

NAMES = [label.name for label in LABELS]


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Argument(help="A folder in one of the layouts of docs/data.md.")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without files that cannot be read.")] = False,
    leave_out: Annotated[bool, typer.Option("--leave-out-leaks", help="Do not fail for leaks: training would leave them out.")] = False,
    table: Annotated[Path | None, typer.Option("--csv", help="Where to write every leak, and every likeness between parts.")] = None,
) -> None:
    """What training would see of DATA: counts by class, source and plane, intensity by source, and leaks. Nothing is trained.

    A leak is a patient, a block, a copy (mirrored, turned, squeezed) or a head both in what is learnt and in what is sealed.
    The exit status is 2 where the data cannot be read, a class is missing or the split leaks.

    \b
    python -m scripts.datasets brain_mri
    python -m scripts.datasets brain_mri --csv leaks.csv --leave-out-leaks
    """
    try:
        examples = load(data, RECIPE, NAMES, ABSENT, skip_bad=skip_bad)
        if table:
            _write(table, examples)
        print(audited(examples, NAMES, leave_out=leave_out)[1])
    except DataError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


def _write(path: Path, examples: Examples) -> None:
    found: list[tuple[str, Leak]] = [*(("sealed", leak) for leak in leaks(examples)), *(("part", leak) for leak in between_parts(examples))]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["into", "kind", "likeness", "file", "part", "block", "other_file", "other_part", "other_block"])
        for into, leak in found:
            both = [(examples.names[row], examples.parts[row], examples.blocks[row]) for row in (leak.first, leak.second)]
            writer.writerow([into, leak.kind, f"{leak.likeness:.4f}", *both[0], *both[1]])


if __name__ == "__main__":
    app()
