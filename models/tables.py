"""The tables of the gate: what each variant gets right, how sure that is, what int8 loses; of all slices, of groups, of whole studies.

    table, tables: numbers of slices, with 95 % intervals of a bootstrap over blocks | studies: what was called, by what was true

Both variants are drawn together, so that a drop's interval knows that they were asked about the same slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import bootstrap, measures
from models.record import VARIANTS, Record, StudyRow, Variant

READ = 500  # rounds for groups and for areas and calibration: their intervals are read, and decide nothing
ERRORS = ("ece", "brier")  # less of them is better
Z = 1.959964  # two-sided 95 % of a normal distribution
Doubles = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number and its two-sided 95 % interval; nan where nothing was there to measure with."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """One number of both variants. `drop` is what int8 loses, above 0 where it is worse, and `upper` its one-sided 95 % bound."""

    name: str
    fp32: Estimate
    int8: Estimate
    drop: float
    upper: float


class Table(NamedTuple):
    """Numbers of some slices: all of them (`by` is "all"), or those of one stratum, plane or source (`by` that column, `word` which)."""

    by: str
    word: str
    slices: int
    blocks: int  # what was drawn whole
    agreement: float  # share of slices on which both variants name the same label
    lines: Mapping[str, Line]  # by name; measures.py says what they are


class Tally(NamedTuple):
    """What one variant called some studies."""

    right: Estimate  # share: present with the true label, absent where nothing is
    present: int
    unsure: int
    absent: int


class StudyTable(NamedTuple):
    """Studies with one true label, or "all" of them."""

    truth: str
    studies: int
    same: int  # both variants make the same call with the same label
    fp32: Tally
    int8: Tally


def tables(record: Record, temperature: float = 1.0) -> list[Table]:
    """Of all slices, then of every stratum, plane and source that the record names."""
    groups = [table(part, by, word, temperature, READ) for by, word, part in record.groups()]
    return [table(record, temperature=temperature), *groups]


def table(record: Record, by: str = "all", word: str = "", temperature: float = 1.0, rounds: int = bootstrap.ROUNDS) -> Table:
    """Every number of both variants. `temperature` divides the logits before they become probabilities."""
    units = record.units
    drawn = bootstrap.draws(units, rounds)
    found = {v: _numbers(record, v, units, np.concatenate([np.ones((1, drawn.shape[1])), drawn]), temperature) for v in VARIANTS}
    lines = {name: _line(name, *(found[v][name] for v in VARIANTS)) for name in found["fp32"]}
    fp32, int8 = (record.logits[v].argmax(1) for v in VARIANTS)
    same = float((fp32 == int8).mean()) if len(record) else float("nan")
    return Table(by, word, len(record), drawn.shape[1], same, lines)


def _numbers(record: Record, variant: Variant, units: NDArray[np.intp], drawn: Doubles, temperature: float) -> dict[str, Doubles]:
    """Each (1 + rounds,): first with every unit once, which is what was measured, then as the units were drawn."""
    labels, truth, logits = record.labels, record.truth, record.logits[variant]
    said = measures.confusion(len(labels), truth, np.asarray(logits.argmax(1), np.int64))
    found = measures.of_confusion(labels, record.clear, drawn @ bootstrap.summed(units, said))
    probabilities = measures.softmax(logits, temperature)
    parts = [measures.of_scores(labels, record.clear, truth, probabilities, w) for w in bootstrap.chunks(units, drawn[: READ + 1])]
    return found | {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _line(name: str, fp32: Doubles, int8: Doubles) -> Line:
    drop = int8 - fp32 if name in ERRORS else fp32 - int8
    return Line(name, _estimate(fp32), _estimate(int8), float(drop[0]), bootstrap.upper(drop[1:]))


def _estimate(numbers: Doubles) -> Estimate:
    return Estimate(float(numbers[0]), *bootstrap.interval(numbers[1:]))


def studies(record: Record) -> list[StudyTable]:
    """Of all studies and of those of each true label; nothing where the record has none."""
    rows = record.studies
    parts = {"all": rows, **{label: tuple(row for row in rows if row.truth == label) for label in record.labels}}
    return [_study_table(name, part, record.absent) for name, part in parts.items() if part]


def _study_table(name: str, rows: tuple[StudyRow, ...], absent: str) -> StudyTable:
    same = sum(row.calls["fp32"][:2] == row.calls["int8"][:2] for row in rows)
    return StudyTable(name, len(rows), same, *(_tally(rows, variant, absent) for variant in VARIANTS))


def _tally(rows: tuple[StudyRow, ...], variant: Variant, absent: str) -> Tally:
    calls = [row.calls[variant].call for row in rows]
    right = sum(is_right(row, variant, absent) for row in rows)
    return Tally(_share(right, len(rows)), *(calls.count(call) for call in ("present", "unsure", "absent")))


def is_right(row: StudyRow, variant: Variant, absent: str) -> bool:
    """Present with the true label, or absent where nothing is; unsure never."""
    call, label, _ = row.calls[variant]
    return call == "absent" if row.truth == absent else (call, label) == ("present", row.truth)


def _share(hits: int, count: int) -> Estimate:
    """With Wilson's interval (JASA 22, 1927): studies are few, and a bootstrap of ten right ones would be sure of all others."""
    share, spread = hits / count, Z * Z / count
    middle = (share + spread / 2) / (1 + spread)
    reach = (spread * share * (1 - share) + spread * spread / 4) ** 0.5 / (1 + spread)
    return Estimate(share, max(0.0, middle - reach), min(1.0, middle + reach))
