"""What is added to each label's evidence after training, and other candidates, on parts left out of training.

    python -m scripts.adjustment                                       reads docs/measured/leave_out.csv
    python -m scripts.adjustment --try 0,0.6,0 --try=-0.4,0.4,-0.3     of glioma, meningioma, pituitary

Each candidate stands in place of what the logits of leave_out.csv hold already (its column `added`). Slices are read one by one, without
their neighbours. Pictures are those of folds and halves, elsewhere are the tumours of another origin. Needs no data set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from scripts.learnt import CLEAR, NAMES
from scripts.leave_out import HEADS
from scripts.model_card import adjustment
from scripts.report.material import PATIENTS
from scripts.tables import rows_of

TUMOURS = [name for k, name in enumerate(NAMES) if k != CLEAR]
SERVED = [adjustment(teachers=1)[name] for name in TUMOURS]  # of a network that others taught further
ALONE = ",".join(f"{adjustment(teachers=0)[name]:g}" for name in TUMOURS)
RAISED = ("0.1,0.6,-0.1", "0.4,0.9,0.2")  # like what serves, less and more
TRIED = (ALONE, *RAISED, "0,0,0", "0,0.4,0", "0,0.6,0", "-0.1,0.3,-0.3", "-0.2,0.4,-0.3", "-0.4,0.2,0", "-0.4,0.4,-0.3", "-0.6,0.4,-0.3")
Rows = Sequence[Mapping[str, str]]
Share = tuple[str, str, float]  # of whose slices, what, how many

app = typer.Typer(add_completion=False)


@app.command()
def main(
    table: Annotated[Path, typer.Option(help="answers of networks that left parts out")] = Path("docs/measured/leave_out.csv"),
    run: Annotated[list[str], typer.Option(help="only networks of these runs: fold0 ..., web, half")] = [],  # noqa: B006
    tried: Annotated[list[str], typer.Option("--try", metavar=",".join(TUMOURS), help="a candidate")] = list(TRIED),  # noqa: B006
) -> None:
    """Print what each candidate names rightly, finds and clears."""
    rows = [row for row in (rows_of(table) if table.exists() else []) if not run or row["run"] in run]
    if not rows:
        print(f"{table}: not there, or without such a run; make leave-out DATA=... writes it", file=sys.stderr)
        raise typer.Exit(2)
    for k, by in enumerate([SERVED, *map(_numbers, tried)]):
        found = list(shares(rows, by))
        widths = [max(len(group), len(what)) for group, what, _ in found]
        if k == 0:
            for column in (0, 1):
                print(" " * 24, *(f"{share[column]!s:>{width}}" for share, width in zip(found, widths, strict=True)))
        title = ",".join(f"{value:g}" for value in by) + (" (serves)" if k == 0 else "")
        print(f"{title:24}", *(f"{share:{width}.3f}" for (_, _, share), width in zip(found, widths, strict=True)))


def _numbers(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != len(TUMOURS):
        raise typer.BadParameter(f"{text!r}: a number for each of {', '.join(TUMOURS)}", param_hint="--try")
    return found


def shares(rows: Rows, by: Sequence[float]) -> Iterator[Share]:
    """Of each group's slices what is named rightly, found and cleared; of pictures and tumours from elsewhere by label, too."""
    logits = np.array([[float(row[f"fp32_{name}"]) for name in NAMES] for row in rows])
    held = np.array([[float(number) for number in row["added"].split()] for row in rows])
    said = (logits - held + np.insert(np.array(by, float), CLEAR, 0.0)).argmax(1)
    truth = np.array([NAMES.index(row["truth"]) for row in rows])
    for name, group in groups(rows).items():
        tumour, clear = group & (truth != CLEAR), group & (truth == CLEAR)
        if tumour.any():
            yield name, "right", float((said == truth)[group].mean())
            yield name, "found", float((said != CLEAR)[tumour].mean())
        if clear.any():
            yield name, "cleared", float((said == CLEAR)[clear].mean())
        for label in TUMOURS if name in ("pictures", "elsewhere") else ():
            of = group & (truth == NAMES.index(label))
            if of.any():
                yield name, label, float((said == truth)[of].mean())


def groups(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    """Whose slices `rows` are."""
    source, part = np.array([row["source"] for row in rows]), np.array([row["part"] for row in rows])
    elsewhere, volumes, healthy = part == "web", np.isin(source, PATIENTS), np.isin(source, HEADS)
    return {"pictures": ~(elsewhere | volumes | healthy), "elsewhere": elsewhere, "volumes": volumes, "healthy": healthy}


if __name__ == "__main__":
    app()
