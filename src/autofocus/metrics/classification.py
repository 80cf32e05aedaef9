"""Every published classification metric by its name; definitions in docs/reference/metrics.md.

Numpy only, so that `autofocus evaluate` works in the small install; `tests/parity` holds each
value to scikit-learn's. Values are unrounded floats, and None where a metric is undefined.

Notation for array shapes:
    - n: number of images
    - k: number of classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import AutofocusError, DataError
from autofocus.metrics.calibration import expected_calibration_error

Floats = NDArray[np.float64]

# The published threshold of multi-label metrics and of the endpoint: positive is prob > 0.5.
THRESHOLD = 0.5
# Above this a matrix of JSON numbers is tens of megabytes that nobody can look at.
MAX_CONFUSION_CLASSES = 1000
_BINARY = ("precision_score", "recall_score", "f1_score", "AUC", "average_precision_score")


def multiclass_metrics(
    targets: NDArray[np.int64], probs: NDArray[np.floating], labels: Sequence[str]
) -> dict[str, Any]:
    """Return the published metrics of images that carry exactly one class.

    Args:
        targets: int64 [n], class indices.
        probs: floats [n, k] in [0, 1], rows sum to 1.
        labels: k class names.

    Returns:
        Scalars by name, `*_classwise` dicts {label: value}, `confusion_matrix` in the published
        JSON form (None above `MAX_CONFUSION_CLASSES`), and `undefined_classes`: those without
        positives or negatives, left out of macro and weighted AUC and average precision.

    Raises:
        DataError: If there are no images.
        AutofocusError: If a probability is not finite.
    """
    _check(targets, probs, labels)
    predicted = probs.argmax(axis=1)
    hits = predicted == targets
    k = len(labels)
    counts = _Counts(
        hits=_count(targets[hits], k), actual=_count(targets, k), predicted=_count(predicted, k)
    )
    is_positive = targets[:, None] == np.arange(k)

    metrics: dict[str, Any] = {"accuracy": float(hits.mean())}
    metrics |= _ranking(is_positive, probs, labels)
    metrics |= _decision(counts, labels)
    if k == 2:
        metrics |= {f"{name}_binary": metrics[f"{name}_classwise"][labels[1]] for name in _BINARY}
    metrics["norm_macro_recall"] = _norm_macro_recall(metrics["recall_score_macro"], 1 / k)
    metrics["log_loss"] = _mean_log_loss(probs[np.arange(len(targets)), targets])
    metrics["expected_calibration_error"] = expected_calibration_error(probs.max(axis=1), hits)
    metrics["confusion_matrix"] = _confusion_matrix(targets, predicted, labels)
    return metrics


def multilabel_metrics(
    targets: NDArray[np.int64], probs: NDArray[np.floating], labels: Sequence[str]
) -> dict[str, Any]:
    """Return the published metrics of images that carry any number of classes.

    A class is predicted where its probability is above 0.5.

    Args:
        targets: int64 [n, k], 0 or 1.
        probs: floats [n, k] in [0, 1].
        labels: k class names.

    Returns:
        Scalars by name, `*_classwise` dicts {label: value}, and `undefined_classes`: those
        without positives or negatives, left out of macro and weighted AUC and average precision.

    Raises:
        DataError: If there are no images.
        AutofocusError: If a probability is not finite.
    """
    _check(targets, probs, labels)
    actual, predicted = targets.astype(bool), probs > THRESHOLD
    metrics = _set_metrics(actual, predicted, labels)
    metrics |= _ranking(actual, probs, labels)
    # Every class is a two-way choice of its own, so chance recall is one half whatever k is.
    metrics["norm_macro_recall"] = _norm_macro_recall(metrics["recall_score_macro"], 0.5)
    metrics["log_loss"] = _mean_log_loss(np.where(actual, probs, 1 - probs))
    metrics["expected_calibration_error"] = expected_calibration_error(
        probs.ravel(), actual.ravel()
    )
    return metrics


def auc_and_average_precision(
    is_positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[float, float] | None:
    """Return area under ROC and average precision, or None where either is undefined.

    Equal scores share one threshold, as in scikit-learn: AUC counts a tie of a positive and a
    negative as half, average precision is the step integral without interpolation. Both are read
    off the sorted negatives at the positives' scores: the micro average over images x classes
    (mostly negatives) costs one sort of numbers and no argsort.

    Args:
        is_positive: bool [n].
        scores: floats [n], finite, higher means more likely positive.

    Returns:
        None when there are only positives or only negatives.
    """
    positives, negatives = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    if positives.size == 0 or negatives.size == 0:
        return None
    num_below = np.searchsorted(negatives, positives, side="left")
    num_not_above = np.searchsorted(negatives, positives, side="right")
    auc = float(np.mean(num_below + num_not_above)) / (2 * negatives.size)

    true_positives = positives.size - np.searchsorted(positives, positives, side="left")
    false_positives = negatives.size - num_below
    # Each positive adds 1 / num_positives of recall at the precision of its own threshold.
    average_precision = float(np.mean(true_positives / (true_positives + false_positives)))
    return auc, average_precision


@dataclass(frozen=True)
class _Counts:
    """Images a class, float64 [k] each (whole numbers, so that ratios need no casts)."""

    hits: Floats
    actual: Floats
    predicted: Floats

    def scores(self) -> list[tuple[str, Floats, float]]:
        """Return (name, value a class [k], micro average); 0 / 0 is 0, as in scikit-learn."""
        doubled, both = 2 * self.hits, self.actual + self.predicted
        return [
            _pooled("precision_score", self.hits, self.predicted),
            _pooled("recall_score", self.hits, self.actual),
            _pooled("f1_score", doubled, both),
        ]

    def iou(self) -> tuple[str, Floats, float]:
        """Return the Jaccard index in the form of `scores`."""
        return _pooled("iou", self.hits, self.actual + self.predicted - self.hits)


def _decision(counts: _Counts, labels: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of the one predicted class an image."""
    # As scikit-learn: a class neither present nor predicted does not count at all.
    occurs = counts.actual + counts.predicted > 0
    metrics: dict[str, Any] = {}
    for name, per_class, micro in counts.scores():
        metrics |= _averages(name, per_class[occurs], counts.actual[occurs], micro)
        values = [float(v) if o else None for v, o in zip(per_class, occurs, strict=True)]
        metrics[f"{name}_classwise"] = dict(zip(labels, values, strict=True))
    return metrics


