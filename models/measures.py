"""The numbers of the gate: how often a network is right, how well its scores order slices, and whether its probabilities mean anything.

Everything takes weights, (round, slice) or counts (round, ...), so that a bootstrap of thousands of rounds is a product of matrices.
A number that nothing was there to measure with (no slice of that label, say) is nan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of confidence (Guo et al., On calibration of modern neural networks, ICML 2017)
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]


def confusion(labels: int, truth: Rows, said: Rows) -> Doubles:
    """(slice, labels * labels): 1 at (truth, said). Sums of its rows are confusion matrices."""
    found = np.zeros((len(truth), labels * labels))
    found[np.arange(len(truth)), truth * labels + said] = 1.0
    return found


def of_confusion(labels: Sequence[str], clear: int, counts: Doubles) -> dict[str, Doubles]:
    """Numbers, each (round,), of `counts` (round, labels * labels): rows are the truth, columns what was said.

    accuracy; balanced_accuracy (mean recall of the labels that occur); recall_, precision_ and f1_<label>; sensitivity: a tumour's slice
    gets some tumour's label; specificity: a slice without one gets `clear`.
    """
    matrix = counts.reshape(-1, len(labels), len(labels))
    right, real, said = matrix.diagonal(axis1=1, axis2=2), matrix.sum(2), matrix.sum(1)
    recall, precision, f1 = _ratio(right, real), _ratio(right, said), _ratio(2 * right, real + said)
    tumours = np.arange(len(labels)) != clear
    found = {
        "accuracy": _ratio(right.sum(1), real.sum(1)),
        "balanced_accuracy": _ratio(np.nan_to_num(recall).sum(1), (real > 0).sum(1)),
        "sensitivity": _ratio(matrix[:, tumours][:, :, tumours].sum((1, 2)), real[:, tumours].sum(1)),
        "specificity": recall[:, clear],
    }
    for k, label in enumerate(labels):
        found |= {f"recall_{label}": recall[:, k], f"precision_{label}": precision[:, k], f"f1_{label}": f1[:, k]}
    return found


def of_scores(labels: Sequence[str], clear: int, truth: Rows, probabilities: Doubles, weights: Doubles) -> dict[str, Doubles]:
    """Numbers, each (round,), of `probabilities` (slice, label) under `weights` (round, slice).

    auc and ap (areas under ROC and precision-recall curves) of a tumour against none, auc_<label> and ap_<label> of each label against
    the rest; ece, the expected calibration error of the likeliest label; brier, summed over labels, 0 to 2 (Brier, Monthly Weather
    Review 78(1), 1950).
    """
    found = {}
    scores = {"": (truth != clear, 1.0 - probabilities[:, clear])}
    scores |= {f"_{label}": (truth == k, probabilities[:, k]) for k, label in enumerate(labels)}
    for end, (hit, score) in scores.items():
        found[f"auc{end}"], found[f"ap{end}"] = areas(hit, score, weights)
    off = ((probabilities - np.eye(len(labels))[truth]) ** 2).sum(1)
    return found | {"ece": calibration_error(truth, probabilities, weights), "brier": _ratio(weights @ off, weights.sum(1))}


def areas(hit: NDArray[np.bool_], score: Doubles, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Areas under the ROC curve (trapezoids) and the precision-recall curve (steps: average precision), each (round,)."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1) if len(order) else np.zeros(0, np.intp)
    true, false = (np.cumsum(weights[:, order] * kind[order], axis=1)[:, ends] for kind in (hit, ~hit))
    positives, negatives = (weights[:, kind].sum(1) for kind in (hit, ~hit))
    before = np.pad(true, ((0, 0), (1, 0)))
    steps = np.diff(np.pad(false, ((0, 0), (1, 0))), axis=1)
    roc = _ratio((steps * (before[:, 1:] + before[:, :-1]) / 2).sum(1), positives * negatives)
    precision = np.nan_to_num(_ratio(true, true + false))
    return roc, _ratio((np.diff(before, axis=1) * precision).sum(1), positives)


def calibration_error(truth: Rows, probabilities: Doubles, weights: Doubles) -> Doubles:
    """(round,): how far confidence is from accuracy, over BINS bins of confidence, by how many slices each holds."""
    sure, right = probabilities.max(1, initial=0.0), probabilities.argmax(1) == truth
    bins = np.eye(BINS)[np.minimum((sure * BINS).astype(int), BINS - 1)]
    return _ratio(np.abs(weights @ (bins * (sure - right)[:, None])).sum(1), weights.sum(1))


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> Doubles:
    """(slice, label): probabilities; a temperature above 1 makes them less sure. No number counts as 0, infinity as a very large one."""
    scaled = np.nan_to_num(logits).astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def fit_temperature(logits: NDArray[np.float32], truth: Rows) -> float:
    """The temperature of least negative log-likelihood, 0.05 to 20, for `logits` (slice, label). Raises ValueError without slices.

    Along the logarithm of the temperature the likelihood has one hill, so that a golden section finds its top.
    """
    if not len(truth):
        raise ValueError("a temperature is fitted to slices; there are none")
    low, high, share = np.log(0.05), np.log(20.0), (5**0.5 - 1) / 2
    while high - low > 1e-5:
        left, right = high - share * (high - low), low + share * (high - low)
        if _surprise(logits, truth, np.exp(left)) <= _surprise(logits, truth, np.exp(right)):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _surprise(logits: NDArray[np.float32], truth: Rows, temperature: float) -> float:
    """Mean negative log-likelihood."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(truth)), truth]).mean())


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    """`part` / `whole`, nan where there is nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))
