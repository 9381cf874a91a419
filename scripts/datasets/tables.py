"""Rows of a csv that names files, with the columns that it must have."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from scripts.datasets.examples import FOLDS, DataError


def rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Every row, by column. Raises DataError where the file, a row or one of `columns` is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets write a byte order mark
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: not a csv in UTF-8 that can be read ({error}); it names files, with the columns {', '.join(columns)}"
        ) from error
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise DataError(f"{path}: no rows, or no column {', '.join(missing)}; expected {', '.join(columns)}")
    _check_folds(path, rows)
    return rows


def _check_folds(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """A fold that is none would be learnt, sealed or not. Raises DataError; a table may have no folds, but then in no row."""
    if not any(row.get("fold") for row in rows):
        return
    for row in rows:
        if row["fold"] not in FOLDS:
            name = row.get("file", "a row")
            raise DataError(f"{path}: {name} has the fold {row['fold']!r}; expected {FOLDS[0]} to {FOLDS[-1]}, the last is sealed")
