"""Where in the head a network that never saw it takes something healthy for a tumour: each slice's strongest cell, counted by place.

    python -m scripts.false_cells                    docs/measured/false_cells.csv, and how many there are

Reads the maps that scripts/leave_out.py wrote (`--work`); needs no torch. Asked are slices in which nobody drew a tumour: of patients'
volumes and of healthy heads that were left out, each by itself. A row is a place and how many slices are called so there; of slices that
are called none, place and label are empty. DICOM series are passed over: the names of their slices do not say where they lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from scripts.model_card import ABSENT, LABELS
from scripts.study_rule import WHOLE, Case, cases
from scripts.tables import write

THIRDS = {  # of a head's slices, in the order of their places in a right-anterior-superior volume
    "axial": ("lower", "middle", "upper"),
    "coronal": ("back", "middle", "front"),
    "sagittal": ("left", "middle", "right"),
}
NAMES = tuple(label.name for label in LABELS)
COLUMNS = ("kind", "part", "plane", "third", "said", "row", "column")
Place = tuple[str, ...]  # in the order of COLUMNS

app = typer.Typer(add_completion=False)


def places(found: Iterable[Case]) -> Counter[Place]:
    """Slices without tumour of the whole heads among `found` that say where they lie, counted by what they are called and where."""
    return Counter(place for case in found if case.kind in WHOLE and case.geometry.positions for place in _places(case))


def _places(case: Case) -> list[Place]:
    said, at = case.predicted().logits.argmax(1), np.array(case.geometry.positions)
    thirds = np.minimum(3 * (at - at.min()) / max(float(np.ptp(at)), 1.0), 2).astype(int)
    return [
        (case.kind, case.part, case.geometry.plane, THIRDS[case.geometry.plane][thirds[k]], *_strongest(case, k, int(said[k])))
        for k in np.flatnonzero(~case.masks.any((1, 2))).tolist()
    ]


def _strongest(case: Case, k: int, said: int) -> tuple[str, str, str]:
    """(label, row, column) of the strongest cell of what slice `k` is called; all empty where that is no tumour."""
    if NAMES[said] == ABSENT:
        return "", "", ""
    row, column = np.unravel_index(int(case.maps[k, said].argmax()), case.maps.shape[2:])
    return NAMES[said], str(row), str(column)


def _order(counted: tuple[Place, int]) -> tuple[object, ...]:
    kind, part, plane, third, said, *cell = counted[0]
    return kind, part, plane, THIRDS[plane].index(third), said, *map(int, cell if said else ())


@app.command()
def main(
    work: Annotated[Path, typer.Option(help="of scripts/leave_out.py")] = Path("runs/leave_out"),
    out: Annotated[Path, typer.Option(help="folder of the table")] = Path("docs/measured"),
) -> None:
    """Counts by place what the leave-out runs call a tumour where there is none."""
    found = places(cases(work))
    if not found:
        raise typer.BadParameter(
            f"{work}: holds no whole head (NIfTI) of a leave-out run; make leave-out DATA=... makes them", param_hint="--work"
        )
    counted = sorted(found.items(), key=_order)
    write(out / "false_cells.csv", [dict(zip(COLUMNS, place, strict=True)) | {"slices": count} for place, count in counted])
    false = sum(count for place, count in found.items() if place[COLUMNS.index("said")])
    print(f"{false} of {found.total()} slices without tumour are called one; where, {out / 'false_cells.csv'} tells")


if __name__ == "__main__":
    app()
