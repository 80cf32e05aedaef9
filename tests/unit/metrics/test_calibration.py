import itertools
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Activation,
    cross_fitted_temperature,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)

KINDS: tuple[Activation, ...] = ("softmax", "sigmoid")


def honest_data(
    kind: Activation, n: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return logits [n, 3] and targets drawn from exactly the probabilities they state."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 3))
    if kind == "sigmoid":
        return logits, (rng.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    # The largest of logit + Gumbel noise is a draw from the softmax.
    return logits, (logits + rng.gumbel(size=(n, 3))).argmax(axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.25, 0.6, 1.0, 2.5, 4.0])
def test_known_temperature_is_recovered(kind: Activation, temperature: float) -> None:
    logits, targets = honest_data(kind, 20_000, seed=0)
    fitted = fit_temperature(logits * temperature, targets, kind)
    assert fitted == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_temperature_stays_within_bounds(kind: Activation) -> None:
    logits, targets = honest_data(kind, 2_000, seed=1)
    hot = fit_temperature(logits * 50, targets, kind)
    cold = fit_temperature(logits / 50, targets, kind)
    assert hot == pytest.approx(MAX_TEMPERATURE, rel=1e-5)
    assert cold == pytest.approx(MIN_TEMPERATURE, rel=1e-5)
    assert MIN_TEMPERATURE <= cold < hot <= MAX_TEMPERATURE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_no_temperature_of_a_fine_grid_is_better(kind: Activation, seed: int) -> None:
    logits, targets = honest_data(kind, 150, seed)
    logits *= 0.4 + 0.8 * seed
    fitted = negative_log_likelihood(logits / fit_temperature(logits, targets, kind), targets, kind)
    assert fitted <= negative_log_likelihood(logits, targets, kind)
    for temperature in np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 300):
        other = negative_log_likelihood(logits / temperature, targets, kind)
        assert fitted <= other + 1e-9


def test_temperature_of_uninformative_logits_is_one() -> None:
    assert fit_temperature(np.zeros((100, 3)), np.arange(100) % 3, "softmax") == 1.0


def test_huge_float32_logits_do_not_overflow() -> None:
    logits = np.array([[3e4, -3e4], [-3e4, 3e4]], dtype=np.float32)
    assert fit_temperature(logits, np.array([1, 1]), "softmax") == pytest.approx(5, rel=1e-5)
    assert fit_temperature(logits, np.eye(2, dtype=np.int64), "sigmoid") == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_each_fold_is_judged_with_the_temperature_of_the_others(kind: Activation) -> None:
    logits, targets = honest_data(kind, 300, seed=3)
    logits *= 3
    folds = [np.arange(k, 300, 3) for k in range(3)]
    fit = partial(fit_temperature, kind=kind)
    served, judged = cross_fitted_temperature(logits, targets, folds, fit)
    assert served == fit(logits, targets)
    others = np.concatenate([folds[0], folds[2]])
    expected = logits[folds[1]] / fit(logits[others], targets[others])
    np.testing.assert_allclose(judged[folds[1]], expected, rtol=1e-6)


def test_no_image_judges_a_temperature_that_knew_its_class() -> None:
    logits, targets = honest_data("softmax", 200, seed=4)
    folds, fit = [np.arange(100), np.arange(100, 200)], partial(fit_temperature, kind="softmax")
    _, judged = cross_fitted_temperature(logits, targets, folds, fit)
    wrong = np.where(np.arange(200) < 100, (targets + 1) % 3, targets)
    _, again = cross_fitted_temperature(logits, wrong, folds, fit)
    np.testing.assert_array_equal(judged[:100], again[:100])
    assert not np.allclose(judged[100:], again[100:])


def test_a_single_fold_has_no_temperature_to_judge_with() -> None:
    logits, targets = honest_data("softmax", 200, seed=5)
    fit = partial(fit_temperature, kind="softmax")
    served, judged = cross_fitted_temperature(logits * 3, targets, [np.arange(200)], fit)
    assert served > 2
    np.testing.assert_array_equal(judged, logits * 3)


def test_folds_hold_each_image_once() -> None:
    logits, targets = honest_data("softmax", 9, seed=6)
    for folds in ([np.arange(8)], [np.arange(9), np.arange(2)]):
        with pytest.raises(AssertionError, match="each image once"):
            cross_fitted_temperature(logits, targets, folds, lambda *_: 1.0)


def test_negative_log_likelihood_by_hand() -> None:
    logits = np.log([[0.2, 0.8], [0.5, 0.5]])
    found = negative_log_likelihood(logits, np.array([1, 0]), "softmax")
    assert found == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    odds = np.log([[0.2 / 0.8, 0.9 / 0.1]])
    found = negative_log_likelihood(odds, np.array([[0, 1]]), "sigmoid")
    assert found == pytest.approx(-np.log(0.8) - np.log(0.9))


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.95 twice with one hit, 0.6 once with a hit.
    confidences = np.array([0.95, 0.95, 0.61])
    error = expected_calibration_error(confidences, np.array([True, False, True]))
    assert error == pytest.approx((2 * 0.45 + 1 * 0.39) / 3)


def test_calibration_error_at_the_ends() -> None:
    ends = np.array([0.0, 1.0], dtype=np.float32)
    assert expected_calibration_error(ends, np.array([False, True])) == 0.0
    assert expected_calibration_error(ends, np.array([True, False])) == 1.0


def test_calibration_error_equals_the_definition() -> None:
    rng = np.random.default_rng(0)
    confidences, correct = rng.random(500), rng.random(500) < 0.6
    expected = 0.0
    edges = np.linspace(0, 1, 16)
    for low, high in itertools.pairwise(edges):
        inside = (confidences > low) & (confidences <= high)
        if inside.any():
            gap = abs(correct[inside].mean() - confidences[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(confidences, correct) == pytest.approx(expected, abs=1e-12)


def test_fitted_temperature_lowers_the_calibration_error() -> None:
    logits, targets = honest_data("softmax", 5_000, seed=2)
    logits *= 3

    def error(temperature: float) -> float:
        scaled = np.exp(logits / temperature)
        probs = scaled / scaled.sum(axis=1, keepdims=True)
        return expected_calibration_error(probs.max(axis=1), probs.argmax(axis=1) == targets)

    assert error(fit_temperature(logits, targets, "softmax")) < error(1.0) / 4
