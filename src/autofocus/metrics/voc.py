"""Average precision, precision and recall as Pascal VOC and the published schema define them."""

import numpy as np
from numpy.typing import NDArray

from autofocus.metrics.matching import Matches

# Score thresholds of the published precision-recall curves.
THRESHOLDS = np.arange(100) / 100


def average_precision(
    scores: NDArray[np.floating], is_hit: NDArray[np.bool_], num_objects: int
) -> float | None:
    """Return the area under the interpolated precision-recall curve, all points.

    Equal scores share one point of the curve, so that the order of images changes nothing.

    Args:
        scores: floats [d], in any order.
        is_hit: bool [d], whether the detection is correct.
        num_objects: Number of objects to find.

    Returns:
        None when there was nothing to find.
    """
    if num_objects == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    is_last_of_score = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    hits = np.cumsum(is_hit[order])[is_last_of_score]
    num_kept = np.flatnonzero(is_last_of_score) + 1
    recall = np.concatenate([[0.0], hits / num_objects])
    # From each point on, the best precision at that recall or a higher one.
    precision = np.maximum.accumulate((hits / num_kept)[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision))


def average_precisions(matches: Matches) -> list[float | None]:
    """Return average precision of each class; None for a class without objects."""
    counts = ~matches.is_crowd
    classes, scores = matches.classes[counts], matches.scores[counts]
    is_hit = matches.is_hit[counts]
    order = np.argsort(classes, kind="stable")
    ends = np.searchsorted(classes[order], np.arange(len(matches.num_objects) + 1))
    found = []
    for i, num in enumerate(matches.num_objects):
        rows = order[ends[i] : ends[i + 1]]
        found.append(average_precision(scores[rows], is_hit[rows], int(num)))
    return found


def precision_and_recall(
    matches: Matches, kept: NDArray[np.bool_]
) -> tuple[list[float | None], list[float | None]]:
    """Return precision and recall of each class over the detections kept.

    Args:
        matches: Matches of the data set, d detections.
        kept: bool [d].

    Returns:
        Precision, None for a class without detections; recall, None for one without objects.
    """
    hits, misses = (_count(matches, kept & of) for of in (matches.is_hit, _wrong(matches)))
    return divide(hits, hits + misses), divide(hits, matches.num_objects)


def precision_recall_curves(
    matches: Matches,
) -> tuple[dict[str, list[float | None]], list[dict[str, list[float | None]]]]:
    """Return precision and recall at 100 score thresholds: over all objects, and for each class.

    Returns:
        Tables with the columns `score_threshold`, `precision` and `recall`. A threshold above
        all scores has no precision, a class without objects no recall: None.
    """
    hits = _count_from(matches, matches.is_hit)
    misses = _count_from(matches, _wrong(matches))
    each = [_curve(hits[i], misses[i], int(num)) for i, num in enumerate(matches.num_objects)]
    return _curve(hits.sum(axis=0), misses.sum(axis=0), int(matches.num_objects.sum())), each


def mean(values: list[float | None]) -> float | None:
    """Return the mean of the values that are defined, or None."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def divide(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[float | None]:
    """Return part / whole, None where the whole is 0."""
    return [
        float(part / whole) if whole > 0 else None
        for part, whole in zip(parts, wholes, strict=True)
    ]


def _wrong(matches: Matches) -> NDArray[np.bool_]:
    return ~matches.is_hit & ~matches.is_crowd


def _count(matches: Matches, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.bincount(matches.classes[rows], minlength=len(matches.num_objects)).astype(np.int64)


def _count_from(matches: Matches, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of rows of each class that reach each threshold, int64 [k, 100]."""
    k, num = len(matches.num_objects), len(THRESHOLDS)
    # The number of thresholds that a score reaches; compared as float32, so that 0.3 reaches 0.3.
    reached = np.searchsorted(THRESHOLDS.astype(np.float32), matches.scores[rows], side="right")
    cells = matches.classes[rows] * (num + 1) + reached
    counts = np.bincount(cells, minlength=k * (num + 1)).reshape(k, num + 1)
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1][:, 1:].astype(np.int64)


def _curve(
    hits: NDArray[np.int64], misses: NDArray[np.int64], num_objects: int
) -> dict[str, list[float | None]]:
    return {
        "score_threshold": THRESHOLDS.tolist(),
        "precision": divide(hits, hits + misses),
        "recall": divide(hits, np.full_like(hits, num_objects)),
    }
