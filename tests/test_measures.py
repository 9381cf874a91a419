"""The gate's numbers are those that everybody means by their names: scikit-learn's, and worked examples where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from models import measures

LABELS = ("a", "b", "c", "none")
CLEAR = 3


def drawn(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Truth (slice,) and probabilities (slice, label) that are right more often than not; rounded, many are alike."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)) + 1.2 * np.eye(4)[truth]
    probabilities = measures.softmax((np.round(logits) if ties else logits).astype(np.float32))
    return truth, probabilities


def one(numbers: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in numbers.items()}


@pytest.mark.parametrize("seed", range(3))
def test_of_labels(seed: int) -> None:
    """Accuracy, balanced accuracy, recall, precision and F1 are scikit-learn's; sensitivity and specificity those of any tumour vs none."""
    truth, probabilities = drawn(seed, ties=False)
    said = probabilities.argmax(1)
    found = one(measures.of_confusion(LABELS, CLEAR, measures.confusion(4, truth, said).sum(0, keepdims=True)))

    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, said)
    for k, label in enumerate(LABELS):
        assert [found[f"{kind}_{label}"] for kind in ("precision", "recall", "f1")] == pytest.approx([precision[k], recall[k], f1[k]])
    assert found["sensitivity"] == pytest.approx(metrics.recall_score(truth != CLEAR, said != CLEAR))
    assert found["specificity"] == pytest.approx(metrics.recall_score(truth == CLEAR, said == CLEAR))


@pytest.mark.parametrize("ties", [False, True])
def test_of_scores(ties: bool) -> None:
    """Areas under both curves are scikit-learn's, with scores that are alike too."""
    truth, probabilities = drawn(1, ties)
    assert ties == (len(np.unique(probabilities[:, 0])) < 200)
    found = one(measures.of_scores(LABELS, CLEAR, truth, probabilities, np.ones((1, 300))))

    any_ = (truth != CLEAR, 1 - probabilities[:, CLEAR])
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(*any_))
    assert found["ap"] == pytest.approx(metrics.average_precision_score(*any_))
    for k, label in enumerate(LABELS):
        assert found[f"auc_{label}"] == pytest.approx(metrics.roc_auc_score(truth == k, probabilities[:, k]))
        assert found[f"ap_{label}"] == pytest.approx(metrics.average_precision_score(truth == k, probabilities[:, k]))


def test_weights_are_repetitions() -> None:
    """A slice of weight 2 counts as two slices, one of weight 0 as none, in every number."""
    truth, probabilities = drawn(2, ties=True)
    often = np.random.default_rng(3).integers(0, 3, 300)
    weighed = one(measures.of_scores(LABELS, CLEAR, truth, probabilities, often[None].astype(float)))
    repeated = np.repeat(np.arange(300), often)
    plain = one(measures.of_scores(LABELS, CLEAR, truth[repeated], probabilities[repeated], np.ones((1, len(repeated)))))

    assert weighed == pytest.approx(plain)


def test_calibration() -> None:
    """Brier score and calibration error of four slices, worked by hand."""
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    found = one(measures.of_scores(("a", "b"), 1, truth, probabilities, np.ones((1, 4))))

    assert found["brier"] == pytest.approx((0.02 + 0.02 + 1.62 + 0.32) / 4)
    assert found["ece"] == pytest.approx(3 / 4 * abs(0.9 - 2 / 3) + 1 / 4 * abs(0.6 - 1))


def test_nothing_to_measure_with() -> None:
    """A label that never occurs has no recall and no area; balanced accuracy is that of the others, as scikit-learn's."""
    truth, said = np.array([0, 0, 1, 3]), np.array([0, 1, 1, 3])
    counts = measures.confusion(4, truth, said).sum(0, keepdims=True)
    found = one(measures.of_confusion(LABELS, CLEAR, counts))
    scores = one(measures.of_scores(LABELS, CLEAR, truth, np.eye(4)[said], np.ones((1, 4))))

    assert np.isnan([found["recall_c"], found["precision_c"], scores["auc_c"], scores["ap_c"]]).all()
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, said))


def test_temperature() -> None:
    """The temperature that made probabilities too sure is found again, and none is without slices."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)).astype(np.float32) * 2
    truth = np.array([rng.choice(4, p=p) for p in measures.softmax(logits)])

    assert measures.fit_temperature(logits * 3, truth) == pytest.approx(3, rel=0.05)
    with pytest.raises(ValueError, match="there are none"):
        measures.fit_temperature(logits[:0], truth[:0])


def test_softmax() -> None:
    """Probabilities add up to 1 however large a logit is, and whatever is no number."""
    found = measures.softmax(np.array([[1e4, 0], [np.nan, 0], [np.inf, 0]], np.float32))
    assert found == pytest.approx(np.array([[1, 0], [0.5, 0.5], [1, 0]]))
