"""Score thresholds for a wanted precision or recall.

A threshold lets through the decisions of at least its score. For a wanted precision it is the one
with the most recall that has it, for a wanted recall the one with the most precision. Precision and
recall are scikit-learn's (`precision_recall_curve`).

Their 90 % intervals are Wilson's (1927), on as many decisions as groups make them worth (Kish's
design effect; Korn and Graubard 1998): decisions on one image, or on images of one group, are right
or wrong together. Where all are right, or none, each group counts once.

Notation for array shapes:
    - d: number of decisions
    - q: number of right answers that there are to give
    - k: number of classes
    - g: number of groups
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Name of a wish that holds for all classes together that have none of their own.
ALL = "*"
# Normal quantile of a two-sided 90 % interval.
_Z = 1.6448536269514722
# A threshold lies at most so far below the lowest score that it lets through.
_MAX_GAP = 0.01
# 19 of 20 are 0.95 in whatever arithmetic.
_ROUNDING = 1e-9
_DECIMALS = (2, 3, 4, 5, 6)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Decisions:
    """Decisions that a threshold may let through, and the answers that were there to give.

    Attributes:
        classes: int64 [d], class that each decides for.
        scores: floats [d].
        is_right: bool [d].
        images: int64 [d], position of its image.
        true_classes: int64 [q], class of each right answer there is.
        true_images: int64 [q], position of its image.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]
    is_right: NDArray[np.bool_]
    images: NDArray[np.int64]
    true_classes: NDArray[np.int64]
    true_images: NDArray[np.int64]

    def of(self, classes: Sequence[int]) -> "Decisions":
        """Return those of some classes."""
        own, true = np.isin(self.classes, classes), np.isin(self.true_classes, classes)
        return Decisions(
            self.classes[own],
            self.scores[own],
            self.is_right[own],
            self.images[own],
            self.true_classes[true],
            self.true_images[true],
        )


@dataclass(frozen=True)
class Reached:
    """What decisions of at least a threshold's score reach; None where nothing is decided.

    Attributes:
        precision: Share of them that is right.
        precision_interval: Its 90 % interval.
        recall: Share of the right answers there are that is among them.
        recall_interval: Its 90 % interval.
        num_decisions: Their number.
        num_true: Number of right answers there are.
    """

    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    recall_interval: Interval | None
    num_decisions: int
    num_true: int


