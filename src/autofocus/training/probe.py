"""The frozen probe: a calibrated logistic head on frozen features, in seconds.

Features are centred and divided by one number (the root mean square length), which folds exactly
into the head, so that the result is one plain network. On 134 photos this scaling beat both
per-feature standardisation and unit length out of fold (log-loss 0.075 against 0.140 and 0.084).
C is chosen by out-of-fold log-loss; the same out-of-fold logits give the temperature.
"""

import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from autofocus.data.splits import kfold_indices
from autofocus.manifest import Calibration
from autofocus.metrics.calibration import fit_temperature, negative_log_likelihood
from autofocus.training.folds import Folds

log = logging.getLogger(__name__)

C_GRID = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
NUM_FOLDS = 5
MAX_SEARCH_IMAGES = 4_000
MAX_ITER = 300
# C where folds cannot be afforded: the usual best on a few hundred photos.
DEFAULT_C = 1_000.0
MIN_SEARCH_ITER, MIN_FINAL_ITER = 20, 5
# Shares of the time left; the rest is for a second fit on all images and for packaging.
SEARCH_SHARE, FINAL_SHARE = 0.5, 0.2
NO_BUDGET_S = 600.0
# Rough cost of the solver: two products an iteration, on one ordinary core, and sklearn's call.
FLOPS_A_NUMBER, FLOPS_A_SECOND, CALL_S = 4, 1e10, 0.003
SMALL_PROBLEM = 10_000_000  # numbers in the feature matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearHead:
    """A linear layer over raw features: weight [k, d], bias [k]."""

    weight: Floats
    bias: Floats

    def logits(self, features: NDArray[np.floating]) -> Floats:
        """Return [n, k] for features [n, d]."""
        return features.astype(np.float64) @ self.weight.T + self.bias

    def divided_by(self, temperature: float) -> "LinearHead":
        """Return the head whose logits are divided by `temperature`."""
        return LinearHead(self.weight / temperature, self.bias / temperature)


@dataclass(frozen=True)
class Probe:
    """A fitted head, with its choice of C.

    Attributes:
        head: Calibrated head; ready to be a network's last layer.
        c: Inverse regularisation strength.
        calibration: Temperature that the head contains.
        search: Out-of-fold log-loss by C.
    """

    head: LinearHead
    c: float
    calibration: Calibration
    search: dict[float, float]


@dataclass(frozen=True)
class Effort:
    """Limits of one fit.

    Attributes:
        max_iter: Maximum iterations of the solver.
        stop_s: Time (`time.monotonic()`) after which the remaining classes keep their prior.
    """

    max_iter: int = MAX_ITER
    stop_s: float = float("inf")


FULL_EFFORT = Effort()


class FitHead(Protocol):
    """Fits one head on scaled features."""

    def __call__(
        self,
        features: Floats,
        targets: NDArray[np.int64],
        num_classes: int,
        c: float,
        effort: Effort = FULL_EFFORT,
    ) -> LinearHead:
        """Return a head for features [n, d] and the task's targets."""


@dataclass(frozen=True)
class HeadKind:
    """What a linear head is fitted to say.

    Attributes:
        fit: Fits one.
        loss: Mean loss of its outputs, by which C is chosen.
        temperature: Number that divides its outputs, from those of images it was not fitted on.
        fits_each_class: Whether a fit is one for each class.
    """

    fit: FitHead
    loss: Callable[[Floats, NDArray[Any]], float]
    temperature: Callable[[Floats, NDArray[Any]], float]
    fits_each_class: bool = False