def _set_metrics(
    actual: NDArray[np.bool_], predicted: NDArray[np.bool_], labels: Sequence[str]
) -> dict[str, Any]:
    """Return the metrics of each image's set of classes and the predicted one, bool [n, k] each."""
    both, either = actual & predicted, actual | predicted
    sizes = either.sum(axis=1)
    counts = _Counts(
        hits=both.sum(axis=0).astype(np.float64),
        actual=actual.sum(axis=0).astype(np.float64),
        predicted=predicted.sum(axis=0).astype(np.float64),
    )
    # Nothing there and nothing claimed is a full hit.
    iou = np.where(sizes == 0, 1.0, both.sum(axis=1) / np.maximum(sizes, 1))
    metrics: dict[str, Any] = {
        "iou": float(iou.mean()),
        "accuracy": float((actual == predicted).all(axis=1).mean()),
    }
    for name, per_class, micro in [*counts.scores(), counts.iou()]:
        metrics |= _averages(name, per_class, counts.actual, micro)
        metrics[f"{name}_classwise"] = dict(zip(labels, per_class.tolist(), strict=True))
    return metrics


def _ranking(
    is_positive: NDArray[np.bool_], probs: NDArray[np.floating], labels: Sequence[str]
) -> dict[str, Any]:
    """Return AUC and average precision, averaged and a class, from bool and float [n, k]."""
    per_class = [
        auc_and_average_precision(column, scores)
        for column, scores in zip(is_positive.T, probs.T, strict=True)
    ]
    defined = np.array([pair is not None for pair in per_class])
    pairs = np.array([pair for pair in per_class if pair is not None]).reshape(-1, 2)
    support = is_positive.sum(axis=0).astype(np.float64)[defined]
    micro = auc_and_average_precision(is_positive.ravel(), probs.ravel())

    metrics: dict[str, Any] = {}
    for i, name in enumerate(("AUC", "average_precision_score")):
        metrics |= _averages(name, pairs[:, i], support, micro and micro[i])
        metrics[f"{name}_classwise"] = {
            label: pair and pair[i] for label, pair in zip(labels, per_class, strict=True)
        }
    metrics["undefined_classes"] = [
        label for label, is_defined in zip(labels, defined, strict=True) if not is_defined
    ]
    return metrics


def _averages(
    name: str, per_class: Floats, support: Floats, micro: float | None
) -> dict[str, float | None]:
    macro = float(per_class.mean()) if per_class.size else None
    weighted = macro if macro is None else 0.0
    if support.sum() > 0:
        weighted = float(np.average(per_class, weights=support))
    return {f"{name}_macro": macro, f"{name}_micro": micro, f"{name}_weighted": weighted}


def _pooled(name: str, parts: Floats, wholes: Floats) -> tuple[str, Floats, float]:
    whole = float(wholes.sum())
    return name, _divide(parts, wholes), float(parts.sum()) / whole if whole else 0.0


def _divide(parts: Floats, wholes: Floats) -> Floats:
    return np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)


def _norm_macro_recall(macro_recall: float, chance: float) -> float | None:
    """Return recall rescaled to 0 for chance and 1 for perfection; None with a single class."""
    return (macro_recall - chance) / (1 - chance) if chance < 1 else None


def _mean_log_loss(probs_of_truth: NDArray[np.floating]) -> float:
    # As scikit-learn: a certain and wrong prediction counts as the dtype's epsilon.
    eps = np.finfo(probs_of_truth.dtype).eps
    clipped = np.clip(probs_of_truth.astype(np.float64), eps, 1 - eps)
    return float(-np.log(clipped).mean())


def _confusion_matrix(
    targets: NDArray[np.int64], predicted: NDArray[np.intp], labels: Sequence[str]
) -> dict[str, Any] | None:
    """Return rows of true and columns of predicted classes in the published JSON form."""
    k = len(labels)
    if k > MAX_CONFUSION_CLASSES:
        return None
    matrix = np.bincount(targets * k + predicted, minlength=k * k).reshape(k, k)
    return {
        "schema_type": "confusion_matrix",
        "schema_version": "1.0.0",
        "data": {"class_labels": list(labels), "matrix": matrix.tolist()},
    }


def _count(indices: NDArray[np.integer], k: int) -> Floats:
    return np.bincount(indices, minlength=k).astype(np.float64)


def _check(targets: NDArray[np.int64], probs: NDArray[np.floating], labels: Sequence[str]) -> None:
    n, k = len(targets), len(labels)
    if n == 0:
        raise DataError("metrics need at least 1 image, got 0. Give data with valid rows.")
    assert probs.shape == (n, k), f"probs must have shape [{n}, {k}], got {probs.shape}"
    assert targets.shape in ((n,), (n, k)), f"targets must be [n] or [n, k], got {targets.shape}"
    if not np.isfinite(probs).all():
        num_bad = int((~np.isfinite(probs)).any(axis=1).sum())
        raise AutofocusError(
            f"probabilities must be finite, got NaN or infinity for {num_bad} of {n} images: "
            "the network diverged. Lower learning_rate."
        )
