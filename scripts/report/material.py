"""What the report is made of: the model's folder, and the small CSV files of docs/measured that the scripts of the model line write.

Each CSV file may be missing: the report then says so, and which command writes it. The columns of each stand in COLUMNS.

    curve.csv              stage: alone, or taught (further, by other networks: another loss); seconds of the epoch
    speed.csv              cpu, where it was noted: what the times were measured on
    leave_out.csv          run: the network; part: what it never saw ('0' to '3' folds, 'btp01'..., 'web', 'second half', 'colin27'...);
                           source: figshare, web, volume (a patient's head), healthy (a healthy head); logits; pointed 1, 0 or empty:
                           does the strongest cell of the true label lie in the mask widened by 5 mm; dice of region and mask, or empty;
                           added: to each label's logit after training, which the logits hold; teachers: other networks that
                           taught it further
    lessons.csv            of runs with teachers: each network alone, and the one that the others taught
    leave_out_studies.csv  kind: volume (a patient's), healthy, run (of neighbouring slices); key_inside 1, 0 or empty;
                           of tumour_slices (slices with a mask) were found, and of the others false called: by the study rule
    false_cells.csv        of slices without a mask: how many are called so there; third of the head, row and column of the map's cell;
                           said, row and column are empty where nothing is called
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest, read
from models.record import WORDS, Record
from models.record import read as read_record
from models.tables import Table
from models.tables import tables as gate_tables
from scripts.report.numbers import sealed_fold
from scripts.tables import rows_of

COLUMNS = {
    "curve.csv": "stage epoch size loss seconds",
    "learnt.csv": "source part learnt sealed",
    "leave_out.csv": "run part source plane stratum block file truth added teachers pointed dice",  # and fp32_<label>
    "lessons.csv": "run network part slices accuracy sensitivity specificity class_right pointed",
    "leave_out_studies.csv": "run kind study truth slices call label probability key_inside dice tumour_slices found false",
    "false_cells.csv": "kind part plane third said row column slices",
    "ablation.csv": "configuration part slices accuracy sensitivity specificity class_right",
    "pitfalls.csv": "method set slices accuracy sensitivity specificity agreement",
    "batches.csv": "variant batch largest_difference same_argmax",
    "speed.csv": "network runtime precision threads batch ms bytes",
    "resnet.csv": "set slices accuracy sensitivity specificity",
    "phantoms.csv": "tumour plane seed variant call label probability right",
}
MADE_BY = {  # what writes each file
    "curve.csv": "python -m scripts.train_image_model",
    "learnt.csv": "python -m scripts.train_image_model",
    "leave_out.csv": "python -m scripts.leave_out",
    "lessons.csv": "python -m scripts.leave_out --teachers 1",
    "leave_out_studies.csv": "python -m scripts.study_rule",
    "false_cells.csv": "python -m scripts.false_cells",
    "ablation.csv": "python -m scripts.ablation",
    "pitfalls.csv": "python -m scripts.pitfalls",
    "batches.csv": "python -m scripts.pitfalls",
    "speed.csv": "python -m scripts.bench_model",
    "resnet.csv": "python -m scripts.bench_model --train-resnet",
    "phantoms.csv": "python -m scripts.phantom_scores --csv docs/measured/phantoms.csv",
}
Rows = Sequence[Mapping[str, str]]
Doubles = NDArray[np.float64]
PATIENTS = ("volume", "dicom")  # sources that are slices of patients' heads
OTHERWISE = ("web", *PATIENTS, "healthy")  # sources that are told apart from the other pictures
YES = ("1", "true", "True", "1.0")


class MaterialError(Exception):
    """A file of docs/measured that does not say what the report needs; the message names the file and the command that writes it."""


@dataclass(frozen=True)
class LeftOut:
    """Out-of-fold answers; row i of everything is slice i."""

    record: Record  # logits of fp32 only
    pointed: Doubles  # (slice,): 1, 0, or nan where nothing was asked
    dice: Doubles  # (slice,): nan where nothing was asked

    def take(self, rows: NDArray[np.bool_]) -> LeftOut:
        """The slices where `rows` is true."""
        return LeftOut(self.record.take(rows), self.pointed[rows], self.dice[rows])

    def of_pictures(self) -> LeftOut:
        """Single pictures of the folds and halves: of no head, and not of another origin."""
        return self.take(~np.isin(np.array(self.record.words["source"]), OTHERWISE))

    def where(self, column: str, *words: str) -> LeftOut:
        """The slices that one of `words` stands for in `column`."""
        return self.take(np.isin(np.array(self.record.words[column]), words))


@dataclass(frozen=True)
class Material:
    """Everything that the report is made of."""

    manifest: Manifest
    record: Record  # what the gate judged
    tables: Mapping[str, Rows]  # by name of the file; a file that is missing has no rows

    def rows(self, name: str) -> Rows:
        """Rows of a file of docs/measured; empty where there is none."""
        return self.tables.get(name, ())

    @property
    def tumours(self) -> list[str]:
        """The labels of what the model looks for."""
        return [name for name in self.manifest.label_names if name != self.manifest.absent]

    @cached_property
    def judged(self) -> list[Table]:
        """The gate's numbers: of everything that was sealed, then of each stratum, plane and source."""
        return gate_tables(self.record, self.manifest.rule.temperature)

    @cached_property
    def fold(self) -> Record:
        """The pictures of the sealed fold."""
        return sealed_fold(self.record)

    @cached_property
    def left_out(self) -> LeftOut | None:
        """leave_out.csv. Raises MaterialError."""
        return left_out(self.tables, self.manifest)