def fit_probe(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    *,
    kind: str,
    num_classes: int,
    labels_of: Sequence[Sequence[str]],
    groups: Sequence[Hashable],
    seed: int,
    deadline_s: float | None = None,
) -> Probe:
    """Choose C, fit and calibrate a head.

    Where folds cannot be afforded (thousands of classes, a short budget) C is `DEFAULT_C` and the
    temperature 1.

    Args:
        features: float32 [n, v, d]: images, views, size. All views train, the first is scored.
        targets: The task's targets, [n] or [n, k].
        kind: The task's activation, a key of `HEADS`.
        num_classes: k.
        labels_of: Class names of each image, for stratified folds.
        groups: Group of each image; a group shares a fold.
        seed: Seed of the folds.
        deadline_s: Time (`time.monotonic()`) by which to end; None for no limit.
    """
    head_kind = HEADS[kind]
    fit = head_kind.fit
    left_s = NO_BUDGET_S if deadline_s is None else max(1.0, deadline_s - time.monotonic())
    final = _final_effort(features, num_classes, head_kind, left_s, deadline_s is not None)
    chosen = _search_subset(len(features), seed)
    folds = kfold_indices(
        [labels_of[i] for i in chosen], [groups[i] for i in chosen], NUM_FOLDS, seed
    )
    folds = [fold for fold in folds if 0 < len(fold) < len(chosen)]
    fits = len(folds) * len(C_GRID)
    effort = _effort(features[chosen], num_classes, head_kind, SEARCH_SHARE * left_s / max(1, fits))
    searched: dict[float, tuple[float, Floats]] = {}
    for c in C_GRID if len(folds) > 1 and effort.max_iter >= MIN_SEARCH_ITER else ():
        logits = _out_of_fold(fit, features[chosen], targets[chosen], folds, num_classes, c, effort)
        searched[c] = (head_kind.loss(logits, targets[chosen]), logits)
    if not searched:
        # Without images or time for folds there is no evidence for another C than a default.
        c = DEFAULT_C if len(folds) > 1 else 1.0
        head = fit_scaled(fit, features, targets, num_classes, c, final)
        return Probe(head, c, Calibration(), {})
    best = min(searched, key=lambda c: searched[c][0])
    temperature = head_kind.temperature(searched[best][1], targets[chosen])
    head = fit_scaled(fit, features, targets, num_classes, best, final)
    return Probe(
        head.divided_by(temperature),
        best,
        Calibration(temperature, "out-of-fold", len(chosen)),
        {c: loss for c, (loss, _) in searched.items()},
    )


@dataclass(frozen=True)
class FoldedHead:
    """A head that was judged on images that it was not fitted on.

    Attributes:
        heads: Heads of the folds' fits, in their order; the last is the one to serve.
        logits: Logits of the images that judge, each from a head that had not seen it, [m, k].
        c: Inverse regularisation strength of the head to serve.
        search: Loss by C.
    """

    heads: Sequence[LinearHead]
    logits: Floats
    c: float
    search: dict[float, float]


def fit_folded_head(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    folds: Folds,
    *,
    kind: str,
    num_classes: int,
    seed: int,
    deadline_s: float | None = None,
) -> FoldedHead:
    """Fit a head on each fold and on all images.

    C of a fold is what suits the images of the other folds best, so that no image chooses the head
    that it judges; with one part all do, one of seven numbers.

    Args:
        features: float32 [n, v, d]: images, views, size. All views train, the first is scored.
        targets: The task's targets, [n] or [n, k].
        folds: Folds of the n images.
        kind: The task's activation, a key of `HEADS`.
        num_classes: k.
        seed: Seed of the part of large sets that C is chosen on.
        deadline_s: Time (`time.monotonic()`) by which to end; None for no limit.
    """
    head_kind = HEADS[kind]
    left_s = NO_BUDGET_S if deadline_s is None else max(1.0, deadline_s - time.monotonic())
    searched = _search_subset(len(features), seed)
    parts = [(np.intersect1d(train, searched), judged) for train, judged in folds.parts]
    num_fits = len(parts) * len(C_GRID)
    effort = _effort(features[searched], num_classes, head_kind, SEARCH_SHARE * left_s / num_fits)
    grid = C_GRID if effort.max_iter >= MIN_SEARCH_ITER and len(searched) > 1 else (DEFAULT_C,)
    final = _final_effort(features, num_classes, head_kind, left_s, deadline_s is not None)

    def fit(train: NDArray[np.int64], c: float, effort: Effort) -> LinearHead:
        return fit_scaled(head_kind.fit, features[train], targets[train], num_classes, c, effort)

    tried = [[fit(train, c, effort) for train, _ in parts] for c in grid]
    logits = [_judge(heads, features, folds) for heads in tried]
    judged, part_of = targets[folds.judged], folds.part_of

    def best_for(chosen: NDArray[np.bool_]) -> int:
        return int(np.argmin([head_kind.loss(each[chosen], judged[chosen]) for each in logits]))

    best = best_for(np.ones(len(judged), bool))
    chosen = [best_for(part_of != part) if len(parts) > 1 else best for part in range(len(parts))]
    if len(searched) == len(features):
        heads = [tried[index][part] for part, index in enumerate(chosen)]
    else:
        heads = [fit(train, grid[chosen[i]], final) for i, (train, _) in enumerate(folds.parts)]
    out_of_fold = _judge(heads, features, folds)
    if folds.everything is not None:
        heads.append(fit(folds.everything, grid[best], final))
    losses = [head_kind.loss(each, judged) for each in logits]
    return FoldedHead(heads, out_of_fold, grid[best], dict(zip(grid, losses, strict=True)))


