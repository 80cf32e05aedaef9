"""The learning curve: falls where images teach, is flat where not, and promises little."""

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.calibration import Activation, fit_temperature, negative_log_likelihood
from autofocus.training.learning_curve import LearningCurve, _next_gain, measure_learning_curve
from autofocus.training.probe import HEADS, fit_scaled


def noisy_images(n: int, width: int = 40) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features [n, 1, width] of which the first two tell three classes apart."""
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 3
    features = rng.normal(size=(n, width))
    features[:, :2] += 2 * np.array([[0, 0], [1, 0], [0, 1]])[targets]
    return features[:, None].astype(np.float32), targets


def measure(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    kind: Activation = "softmax",
    groups: list[int] | None = None,
) -> LearningCurve | None:
    order = np.random.default_rng(1).permutation(len(features))
    folds = [np.sort(part) for part in np.array_split(order, 5)]
    return measure_learning_curve(
        features,
        targets,
        folds,
        kind=kind,
        num_classes=3,
        c=1.0,
        groups=list(range(len(features))) if groups is None else groups,
        seed=0,
    )


def test_more_images_teach_more_and_twice_as_many_are_expected_to_give_less_again() -> None:
    features, targets = noisy_images(300)
    curve = measure(features, targets)
    assert curve is not None
    sizes, losses = zip(*curve.points, strict=True)
    assert sizes == (75, 150, 300)
    assert losses[0] > losses[1] > losses[2]
    last = losses[1] - losses[2]
    assert 0 < curve.gain < last
    assert curve.interval[0] < curve.gain < curve.interval[1]
    assert curve == measure(features, targets), "the seed decides it"
    more = measure(*noisy_images(600))
    assert more is not None
    really = losses[2] - more.points[-1][1]
    assert curve.interval[0] <= really <= 2 * curve.interval[1]


def test_the_last_point_is_the_out_of_fold_loss_of_all_images() -> None:
    features, targets = noisy_images(120)
    order = np.random.default_rng(1).permutation(120)
    logits = np.zeros((120, 3))
    for fold in np.array_split(order, 5):
        rest = np.setdiff1d(np.arange(120), fold)
        head = fit_scaled(HEADS["softmax"].fit, features[rest], targets[rest], 3, 1.0)
        logits[fold] = head.logits(features[fold, 0])
    loss = negative_log_likelihood(
        logits / fit_temperature(logits, targets, "softmax"), targets, "softmax"
    )
    curve = measure(features, targets)
    assert curve is not None
    assert curve.points[-1] == (120, pytest.approx(loss, rel=1e-6))


def test_a_sigmoid_has_the_mean_over_labels_as_the_published_log_loss() -> None:
    features, targets = noisy_images(150)
    rows = (targets[:, None] == np.arange(3)).astype(np.int64)
    curve = measure(features, rows, "sigmoid")
    assert curve is not None
    assert curve.points[0][1] > curve.points[-1][1]
    assert 0 < curve.points[-1][1] < np.log(2)


def test_labels_by_chance_promise_next_to_nothing() -> None:
    features, targets = noisy_images(300)
    chance = np.random.default_rng(5).permutation(targets)
    curve = measure(features, chance)
    assert curve is not None
    assert curve.points[-1][1] > 1.0
    assert curve.gain < 0.02


def test_copies_of_one_photo_are_learnt_from_together() -> None:
    """Half of the groups is half of what can be learnt, however many photos each has."""
    features, targets = noisy_images(60)
    copies = np.repeat(features, 5, axis=0), np.repeat(targets, 5)
    groups = np.repeat(np.arange(60), 5)
    order = np.random.default_rng(1).permutation(60)
    folds = [np.flatnonzero(np.isin(groups, part)) for part in np.array_split(order, 5)]
    grouped = measure_learning_curve(
        *copies, folds, kind="softmax", num_classes=3, c=1.0, groups=groups.tolist(), seed=0
    )
    single = measure_learning_curve(
        *copies, folds, kind="softmax", num_classes=3, c=1.0, groups=list(range(300)), seed=0
    )
    assert grouped is not None
    assert single is not None
    assert grouped.points[0][1] > single.points[0][1]


def test_too_few_and_too_many_images_have_none() -> None:
    assert measure(*noisy_images(15)) is None
    features, targets = noisy_images(4_002, width=2)
    assert measure(features, targets) is None


@pytest.mark.parametrize(
    ("losses", "gain"),
    [
        # As 1 / sqrt(n): 1, 0.7071, 0.5 falls on to 0.3536.
        ((1.0, 0.5**0.5, 0.5), 0.5 - 0.5**1.5),
        # As 1 / n: 0.4, 0.2, 0.1 falls on to 0.05.
        ((0.4, 0.2, 0.1), 0.05),
        # A doubling that helped more than the one before promises no more than a square root does.
        ((0.5, 0.5, 0.4), 0.025),
        ((0.5, 0.4, 0.2), 0.2 * 0.5**0.5),
        # It got worse: nothing is promised.
        ((0.5, 0.4, 0.45), 0.0),
        # Two points: cautious.
        ((0.5, 0.4), 0.025),
    ],
)
def test_the_next_doubling_follows_the_last_ones(losses: tuple[float, ...], gain: float) -> None:
    found, interval = _next_gain([np.full(10, loss) for loss in losses])
    assert found == pytest.approx(gain, abs=1e-12)
    assert interval == pytest.approx((gain, gain), abs=1e-9)
