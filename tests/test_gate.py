"""The gate: int8 may answer only where it lost at most 1 % of accuracy and of every recall."""

from __future__ import annotations

from datetime import date

import numpy as np

from models.gate import judge
from models.manifest import Artifact, GateVerdict, Label, Manifest

LABELS = ("glioma", "meningioma", "pituitary", "notumor")
TRUTH = np.repeat(np.arange(4), 200)


def logits(wrong: int = 0, label: int = 0) -> np.ndarray:
    """Right answers but for the first `wrong` slices of `label`."""
    answers = TRUTH.copy()
    rows = np.flatnonzero(label == TRUTH)[:wrong]
    answers[rows] = (label + 1) % 4
    return np.eye(4, dtype=np.float32)[answers]


def verdict(fp32: np.ndarray, int8: np.ndarray) -> GateVerdict:
    return judge(LABELS, TRUTH, fp32, int8, digests=("a", "b"), on=date(2026, 11, 23))


def test_equal() -> None:
    """int8 that answers as fp32 does is approved, with its numbers."""
    found = verdict(logits(8), logits(8))

    assert (found.verdict, found.reasons) == ("APPROVED", [])
    assert found.metrics["int8_accuracy"] == 0.99
    assert found.metrics["int8_recall_glioma"] == 0.96
    assert found.metrics["agreement"] == 1.0


def test_exactly_one_percent() -> None:
    """A recall that falls by exactly 1 % passes."""
    assert verdict(logits(0), logits(2)).verdict == "APPROVED"


def test_recall() -> None:
    """One label's recall falling by more than 1 % rejects, even where accuracy hardly moves, and the reason names it."""
    found = verdict(logits(0), logits(3, label=2))

    assert found.verdict == "REJECTED"
    assert [reason.split(":")[0] for reason in found.reasons] == ["recall_pituitary"]


def test_better_int8() -> None:
    """int8 that is better than fp32 passes."""
    assert verdict(logits(20), logits(0)).verdict == "APPROVED"


def test_not_finite() -> None:
    """Logits that are not finite are rejected whatever they say."""
    broken = logits()
    broken[0, 0] = np.inf

    assert verdict(logits(), broken).verdict == "REJECTED"


def test_other_bytes() -> None:
    """A verdict holds for the bytes it was given for, and for no others."""
    files = {"fp32": Artifact(file="f", sha256="a", bytes=1), "int8": Artifact(file="i", sha256="b", bytes=1)}
    labels = [Label(name=name, value="1", scheme="SCT", meaning=name) for name in LABELS]
    manifest = Manifest(name="m", version="1", labels=labels, artifacts=files, gate=verdict(logits(), logits()))

    assert manifest.approved
    assert not manifest.model_copy(update={"artifacts": files | {"int8": Artifact(file="i", sha256="c", bytes=1)}}).approved
