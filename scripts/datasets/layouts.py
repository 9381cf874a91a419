"""load: a folder in any of the layouts that we know -> Examples.

which layouts are there? > a job a file > read, prepare > join
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from models.manifest import Recipe
from scripts.datasets import dicom, figshare, folders, pictures, volumes
from scripts.datasets.examples import BadFile, Classes, DataError, Examples, Job, join

LISTED = 20  # bad files that are named; of more, the number


class Layout(NamedTuple):
    name: str
    teaches: str
    present: Callable[[Path, Classes], bool]
    find: Callable[[Path, Recipe, Classes], list[Job]]


def _table(name: str) -> Callable[[Path, Classes], bool]:
    return lambda data, _: (data / name).is_file()


TABLES = (
    Layout("pictures", f"{pictures.TABLE} with {', '.join(pictures.COLUMNS)}: pictures and masks", _table(pictures.TABLE), pictures.find),
    Layout("volumes", f"{volumes.TABLE} with {', '.join(volumes.COLUMNS)}: NIfTI heads and masks", _table(volumes.TABLE), volumes.find),
    Layout(
        "DICOM",
        f"{dicom.TABLE} with {', '.join(dicom.COLUMNS)} (mask, patient): files, or folders of a series",
        _table(dicom.TABLE),
        dicom.find,
    ),
)
BARE = (
    Layout("MATLAB files", "1.mat, 2.mat ...: Cheng's cjdata of MATLAB v7.3, perhaps with cvind.mat", figshare.present, figshare.find),
    Layout(
        "a folder per class",
        "a folder per class: glioma/, meningioma/, no_tumor/ ..., perhaps below Training/",
        folders.present,
        folders.find,
    ),
)


def load(data: Path, recipe: Recipe, labels: Sequence[str], absent: str, *, skip_bad: bool = False) -> Examples:
    """Everything under `data`, each slice as `prepare` shows it to the network; says what layout it found.

    Raises DataError, also where files cannot be read, unless `skip_bad`: then they are listed and left out.
    """
    classes = Classes(tuple(labels), absent)
    parts: list[Examples] = []
    bad: list[BadFile] = []
    for layout in recognised(data, classes):
        tqdm.write(f"{data}: {layout.name} ({layout.teaches.partition(':')[0]})", file=sys.stderr)
        for job in tqdm(layout.find(data, recipe, classes), layout.name):
            try:
                parts.append(job.read())
            except BadFile as error:
                bad.append(error)
    tell(bad, skip_bad)
    if not parts:
        raise DataError(f"{data}: nothing in it can be read")
    return join(parts)


def recognised(data: Path, classes: Classes) -> list[Layout]:
    """The tables that are there, which may stand side by side; else what the files show. Raises DataError."""
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; --data wants one in a layout that docs/data.md describes")
    found = [layout for layout in TABLES if layout.present(data, classes)]
    found = found or [layout for layout in BARE if layout.present(data, classes)][:1]
    if not found:
        known = "; ".join(f"({k}) {layout.teaches}" for k, layout in enumerate((*TABLES, *BARE), 1))
        raise DataError(f"{data}: no such file as {pictures.TABLE} in it, and no layout that is known: {known}. See docs/data.md")
    return found


def tell(bad: Sequence[BadFile], skip: bool) -> None:
    """Lists them. Raises DataError unless they are to be skipped."""
    if not bad:
        return
    lines = [str(error) for error in bad[:LISTED]] + ([f"... and {len(bad) - LISTED} more"] if len(bad) > LISTED else [])
    if not skip and len(bad) == 1:
        raise DataError(f"{bad[0]}; mend or remove it, or go on without it: --skip-bad") from bad[0]
    if not skip:
        raise DataError("\n".join([*lines, f"{len(bad)} files cannot be read; mend or remove them, or go on without them: --skip-bad"]))
    for line in [*lines, f"{len(bad)} files left out (--skip-bad)"]:
        tqdm.write(line, file=sys.stderr)