def _judge(heads: Sequence[LinearHead], features: NDArray[np.float32], folds: Folds) -> Floats:
    """Return the logits of the images that judge, each part's from its head, [m, k]."""
    parts = zip(heads, folds.parts, strict=True)
    return np.concatenate([head.logits(features[judged, 0]) for head, (_, judged) in parts])


def _effort(
    features: NDArray[np.float32], num_classes: int, head_kind: HeadKind, seconds: float
) -> Effort:
    """Return the effort that one fit can make in so many seconds, perhaps 0 iterations."""
    numbers = features.size * num_classes
    overhead_s = CALL_S * (num_classes if head_kind.fits_each_class else 1)
    affordable = (seconds - overhead_s) * FLOPS_A_SECOND / (FLOPS_A_NUMBER * numbers)
    return Effort(max_iter=int(np.clip(affordable, 0, MAX_ITER)))


def _final_effort(
    features: NDArray[np.float32],
    num_classes: int,
    head_kind: HeadKind,
    left_s: float,
    has_deadline: bool,
) -> Effort:
    seconds = FINAL_SHARE * left_s
    max_iter = max(MIN_FINAL_ITER, _effort(features, num_classes, head_kind, seconds).max_iter)
    # Without a deadline nothing depends on the clock: the same job gives the same bits.
    return Effort(max_iter, time.monotonic() + seconds if has_deadline else float("inf"))


def _search_subset(num_images: int, seed: int) -> NDArray[np.int64]:
    """Return the images to choose C on: a random part of large sets, as the optimum is flat."""
    if num_images <= MAX_SEARCH_IMAGES:
        return np.arange(num_images)
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(num_images, MAX_SEARCH_IMAGES, replace=False))


def _out_of_fold(
    fit: FitHead,
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    folds: Sequence[NDArray[np.int64]],
    num_classes: int,
    c: float,
    effort: Effort,
) -> Floats:
    logits = np.zeros((len(features), num_classes))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(features)), fold)
        head = fit_scaled(fit, features[rest], targets[rest], num_classes, c, effort)
        logits[fold] = head.logits(features[fold, 0])
    return logits


def fit_scaled(
    fit: FitHead,
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    num_classes: int,
    c: float,
    effort: Effort = FULL_EFFORT,
) -> LinearHead:
    """Fit on centred, scaled features of all views; return the head for raw features."""
    _, num_views, width = features.shape
    flat = features.reshape(-1, width).astype(np.float64)
    mean = flat.mean(axis=0)
    scale = max(float(np.sqrt(((flat - mean) ** 2).sum(axis=1).mean())), 1e-12)
    # Views are copies, not evidence: C is a weight on the sum over rows.
    repeated = np.repeat(targets, num_views, axis=0)
    head = fit((flat - mean) / scale, repeated, num_classes, c / num_views, effort)
    weight = head.weight / scale
    return LinearHead(weight, head.bias - weight @ mean)


