"""Intervals of metrics: resampled by groups, and never narrower than what is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.structures.predictions import ClassScores
from autofocus.tasks import TASKS
from autofocus.training import intervals
from autofocus.training.intervals import metric_intervals

TASK = TASKS["image_classification"]
LABELS = ["can", "carton"]


def predicted(is_right: NDArray[np.bool_]) -> tuple[list[ClassScores], NDArray[np.int64]]:
    """Return predictions of classes in turn, right or wrong as told, and the targets."""
    targets = np.arange(len(is_right)) % 2
    of_truth = np.where(is_right, 0.9, 0.2)
    probs = np.where(targets[:, None] == [0, 1], of_truth[:, None], 1 - of_truth[:, None])
    return [ClassScores(row.astype(np.float32)) for row in probs], targets


def of(is_right: NDArray[np.bool_], groups: list[int] | None = None) -> dict[str, list[float]]:
    predictions, targets = predicted(is_right)
    groups = groups or list(range(len(is_right)))
    return metric_intervals(TASK, predictions, targets, LABELS, groups, seed=0)


def test_an_interval_of_a_share_is_the_binomial_one() -> None:
    low, high = of(np.arange(200) % 10 > 0)["accuracy"]
    # 0.9 ± 1.645 √(0.9 · 0.1 / 200)
    assert low == pytest.approx(0.865, abs=0.011)
    assert high == pytest.approx(0.935, abs=0.011)


def test_every_metric_that_is_a_number_has_one_that_contains_it() -> None:
    is_right = np.random.default_rng(0).random(60) < 0.8
    predictions, targets = predicted(is_right)
    metrics = TASK.evaluate(predictions, targets, LABELS, {})
    found = of(is_right)
    assert set(found) == {name for name, value in metrics.items() if isinstance(value, float)}
    assert {"accuracy", "log_loss", "AUC_macro", "expected_calibration_error"} <= set(found)
    assert all(low <= metrics[name] <= high for name, (low, high) in found.items())


def test_copies_make_nothing_more_certain() -> None:
    is_right = np.arange(40) % 5 > 0
    low, high = of(is_right)["log_loss"]
    copied_low, copied_high = of(np.repeat(is_right, 10), np.repeat(range(40), 10).tolist())[
        "log_loss"
    ]
    alone_low, alone_high = of(np.repeat(is_right, 10))["log_loss"]
    assert copied_high - copied_low == pytest.approx(high - low, rel=0.2)
    assert alone_high - alone_low < 0.5 * (high - low)


def test_all_right_is_no_proof() -> None:
    low, high = of(np.ones(40, bool))["accuracy"]
    assert (low, high) == (pytest.approx(0.05 ** (1 / 40)), 1.0)
    low, high = of(np.zeros(40, bool))["accuracy"]
    assert (low, high) == (0.0, pytest.approx(1 - 0.05 ** (1 / 40)))


def test_smaller_draws_give_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    is_right = np.arange(400) % 10 > 0
    low, high = of(is_right)["log_loss"]
    monkeypatch.setattr(intervals, "MAX_DRAWN_GROUPS", 100)
    small_low, small_high = of(is_right)["log_loss"]
    assert small_low == pytest.approx(low, abs=0.15 * (high - low))
    assert small_high == pytest.approx(high, abs=0.15 * (high - low))


def test_the_same_seed_gives_the_same_intervals() -> None:
    is_right = np.arange(30) % 3 > 0
    assert of(is_right) == of(is_right)


def test_many_classes_take_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    evaluate = TASK.evaluate
    monkeypatch.setattr(TASK, "evaluate", lambda *a: drawn.append(0) or evaluate(*a))
    monkeypatch.setattr(intervals, "MAX_NUMBERS", 100 * 30 * len(LABELS))
    of(np.arange(30) % 3 > 0)
    assert len(drawn) == 1 + 100


def test_one_group_says_nothing_about_others() -> None:
    assert of(np.arange(6) % 3 > 0, groups=[0] * 6) == {}
