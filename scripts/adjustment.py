"""What is added to each label's evidence after training, chosen on parts left out: candidates beside each other.

    python -m scripts.adjustment                                       reads docs/measured/leave_out.csv
    python -m scripts.adjustment --try 0,0.6,0 --try=-0.4,0.4,-0.3     of glioma, meningioma, pituitary

Each candidate stands in place of what serves (model_card.ADJUSTED), which the logits of leave_out.csv hold already. Slices are read one
by one, without their neighbours. Needs no data set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from scripts.learnt import ADDED, CLEAR, NAMES
from scripts.leave_out import rows_of

TUMOURS = [name for k, name in enumerate(NAMES) if k != CLEAR]
TRIED = ("0,0,0", "0,0.4,0", "0,0.6,0", "-0.1,0.3,-0.3", "-0.1,0.4,-0.3", "-0.2,0.4,-0.3", "-0.4,0.2,0", "-0.4,0.4,-0.3", "-0.6,0.4,-0.3")
Rows = Sequence[Mapping[str, str]]

app = typer.Typer(add_completion=False)


@app.command()
def main(
    table: Annotated[Path, typer.Option(help="answers of networks that left parts out")] = Path("docs/measured/leave_out.csv"),
    tried: Annotated[list[str], typer.Option("--try", metavar=",".join(TUMOURS), help="a candidate")] = list(TRIED),  # noqa: B006
) -> None:
    """Print what each candidate names rightly, finds and clears."""
    try:
        rows = rows_of(table)
    except FileNotFoundError as error:
        print(f"{table}: not there; make leave-out DATA=... writes it", file=sys.stderr)
        raise typer.Exit(2) from error
    served, columns = [ADDED[NAMES.index(name)] for name in TUMOURS], [name for name, _ in shares(rows, [0.0] * len(TUMOURS))]
    print(" " * 22, *columns, sep="  ")
    for by in (served, *map(_numbers, tried)):
        title = ",".join(f"{value:g}" for value in by) + (" (serves)" if by is served else "")
        print(f"{title:22}", *(f"{share:{len(name)}.3f}" for name, share in shares(rows, by)), sep="  ")


def _numbers(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != len(TUMOURS):
        raise typer.BadParameter(f"{text!r}: a number for each of {', '.join(TUMOURS)}", param_hint="--try")
    return found


def shares(rows: Rows, by: Sequence[float]) -> Iterator[tuple[str, float]]:
    """(what, share) of pictures from where others were learnt, of tumours of another origin, of patients' volumes, of healthy heads, and
    of each label's pictures.
    """
    added = dict(zip(TUMOURS, by, strict=True))
    change = np.array([added.get(name, 0.0) for name in NAMES]) - ADDED
    logits = np.array([[float(row[f"fp32_{name}"]) for name in NAMES] for row in rows]) + change
    said, truth = logits.argmax(1), np.array([NAMES.index(row["truth"]) for row in rows])
    for name, group in groups(rows).items():
        tumour = group & (truth != CLEAR)
        if group.any() and name != "healthy":
            yield f"{name} right", float((said == truth)[group].mean())
        if tumour.any():
            yield "found", float((said != CLEAR)[tumour].mean())
        if (group & ~tumour).any():
            yield f"{'healthy ' if name == 'healthy' else ''}cleared", float((said == CLEAR)[group & ~tumour].mean())
    for label in TUMOURS:
        of = groups(rows)["pictures"] & (truth == NAMES.index(label))
        if of.any():
            yield f"{label} right", float((said == truth)[of].mean())


def groups(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    """Whose slices `rows` are."""
    source, part = np.array([row["source"] for row in rows]), np.array([row["part"] for row in rows])
    web, volume, healthy = part == "web", source == "volume", source == "healthy"
    return {"pictures": ~(web | volume | healthy), "elsewhere": web, "volumes": volume, "healthy": healthy}


if __name__ == "__main__":
    app()