def _fit_softmax(
    features: Floats,
    targets: NDArray[np.int64],
    num_classes: int,
    c: float,
    effort: Effort = FULL_EFFORT,
) -> LinearHead:
    """Fit a softmax over the classes that occur; give the others a small probability."""
    weight = np.zeros((num_classes, features.shape[1]))
    bias = np.zeros(num_classes)
    present = np.unique(targets)
    if len(present) > 1:
        fitted = _logistic(features, targets, c, effort)
        coefficients, intercepts = fitted.coef_, fitted.intercept_
        if len(present) == 2:
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight[present], bias[present] = coefficients, intercepts
    absent = np.setdiff1d(np.arange(num_classes), present)
    level = features @ weight[present].T + bias[present]
    # Laplace's rule: an unseen class is about as probable as half an image.
    bias[absent] = np.logaddexp.reduce(level, axis=1).mean() + np.log(0.5 / (len(features) + 1))
    return LinearHead(weight, bias)


def _fit_sigmoid(
    features: Floats,
    targets: NDArray[np.int64],
    num_classes: int,
    c: float,
    effort: Effort = FULL_EFFORT,
) -> LinearHead:
    """Fit a logistic regression a class; a class without both kinds of images keeps its prior."""
    weight = np.zeros((num_classes, features.shape[1]))
    bias = np.zeros(num_classes)
    num_positive = targets.sum(axis=0)
    prior = (num_positive + 0.5) / (len(targets) + 1)
    for k in range(num_classes):
        if 0 < num_positive[k] < len(targets) and time.monotonic() < effort.stop_s:
            fitted = _logistic(features, targets[:, k], c, effort)
            weight[k], bias[k] = fitted.coef_[0], fitted.intercept_[0]
        else:
            bias[k] = np.log(prior[k] / (1 - prior[k]))
    return LinearHead(weight, bias)


def _logistic(
    features: Floats, targets: NDArray[np.int64], c: float, effort: Effort
) -> LogisticRegression:
    # Threads of BLAS wait for each other longer than products of this size take.
    num_threads = 1 if features.size < SMALL_PROBLEM else None
    with warnings.catch_warnings(), threadpool_limits(num_threads):
        # At a large C the optimum is far and flat; folds judge the result anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Many classes with few images are the user's data, not a mistake in the call.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return LogisticRegression(C=c, max_iter=effort.max_iter).fit(features, targets)


# By the task's activation.
HEADS: dict[str, HeadKind] = {
    "softmax": HeadKind(
        _fit_softmax,
        partial(negative_log_likelihood, kind="softmax"),
        partial(fit_temperature, kind="softmax"),
    ),
    "sigmoid": HeadKind(
        _fit_sigmoid,
        partial(negative_log_likelihood, kind="sigmoid"),
        partial(fit_temperature, kind="sigmoid"),
        fits_each_class=True,
    ),
}


# Maximum number of cached probes; they are small beside their features.
MAX_HEADS = 8

_known: dict[bytes, Probe] = {}


def fit_probe_once(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    *,
    deadline_s: float | None = None,
    **rest: Any,
) -> Probe:
    """Return a cached result of `fit_probe` for the same images and labels, or fit.

    A head that was fitted under a deadline stays as good as the time then allowed: `deadline_s` is
    no part of the cache's key.
    """
    digest = hashlib.sha256(repr((features.shape, targets.shape, sorted(rest.items()))).encode())
    for array in (features, targets):
        digest.update(np.ascontiguousarray(array).data)
    key = digest.digest()
    if key not in _known:
        probe = fit_probe(features, targets, deadline_s=deadline_s, **rest)
        if len(_known) == MAX_HEADS:
            del _known[next(iter(_known))]
        _known[key] = probe
    return _known[key]