@dataclass(frozen=True)
class Threshold:
    """A fitted threshold.

    Attributes:
        label: Its class; `ALL` for all classes together that have none of their own.
        threshold: Least score.
        min_precision: Wanted precision, or None.
        min_recall: Wanted recall, or None.
        is_reached: Whether what is wanted was reached; if not, this is as near as it gets.
        reached: Precision and recall on the images that it was fitted on.
    """

    label: str
    threshold: float
    min_precision: float | None
    min_recall: float | None
    is_reached: bool
    reached: Reached

    def document(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        fields = asdict(self)
        reached: dict[str, Any] = fields.pop("reached")
        return fields | reached


def fit(
    decisions: Decisions,
    labels: Sequence[str],
    groups: Sequence[Hashable],
    min_precision: Mapping[str, float],
    min_recall: Mapping[str, float],
) -> list[Threshold]:
    """Return a threshold for each wish for which some decision is right.

    Args:
        decisions: Decisions on images that the model was not fitted on.
        labels: k class names.
        groups: Group of each image.
        min_precision: Wanted precision by class, or by `ALL`.
        min_recall: Wanted recall, likewise; where both are wanted precision comes first.
    """
    own = [label for label in labels if label in min_precision or label in min_recall]
    rest = [index for index, label in enumerate(labels) if label not in own]
    wishes = [(label, [labels.index(label)]) for label in own]
    if ALL in min_precision or ALL in min_recall:
        wishes.append((ALL, rest))
    found = []
    for label, classes in wishes:
        chosen = decisions.of(classes)
        if not chosen.is_right.any():
            continue
        wanted = min_precision.get(label), min_recall.get(label)
        threshold, is_reached = choose(chosen, *wanted)
        reached = reached_at(chosen, groups, threshold)
        found.append(Threshold(label, threshold, *wanted, is_reached, reached))
    return found


def reached_on(
    decisions: Decisions,
    labels: Sequence[str],
    groups: Sequence[Hashable],
    of_class: Sequence[float],
    fitted: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return what fitted thresholds reach on other images, as JSON objects.

    Args:
        decisions: Decisions on those images.
        labels: k class names.
        groups: Group of each image.
        of_class: Threshold of each class, [k].
        fitted: Documents of the fitted thresholds.
    """
    own = {document["label"] for document in fitted}
    found = []
    for document in fitted:
        is_all = document["label"] == ALL
        chosen = [
            index
            for index, label in enumerate(labels)
            if (label not in own if is_all else label == document["label"])
        ]
        threshold = of_class[chosen[0]]
        reached = reached_at(decisions.of(chosen), groups, threshold)
        wanted = {name: document[name] for name in ("label", "min_precision", "min_recall")}
        found.append({**wanted, "threshold": threshold, **asdict(reached)})
    return found


def choose(
    decisions: Decisions, min_precision: float | None, min_recall: float | None
) -> tuple[float, bool]:
    """Return a threshold, and whether it reaches what is wanted.

    Args:
        decisions: Decisions, one of which is right at least.
        min_precision: Wanted precision; None where only recall is.
        min_recall: Wanted recall.
    """
    scores, precision, recall = curve(decisions)
    first, second, least = precision, recall, min_precision
    if least is None:
        assert min_recall is not None, "something is wanted"
        first, second, least = recall, precision, min_recall
    is_enough = first >= least - _ROUNDING
    if is_enough.any():
        # Most of the other, then most of the wanted one.
        best = int(np.lexsort((first, second, is_enough))[-1])
    else:
        best = int(np.lexsort((second, first))[-1])
    is_reached = bool(is_enough[best])
    if min_recall is not None:
        is_reached = is_reached and bool(recall[best] >= min_recall - _ROUNDING)
    lower = scores[best + 1] if best + 1 < len(scores) else -np.inf
    return _between(float(lower), float(scores[best])), is_reached


def curve(
    decisions: Decisions,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the different scores, descending, and precision and recall at each, floats [<= d]."""
    order = np.argsort(-decisions.scores, kind="stable")
    scores = decisions.scores[order]
    is_last = np.append(scores[1:] != scores[:-1], True)
    hits = np.cumsum(decisions.is_right[order])[is_last]
    num_let_through = np.flatnonzero(is_last) + 1
    return (
        scores[is_last].astype(np.float64),
        hits / num_let_through,
        hits / len(decisions.true_classes),
    )


def reached_at(decisions: Decisions, groups: Sequence[Hashable], threshold: float) -> Reached:
    """Return what a threshold reaches.

    Args:
        decisions: Decisions.
        groups: Group of each image.
        threshold: Least score, compared in single precision, as scores are reported.
    """
    passes = decisions.scores.astype(np.float32) >= np.float32(threshold)
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(each, len(numbers)) for each in groups], np.int64)
    num_groups = len(numbers)

    def count(images: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(group[images], minlength=num_groups)

    hits = count(decisions.images[passes & decisions.is_right])
    let_through, true = count(decisions.images[passes]), count(decisions.true_images)
    return Reached(
        _share(hits, let_through),
        grouped_interval(hits, let_through),
        _share(hits, true),
        grouped_interval(hits, true),
        int(let_through.sum()),
        int(true.sum()),
    )


def threshold_line(document: Mapping[str, Any]) -> str:
    """Return a fitted threshold as a line for people.

    Args:
        document: `Threshold.document`, or one of `reached_on`; and `source`, its images.
    """
    wishes = [
        f"{name} {document[f'min_{name}']:g}"
        for name in ("precision", "recall")
        if document[f"min_{name}"] is not None
    ]
    reached = ", ".join(_share_text(document, name) for name in ("precision", "recall"))
    line = f"threshold {document['threshold']:g}: {reached} on {document['source']}"
    label = named(document["label"])
    if document.get("is_reached", True):
        return f"{label}: {line}"
    return f"{label}: {' and '.join(wishes)} is not reached; as near as it gets: {line}"


def _share_text(document: Mapping[str, Any], name: str) -> str:
    value, interval = document[name], document[f"{name}_interval"]
    if value is None or interval is None:
        return f"{name} undefined"
    return f"{name} {value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def named(label: str) -> str:
    """Return the name of a threshold's classes for people."""
    return "all classes" if label == ALL else label


def grouped_interval(hits: NDArray[np.int64], totals: NDArray[np.int64]) -> Interval | None:
    """Return the 90 % interval of a share.

    Args:
        hits: int64 [g], hits of each group.
        totals: int64 [g], tries of each group; hits are among them.

    Returns:
        (low, high) in [0, 1]; None without tries.
    """
    num, num_groups = int(totals.sum()), int(np.count_nonzero(totals))
    if num == 0:
        return None
    share = float(hits.sum()) / num
    worth = float(num_groups)
    if num_groups > 1 and 0 < share < 1:
        spread = float(((hits - share * totals) ** 2).sum())
        effect = spread / (num * share * (1 - share))
        # Groups that are right and wrong by turns are no more evidence than single decisions.
        worth = num / max(1.0, effect)
    centre = (share + _Z**2 / (2 * worth)) / (1 + _Z**2 / worth)
    half = _Z / (1 + _Z**2 / worth) * (share * (1 - share) / worth + _Z**2 / (4 * worth**2)) ** 0.5
    # Of all right the upper end is 1, but for rounding.
    return round(max(0.0, centre - half), 6), round(min(1.0, centre + half), 6)


def _share(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> float | None:
    whole = int(wholes.sum())
    return int(parts.sum()) / whole if whole else None


def _between(lower: float, score: float) -> float:
    """Return a short number above `lower` and at most `score`, about half-way between them.

    Then another arithmetic, such as ONNX Runtime's, decides the same.
    """
    middle = (max(lower, score - _MAX_GAP) + score) / 2
    for decimals in _DECIMALS:
        short = round(middle, decimals)
        if lower < float(np.float32(short)) <= score and short >= 0:
            return short
    return score
