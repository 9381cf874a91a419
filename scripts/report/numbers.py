"""Numbers of one variant alone, and which slices are which; models/tables.py compares two variants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import draws, interval, summed
from models.measures import confusion, of_confusion
from models.record import Record, Variant
from models.tables import Estimate

SEALED_FOLD = "4"  # scripts/datasets seals it; that package wants the train extra
Doubles = NDArray[np.float64]


def sealed_fold(record: Record) -> Record:
    """The pictures of the sealed fold. A record that knows no parts names a patient's slices after the volume."""
    parts, files = record.words.get("part"), record.words.get("file", ())
    rows = np.array(parts) == SEALED_FOLD if parts is not None else np.array([not file.startswith("volumes/") for file in files], bool)
    return record.take(rows) if rows.any() else record


def of_source(record: Record, source: str) -> Record:
    """Its slices of `source`: volume, healthy."""
    sources, files = record.words.get("source"), record.words.get("file", ())
    if sources is not None:
        return record.take(np.array(sources) == source)
    volumes = np.array([file.startswith("volumes/") for file in files], bool)
    return record.take(volumes if source == "volume" and files else np.zeros(len(record), bool))


def numbers(record: Record, variant: Variant = "fp32") -> dict[str, Estimate]:
    """What models/measures.of_confusion measures, each with its interval."""
    counts = _counts(record, variant)
    values = of_confusion(record.labels, record.clear, counts.sum(0, keepdims=True))
    rounds = of_confusion(record.labels, record.clear, draws(record.units) @ summed(record.units, counts))
    return {name: Estimate(float(value[0]), *interval(rounds[name])) for name, value in values.items()}


def points(record: Record, variant: Variant = "fp32") -> dict[str, float]:
    """The same without intervals."""
    found = of_confusion(record.labels, record.clear, _counts(record, variant).sum(0, keepdims=True))
    return {name: float(value[0]) for name, value in found.items()}


def mean(record: Record, values: Doubles) -> Estimate:
    """Mean of `values` (slice,) with its interval."""
    if not values.size:
        return Estimate(float("nan"), float("nan"), float("nan"))
    total, count = (draws(record.units) @ summed(record.units, np.stack([values, np.ones(len(values))], axis=1))).T
    return Estimate(float(values.mean()), *interval(total / count))


def matrix(record: Record, variant: Variant) -> NDArray[np.int64]:
    """(truth, said): slices."""
    side = len(record.labels)
    return np.asarray(_counts(record, variant).sum(0).reshape(side, side), dtype=np.int64)


def _counts(record: Record, variant: Variant) -> Doubles:
    return confusion(len(record.labels), record.truth, record.logits[variant].argmax(1))
