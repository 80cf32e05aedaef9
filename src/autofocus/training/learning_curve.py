"""The learning curve: the log loss of a frozen head by the number of images it learns from.

A head is fitted on a quarter, half and all of the images that each fold leaves, always judged on
the same ones, out of fold. What twice as many images should give is read off the last doubling:
where losses follow a power law towards a limit (Viering & Loog, "The Shape of Learning Curves",
2021), each doubling gives a constant share of the one before.

Notation for array shapes:
    - n: number of images, v: views, d: features, k: classes
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.metrics.calibration import Activation, fit_temperature
from autofocus.training.probe import HEADS, Floats, fit_scaled

FRACS = (0.25, 0.5, 1.0)
# Fewer images a class than this say nothing on how learning goes on.
MIN_IMAGES_A_CLASS = 3
# Largest set that is fitted: the curve of a larger one is flat, and would take minutes.
MAX_IMAGES = 4_000
# The next doubling gives at most this share of the last one: an error that falls as 1 / sqrt(n)
# does; and at least this one, where the doubling before it was larger still.
MOST_KEPT, LEAST_KEPT = 0.5**0.5, 0.25
# Standard errors on either side of a 90 % interval.
Z_90 = 1.645


@dataclass(frozen=True)
class LearningCurve:
    """Log loss by the number of images, and what twice as many should give.

    Attributes:
        points: (images to learn from, mean log loss out of fold), the last with all.
        gain: Expected fall of the log loss from twice as many images, >= 0.
        interval: 90 % interval of that gain, by the spread over images.
    """

    points: tuple[tuple[int, float], ...]
    gain: float
    interval: tuple[float, float]

    def inputs(self) -> dict[str, Any]:
        """Return the curve as `decisions.jsonl` has it."""
        points = [{"num_images": images, "log_loss": loss} for images, loss in self.points]
        return {"points": points, "gain_of_doubling": self.gain, "interval": self.interval}


def measure_learning_curve(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    folds: Sequence[NDArray[np.int64]],
    *,
    kind: Activation,
    num_classes: int,
    c: float,
    groups: Sequence[Hashable],
    seed: int,
) -> LearningCurve | None:
    """Return the learning curve of a frozen head, or None where there are too few images for one.

    Args:
        features: float32 [n, v, d]; all views train, the first is scored.
        targets: The task's targets, [n] or [n, k].
        folds: Positions of the images that each fold holds out.
        kind: The task's activation, a key of `HEADS`.
        num_classes: k.
        c: Inverse regularisation strength of a head on all images.
        groups: Group of each image; a group is learnt from as a whole or not at all.
        seed: Seed of the images that are left out.
    """
    num_images = sum(len(fold) for fold in folds)
    if not len(folds) > 1 or num_images > MAX_IMAGES:
        return None
    rest_size = num_images * (len(folds) - 1) / len(folds)
    fracs = [frac for frac in FRACS if frac * rest_size >= MIN_IMAGES_A_CLASS * num_classes]
    if len(fracs) < 2:
        return None
    judged = np.concatenate(folds)
    orders = [_learning_order(fold, judged, groups, seed + i) for i, fold in enumerate(folds)]
    losses, points = [], []
    for frac in fracs:
        logits = np.zeros((len(features), num_classes))
        for fold, order in zip(folds, orders, strict=True):
            chosen = order[: round(frac * len(order))]
            head = fit_scaled(HEADS[kind].fit, features[chosen], targets[chosen], num_classes, c)
            logits[fold] = head.logits(features[fold, 0])
        losses.append(_calibrated_losses(logits[judged], targets[judged], kind))
        points.append((round(frac * num_images), float(losses[-1].mean())))
    gain, interval = _next_gain(losses)
    return LearningCurve(tuple(points), gain, interval)


def _learning_order(
    fold: NDArray[np.int64],
    judged: NDArray[np.int64],
    groups: Sequence[Hashable],
    seed: int,
) -> NDArray[np.int64]:
    """Return the images outside of a fold in the order in which they are learnt from, [n]."""
    rest = np.setdiff1d(judged, fold)
    numbers: dict[Hashable, int] = {}
    of_image = np.array([numbers.setdefault(groups[i], len(numbers)) for i in rest])
    rank = np.random.default_rng(seed).permutation(len(numbers))
    order: NDArray[np.int64] = rest[np.argsort(rank[of_image], kind="stable")]
    return order


def _calibrated_losses(logits: Floats, targets: NDArray[np.int64], kind: Activation) -> Floats:
    """Return the log loss of each image, [n], at the temperature that fits all of them best.

    Few images make a head too sure of itself, which a temperature mends: that is no lack of images.
    """
    scaled = logits / fit_temperature(logits, targets, kind)
    if kind == "sigmoid":
        each: Floats = (np.logaddexp(0.0, scaled) - targets * scaled).mean(axis=1)
        return each
    log_sum: Floats = np.logaddexp.reduce(scaled, axis=1)
    return log_sum - scaled[np.arange(len(scaled)), targets]


def _next_gain(losses: Sequence[Floats]) -> tuple[float, tuple[float, float]]:
    """Return the gain that the next doubling should give, and its 90 % interval."""
    gains = [before - after for before, after in pairwise(losses)]
    last = float(gains[-1].mean())
    before = float(gains[0].mean()) if len(gains) > 1 else 0.0
    kept = float(np.clip(last / before, LEAST_KEPT, MOST_KEPT)) if before > 0 else LEAST_KEPT
    error = float(gains[-1].std(ddof=1) / np.sqrt(len(gains[-1])))
    low, high = (max(0.0, kept * (last + z * error)) for z in (-Z_90, Z_90))
    return max(0.0, kept * last), (low, high)