def gather(docs: Path, folder: Path) -> Material:
    """Reads `docs`/measured and the model in `folder`. Raises ManifestError, RecordError, MaterialError."""
    manifest = read(folder / "manifest.toml")
    record = read_record(folder, manifest.label_names, manifest.absent)
    return Material(manifest, record, tables(docs))


def tables(docs: Path) -> dict[str, Rows]:
    """`docs`/measured, by name of the file. Raises MaterialError."""
    return {name: _rows(docs / "measured" / name) for name in COLUMNS}


def left_out(found: Mapping[str, Rows], manifest: Manifest) -> LeftOut | None:
    """leave_out.csv of `tables`, or None. Raises MaterialError."""
    rows = found.get("leave_out.csv", ())
    return _left_out(rows, manifest) if rows else None


def missing(name: str) -> str:
    """What the report says in place of what `name` would tell."""
    return f"Not measured yet: `{MADE_BY[name]}` writes docs/measured/{name}."


def yes(word: str) -> bool:
    """A column of 1 and 0."""
    return word.strip() in YES


def number(word: str) -> float:
    """A column of numbers; nan where nothing stands."""
    return float(word) if word.strip() else float("nan")


def _rows(path: Path) -> Rows:
    if not path.exists():
        return ()
    rows = rows_of(path)
    lacking = set(COLUMNS[path.name].split()) - set(rows[0] if rows else COLUMNS[path.name].split())
    if lacking:
        raise MaterialError(f"{path}: no column {', '.join(sorted(lacking))}; write it again: {MADE_BY[path.name]}")
    return rows


def _left_out(rows: Rows, manifest: Manifest) -> LeftOut:
    names, path = manifest.label_names, "docs/measured/leave_out.csv"
    if unknown := {row["truth"] for row in rows} - set(names):
        raise MaterialError(f"{path}: truth is {', '.join(sorted(unknown))}; the model knows {', '.join(names)}")
    try:
        truth = np.array([names.index(row["truth"]) for row in rows], np.int64)
        logits = np.array([[float(row[f"fp32_{name}"]) for name in names] for row in rows], np.float32)
        for row in rows:
            int(row["teachers"])
        pointed, dice = (np.array([number(row[column]) for row in rows]) for column in ("pointed", "dice"))
    except (KeyError, ValueError) as error:
        raise MaterialError(f"{path}: {error}; write it again: {MADE_BY['leave_out.csv']}") from error
    words = {column: [row[column] for row in rows] for column in WORDS}
    return LeftOut(Record(names, manifest.absent, truth, {"fp32": logits}, words), pointed, dice)
