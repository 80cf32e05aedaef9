"""Calibration of probabilities: the expected calibration error, and the temperature against it.

Temperature scaling divides logits by one number T (Guo et al. 2017, "On Calibration of Modern
Neural Networks"): the ranking of classes stays, only the confidence moves.

Notation for array shapes:
    - n: number of images
    - k: number of classes
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Activation = Literal["softmax", "sigmoid"]

# With fewer held-out images the fitted temperature is mostly noise; out-of-fold logits are
# exempt (docs/reference/metrics.md, Calibration). The caller decides.
MIN_CALIBRATION_IMAGES = 100
# Heads that regularisation keeps timid want less than a half.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.2, 5.0
NUM_BINS = 15

_INVERSE_GOLDEN_RATIO = (5**0.5 - 1) / 2
# Width in log temperature at which the search stops; 47 steps from the bounds.
_TOLERANCE = 1e-9


def fit_temperature(
    logits: NDArray[np.floating], targets: NDArray[np.int64], kind: Activation
) -> float:
    """Return the T in [0.2, 5] for which `logits / T` has the least negative log-likelihood.

    The likelihood is convex in 1 / T, hence has one minimum in log T, which a golden-section
    search brackets. T = 1 is returned when nothing else is better.

    Args:
        logits: floats [n, k], from images the network was not fitted on.
        targets: class indices, int64 [n], for softmax; 0 or 1, int64 [n, k], for sigmoid.
        kind: `softmax` for one class an image, `sigmoid` for independent classes.
    """
    assert len(logits) == len(targets) > 0, f"got {len(logits)} logits, {len(targets)} targets"
    values = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(values / np.exp(log_temperature), targets, kind)

    log_temperature = _golden_section(loss, np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    # Losses that differ in rounding only do not justify touching the network's confidence.
    if loss(log_temperature) >= loss(0.0) - 1e-12:
        return 1.0
    return float(np.clip(np.exp(log_temperature), MIN_TEMPERATURE, MAX_TEMPERATURE))


def cross_fitted_temperature(
    logits: NDArray[np.float64],
    targets: NDArray[Any],
    folds: Sequence[NDArray[np.int64]],
    fit: Callable[[NDArray[np.float64], NDArray[Any]], float],
) -> tuple[float, NDArray[np.float64]]:
    """Return the temperature to serve with, and logits that may judge it.

    A temperature that was fitted on an image flatters the loss of that image. Here each fold is
    divided by the temperature of the others; the one to serve with comes from all.

    Args:
        logits: Out-of-fold logits, [n, k].
        targets: Targets, [n] or [n, k].
        folds: Positions of each fold's images, of all folds together each image once. A single
            fold has no others: its logits stay as they are.
        fit: Finds a temperature, such as `fit_temperature` of a kind.

    Returns:
        The temperature, and the divided logits, [n, k].
    """
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(len(logits))), "each image once"
    judged = logits.astype(np.float64)
    for fold in folds if len(folds) > 1 else ():
        others = np.setdiff1d(np.arange(len(logits)), fold)
        judged[fold] /= fit(logits[others], targets[others])
    return fit(logits, targets), judged


def negative_log_likelihood(
    logits: NDArray[np.floating], targets: NDArray[np.int64], kind: Activation
) -> float:
    """Return the mean over images; for sigmoid an image's is the sum over its classes.

    Args:
        logits: floats [n, k].
        targets: class indices, int64 [n], for softmax; 0 or 1, int64 [n, k], for sigmoid.
        kind: `softmax` or `sigmoid`.
    """
    if kind == "sigmoid":
        # log(1 + e^x) - target * x, without overflow on either side.
        return float((np.logaddexp(0.0, logits) - targets * logits).sum(axis=1).mean())
    largest = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    return float((log_sum - logits[np.arange(len(logits)), targets]).mean())


def expected_calibration_error(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_]
) -> float:
    """Return the mean distance between stated confidence and frequency of being right.

    Bins have equal width, closed on the right; each weighs as many predictions as it holds.

    Args:
        confidences: floats [m] in [0, 1]: the top class's probability for softmax, every
            class's for sigmoid.
        correct: bool [m]: whether the prediction was right.

    Returns:
        In [0, 1]; 0 is perfectly calibrated.
    """
    values = confidences.astype(np.float64)
    bins = np.clip(np.ceil(values * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    # |sum of (correct - confidence)| a bin is |accuracy - confidence| times the bin's size.
    gaps = np.bincount(bins, weights=correct - values, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(values))


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where `loss`, which falls and then rises, is least in [low, high]."""
    left = high - _INVERSE_GOLDEN_RATIO * (high - low)
    right = low + _INVERSE_GOLDEN_RATIO * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > _TOLERANCE:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - _INVERSE_GOLDEN_RATIO * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + _INVERSE_GOLDEN_RATIO * (high - low)
            loss_right = loss(right)
    return (low + high) / 2
