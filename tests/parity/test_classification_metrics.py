"""Every published scalar against scikit-learn's own call on the same arrays."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.classification import (
    auc_and_average_precision,
    multiclass_metrics,
    multilabel_metrics,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")

AVERAGES = ("macro", "micro", "weighted")
THRESHOLDED = {
    "f1_score": sklearn_metrics.f1_score,
    "precision_score": sklearn_metrics.precision_score,
    "recall_score": sklearn_metrics.recall_score,
}
RANKED = {
    "AUC": sklearn_metrics.roc_auc_score,
    "average_precision_score": sklearn_metrics.average_precision_score,
}


def exactly(value: Any) -> object:
    return pytest.approx(value, abs=1e-12, rel=0)


def names(k: int) -> list[str]:
    return [f"class{i}" for i in range(k)]


def multiclass_data(n: int, k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(n) % k)
    logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[targets]
    # Rounded so that scores tie within and across classes.
    probs = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2) + 1e-3
    return targets, probs / probs.sum(axis=1, keepdims=True)


def multilabel_data(n: int, k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, k)) < 0.3).astype(np.int64)
    targets[0], targets[1] = 1, 0
    logits = rng.normal(size=(n, k)) + 1.5 * (targets - 0.5)
    return targets, np.round(1 / (1 + np.exp(-logits)), 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "k"), [(40, 2), (97, 4), (200, 17)])
def test_multiclass_scalars_equal_scikit_learn(n: int, k: int, seed: int) -> None:
    targets, probs = multiclass_data(n, k, seed)
    metrics = multiclass_metrics(targets, probs, names(k))
    predicted, one_hot = probs.argmax(axis=1), np.eye(k, dtype=int)[targets]

    assert metrics["undefined_classes"] == []
    assert metrics["accuracy"] == exactly(sklearn_metrics.accuracy_score(targets, predicted))
    assert metrics["log_loss"] == exactly(sklearn_metrics.log_loss(targets, probs))
    assert metrics["norm_macro_recall"] == exactly(
        sklearn_metrics.balanced_accuracy_score(targets, predicted, adjusted=True)
    )
    for average in AVERAGES:
        for name, score in THRESHOLDED.items():
            expected = score(targets, predicted, average=average, zero_division=0)
            assert metrics[f"{name}_{average}"] == exactly(expected), name
        for name, score in RANKED.items():
            assert metrics[f"{name}_{average}"] == exactly(score(one_hot, probs, average=average))
    for name, score in THRESHOLDED.items():
        each = score(targets, predicted, average=None, zero_division=0)
        assert list(metrics[f"{name}_classwise"].values()) == exactly(each)
    for name, score in RANKED.items():
        each = score(one_hot, probs, average=None)
        assert list(metrics[f"{name}_classwise"].values()) == exactly(each)
    matrix = sklearn_metrics.confusion_matrix(targets, predicted)
    assert metrics["confusion_matrix"]["data"]["matrix"] == matrix.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_binary_scalars_equal_scikit_learn(seed: int) -> None:
    targets, probs = multiclass_data(60, 2, seed)
    metrics = multiclass_metrics(targets, probs, ["no", "yes"])
    predicted = probs.argmax(axis=1)
    for name, score in THRESHOLDED.items():
        assert metrics[f"{name}_binary"] == exactly(score(targets, predicted, average="binary"))
    for name, score in RANKED.items():
        assert metrics[f"{name}_binary"] == exactly(score(targets, probs[:, 1]))


def test_classes_absent_from_targets_average_as_scikit_learn_does() -> None:
    targets, probs = multiclass_data(60, 5, seed=0)
    kept = (targets != 3) & (targets != 4)
    # Class 3 is predicted without being there; class 4 neither occurs nor is predicted.
    targets, probs = targets[kept], probs[kept] * [1, 1, 1, 1, 1e-6]
    probs[:5, 3] = 2.0
    probs /= probs.sum(axis=1, keepdims=True)
    metrics = multiclass_metrics(targets, probs, names(5))
    predicted = probs.argmax(axis=1)

    for name, score in THRESHOLDED.items():
        for average in AVERAGES:
            expected = score(targets, predicted, average=average, zero_division=0)
            assert metrics[f"{name}_{average}"] == exactly(expected), name
        assert metrics[f"{name}_classwise"]["class3"] == 0.0
        assert metrics[f"{name}_classwise"]["class4"] is None
    assert metrics["undefined_classes"] == ["class3", "class4"]
    present = np.eye(5, dtype=int)[targets][:, :3]
    for name, score in RANKED.items():
        for average in ("macro", "weighted"):
            expected = score(present, probs[:, :3], average=average)
            assert metrics[f"{name}_{average}"] == exactly(expected), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "k"), [(30, 1), (40, 2), (97, 6)])
def test_multilabel_scalars_equal_scikit_learn(n: int, k: int, seed: int) -> None:
    targets, probs = multilabel_data(n, k, seed)
    metrics = multilabel_metrics(targets, probs, names(k))
    predicted = (probs > 0.5).astype(int)

    assert metrics["accuracy"] == exactly(sklearn_metrics.accuracy_score(targets, predicted))
    losses = [sklearn_metrics.log_loss(targets[:, i], probs[:, i]) for i in range(k)]
    assert metrics["log_loss"] == exactly(np.mean(losses))
    check_sets(metrics, targets, predicted)
    for average in AVERAGES:
        for name, score in RANKED.items():
            assert metrics[f"{name}_{average}"] == exactly(score(targets, probs, average=average))


def check_sets(
    metrics: dict[str, float],
    targets: NDArray[np.int64],
    predicted: NDArray[np.int64],
) -> None:
    """Compare all that depends on predicted sets of classes, int [n, k]."""
    # scikit-learn's own "samples" average takes columns apart only from two classes on.
    padded = [np.hstack([array, np.zeros_like(array[:, :1])]) for array in (targets, predicted)]
    iou = sklearn_metrics.jaccard_score(*padded, average="samples", zero_division=1)
    assert metrics["iou"] == exactly(iou)
    # With one column scikit-learn reads a binary problem; as two its first is the class.
    count = targets.shape[1]
    for name, score in {**THRESHOLDED, "iou": sklearn_metrics.jaccard_score}.items():
        for average in AVERAGES:
            columns = list(range(count))
            expected = score(*padded, average=average, labels=columns, zero_division=0)
            assert metrics[f"{name}_{average}"] == exactly(expected), (name, average)


def test_multilabel_class_without_positives_equals_scikit_learn_on_the_others() -> None:
    targets, probs = multilabel_data(50, 4, seed=5)
    targets[:, 2] = 0
    metrics = multilabel_metrics(targets, probs, names(4))
    others = [0, 1, 3]
    for name, score in RANKED.items():
        for average in ("macro", "weighted"):
            expected = score(targets[:, others], probs[:, others], average=average)
            assert metrics[f"{name}_{average}"] == exactly(expected)
        assert metrics[f"{name}_classwise"]["class2"] is None
    assert metrics["undefined_classes"] == ["class2"]


def test_certain_probabilities_cost_what_scikit_learn_says() -> None:
    targets = np.array([0, 1, 1, 0])
    certain = np.array([[1, 0], [0, 1], [1, 0], [0.5, 0.5]])
    for probs in (certain.astype(np.float32), certain):
        expected = sklearn_metrics.log_loss(targets, probs)
        # scikit-learn stays in the input's dtype for the logarithm, autofocus does not.
        tolerance = 1e-6 if probs.dtype == np.float32 else 1e-12
        found = multiclass_metrics(targets, probs, names(2))["log_loss"]
        assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("decimals", [1, 3, 12])
def test_ranking_equals_scikit_learn_however_many_scores_tie(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for _ in range(20):
        scores = np.round(rng.random(50), decimals)
        is_positive = rng.permutation(np.arange(50) < rng.integers(1, 50))
        found = auc_and_average_precision(is_positive, scores)
        expected = [score(is_positive, scores) for score in RANKED.values()]
        assert found == exactly(expected)
