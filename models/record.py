"""The gate's record: what both variants said of every slice and study that nobody learnt from, and what was true.

    gate.csv          a row a slice: file, truth, part, block, stratum, plane, source, then fp32_<label>..., int8_<label>... (logits)
    gate_spoiled.csv  the same slices once more, spoiled as scanners and patients spoil them: measured, and no part of the verdict
    gate_studies.csv  a row a study: study, truth, slices, then fp32_call, fp32_label, fp32_probability, int8_call...

All lie beside the manifest, so that anyone can judge again; only file (or block), truth and logits are needed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Variant = Literal["fp32", "int8"]
VARIANTS: tuple[Variant, Variant] = ("fp32", "int8")
FILES = ("gate.csv", "gate_spoiled.csv", "gate_studies.csv")
WORDS = ("file", "part", "block", "stratum", "plane", "source")  # columns that say what a slice is; each may be missing
GROUPS = ("stratum", "plane", "source")  # and these are judged one by one
Floats = NDArray[np.float32]


class RecordError(Exception):
    """A record that is missing or does not say enough; the message says which file, what is wrong and how to mend it."""


class Call(NamedTuple):
    """One finding for one study."""

    call: str  # present, absent, unsure
    label: str
    probability: float  # of that label


class StudyRow(NamedTuple):
    """A study that was judged, and what each variant called it."""

    study: str
    truth: str  # label
    slices: int
    calls: Mapping[Variant, Call]


@dataclass(frozen=True)
class Record:
    """What was judged; row i of everything is slice i."""

    labels: tuple[str, ...]
    absent: str  # the label that means none of the others
    truth: NDArray[np.int64]  # (slice,), index into labels
    logits: Mapping[Variant, Floats]  # (slice, label)
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by column of WORDS, a word a slice
    studies: tuple[StudyRow, ...] = ()
    spoiled: Record | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def clear(self) -> int:
        """Index of the absent label."""
        return self.labels.index(self.absent)

    @property
    def units(self) -> NDArray[np.intp]:
        """(slice,): number of the unit that a bootstrap draws whole: the block, or else the file, or else the slice itself."""
        each = range(len(self))
        blocks, files = (self.words.get(column) or [""] * len(self) for column in ("block", "file"))
        names = [block or file or str(k) for block, file, k in zip(blocks, files, each, strict=True)]
        return np.asarray(np.unique(np.array(names, dtype=str), return_inverse=True)[1], dtype=np.intp)

    def take(self, rows: NDArray[np.bool_]) -> Record:
        """The slices where `rows` is true, without studies."""
        words = {column: [word for word, kept in zip(said, rows, strict=True) if kept] for column, said in self.words.items()}
        return Record(self.labels, self.absent, self.truth[rows], {v: logits[rows] for v, logits in self.logits.items()}, words)

    def groups(self) -> list[tuple[str, str, Record]]:
        """(column, word, its slices), for every stratum, plane and source; the spoiled slices are the stratum artifact."""
        found = []
        for column in GROUPS:
            said = np.array(self.words.get(column, ()))
            found += [(column, str(word), self.take(said == word)) for word in np.unique(said)]
            if column == "stratum" and self.spoiled is not None:
                found.append((column, "artifact", self.spoiled))
        return found


def read(folder: Path, labels: Sequence[str], absent: str) -> Record:
    """The record of the model in `folder`; without gate_spoiled.csv and gate_studies.csv as far as it goes. Raises RecordError."""
    slices, spoiled, studies = (folder / name for name in FILES)
    return replace(
        read_slices(slices, labels, absent),
        spoiled=read_slices(spoiled, labels, absent) if spoiled.exists() else None,
        studies=_read_studies(studies, labels) if studies.exists() else (),
    )


def read_slices(path: Path, labels: Sequence[str], absent: str) -> Record:
    """A file like gate.csv. Raises RecordError."""
    rows = _rows(path)
    try:
        truth = np.array([labels.index(row["truth"]) for row in rows], np.int64)
        logits = {v: np.array([[float(row[f"{v}_{label}"]) for label in labels] for row in rows], np.float32) for v in VARIANTS}
    except (KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{path}: not a gate's record ({error}); columns are truth, fp32_<label>, int8_<label>") from error
    return Record(tuple(labels), absent, truth, logits, {column: [row[column] for row in rows] for column in WORDS if column in rows[0]})


def _read_studies(path: Path, labels: Sequence[str]) -> tuple[StudyRow, ...]:
    try:
        return tuple(_study(row, labels) for row in _rows(path))
    except (KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{path}: not a gate's record of studies ({error}); judge the model again, or remove the file") from error


def _study(row: Mapping[str, str], labels: Sequence[str]) -> StudyRow:
    calls = {v: Call(row[f"{v}_call"], row[f"{v}_label"], float(row[f"{v}_probability"])) for v in VARIANTS}
    for label in (row["truth"], *(call.label for call in calls.values())):
        labels.index(label)
    return StudyRow(row["study"], row["truth"], int(row["slices"]), calls)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or error
        raise RecordError(f"{path}: {said}; it comes with the model's release, or train the model again") from error
    if not rows:
        raise RecordError(f"{path}: holds no rows; train the model again")
    return rows


def write(folder: Path, record: Record) -> None:
    """Writes the files of `record` into `folder`; a part that it lacks leaves no file."""
    slices, spoiled, studies = (folder / name for name in FILES)
    _write_slices(slices, record)
    for path in (spoiled, studies):
        path.unlink(missing_ok=True)
    if record.spoiled is not None:
        _write_slices(spoiled, record.spoiled)
    if record.studies:
        head = ["study", "truth", "slices", *(f"{v}_{what}" for v in VARIANTS for what in Call._fields)]
        _write(studies, head, [_told(row) for row in record.studies])


def _write_slices(path: Path, record: Record) -> None:
    """Logits with every digit that a float32 has, so that who judges again sees the ties that were there, and no others."""
    columns = [column for column in ("file", "truth", *WORDS[1:]) if column == "truth" or column in record.words]
    said = {**record.words, "truth": [record.labels[k] for k in record.truth]}
    logits = np.concatenate([record.logits[v] for v in VARIANTS], axis=1)
    head = [*columns, *(f"{v}_{label}" for v in VARIANTS for label in record.labels)]
    _write(path, head, [[*(said[c][k] for c in columns), *map(str, row)] for k, row in enumerate(logits)])


def _told(row: StudyRow) -> list[str]:
    calls = [row.calls[v] for v in VARIANTS]
    return [row.study, row.truth, str(row.slices), *(word for c in calls for word in (c.call, c.label, f"{c.probability:.4f}"))]


def _write(path: Path, head: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([head, *rows])
