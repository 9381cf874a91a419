"""The gate: may int8 answer in place of fp32? Drop of accuracy and of every class's recall at most 1 % on slices nobody trained on.

Pure: arrays in, verdict out. The outputs that it judges are ONNX Runtime's (torch's own int8 agrees with them on 98-99 % of slices only).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from models.manifest import GateVerdict

MAX_DROP = 0.01  # of accuracy and of every class's recall: the claim of the text this project grew from
_EPSILON = 1e-9  # so that a drop of exactly 1 % passes in floating point


def judge(
    labels: Sequence[str],
    truth: NDArray[np.int64],
    fp32: NDArray[np.float32],
    int8: NDArray[np.float32],
    *,
    digests: tuple[str, str],
    on: date,
) -> GateVerdict:
    """The verdict over slices.

    `truth` (slice,) are indices into `labels`; `fp32` and `int8` (slice, label) are logits; `digests` the sha256 of both files.
    """
    metrics = {"slices": float(len(truth)), "agreement": _share(fp32.argmax(1) == int8.argmax(1))}
    for name, logits in (("fp32", fp32), ("int8", int8)):
        metrics |= {f"{name}_{key}": value for key, value in measure(labels, truth, logits.argmax(1)).items()}
    reasons = [
        f"{key}: int8 {metrics[f'int8_{key}']:.4f} against fp32 {metrics[f'fp32_{key}']:.4f}, more than {MAX_DROP:.0%} lost"
        for key in ("accuracy", *(f"recall_{label}" for label in labels))
        if metrics[f"fp32_{key}"] - metrics[f"int8_{key}"] > MAX_DROP + _EPSILON
    ]
    if not all(np.isfinite(logits).all() for logits in (fp32, int8)):
        reasons.append("logits are not finite")
    return GateVerdict(
        verdict="REJECTED" if reasons else "APPROVED",
        reasons=reasons,
        judged=on.isoformat(),
        fp32_sha256=digests[0],
        int8_sha256=digests[1],
        metrics={key: round(value, 6) for key, value in metrics.items()},
    )


def measure(labels: Sequence[str], truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, and recall, precision, F1 of every label; a label that never occurs counts as perfect recall."""
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=range(len(labels)), zero_division=0.0)
    found = {"accuracy": _share(truth == predicted)}
    for k, label in enumerate(labels):
        found |= {
            f"recall_{label}": float(recall[k]) if support[k] else 1.0,
            f"precision_{label}": float(precision[k]),
            f"f1_{label}": float(f1[k]),
        }
    return found


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if hits.size else 0.0
