"""A candidate wins by more than its own noise, image by image."""

import math

import numpy as np
import pytest

from autofocus.training.selection import (
    MARGIN,
    SMALL_VALIDATION,
    EarlyStopping,
    Scored,
    choose,
    compare,
    latest_is_kept,
    margin_after,
    selection_score,
    shrunk_gain,
)


def test_shrinkage_by_hand() -> None:
    gain = shrunk_gain(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 1.0, 3.0]), 0.5, "abcd")
    # Gains 1, 0, 2, 1: variance 2/3, over four images; 1/4 : (1/4 + 1/6) of it is believed.
    assert gain.mean == 1.0
    assert gain.standard_error == pytest.approx(math.sqrt(2 / 3 / 4))
    assert gain.shrunk == pytest.approx(0.6)


def test_images_of_one_group_are_one_piece_of_evidence() -> None:
    before, after = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 1.0, 3.0])
    alone = shrunk_gain(before, after, 0.5, range(4))
    copied = shrunk_gain(np.tile(before, 3), np.tile(after, 3), 0.5, np.tile(range(4), 3).tolist())
    assert copied == alone
    assert shrunk_gain(before, after, 0.5, "aaaa").shrunk == 0.0


def test_a_sure_gain_is_believed_and_no_expectation_believes_nothing() -> None:
    before = np.arange(6.0)
    assert shrunk_gain(before, before - 0.1, 0.5, range(6)).shrunk == pytest.approx(0.1)
    assert shrunk_gain(before, before - 0.1, 0.0, range(6)).shrunk == 0.0


def test_shrinkage_is_the_posterior_mean() -> None:
    """Candidates drawn from the prior: what is believed is right on average, whatever is seen."""
    rng = np.random.default_rng(0)
    true = rng.normal(scale=0.3, size=4_000)
    before = np.zeros(25)
    seen = [shrunk_gain(before, rng.normal(-t, 1.5, 25), 0.3, range(25)) for t in true]
    believed, mean = np.array([g.shrunk for g in seen]), np.array([g.mean for g in seen])
    luckiest = mean > np.quantile(mean, 0.95)
    assert believed[luckiest].mean() == pytest.approx(true[luckiest].mean(), abs=0.05)
    assert mean[luckiest].mean() > 2 * true[luckiest].mean()


def test_the_largest_shrunk_gain_is_chosen() -> None:
    rng = np.random.default_rng(0)
    first = 1 + 0.1 * rng.normal(size=50)
    sure, lucky = first - 0.15, first - 0.2 + 2 * rng.normal(size=50)
    lucky -= (lucky - first).mean() + 0.2
    chosen, gains = choose([Scored(first, 1), Scored(lucky, 1), Scored(sure, 1)], range(50))
    assert chosen == 2
    assert gains[0].mean == gains[0].shrunk == 0.0
    assert gains[1].mean > gains[2].mean
    assert gains[1].shrunk < gains[2].shrunk


def test_of_near_ties_the_smallest_model_is_chosen() -> None:
    first = np.linspace(0.5, 1.5, 50)
    candidates = [Scored(first, 5), Scored(first - 0.100, 40), Scored(first - 0.085, 20)]
    assert choose(candidates, range(50))[0] == 2
    assert choose([*candidates[:2], Scored(first - 0.075, 20)], range(50))[0] == 1
    # Equal sizes: the better one.
    assert choose([*candidates[:2], Scored(first - 0.085, 40)], range(50))[0] == 1


def test_candidates_are_compared_with_each_other_not_only_with_the_reference() -> None:
    """Both gain on images that the reference gets wrong; one of them is better on all."""
    first = np.where(np.arange(100) % 10 == 0, 2.0, 0.01)
    good, better = np.where(first > 1, 0.8, 0.01), np.where(first > 1, 0.3, 0.01)
    assert choose([Scored(first, 1), Scored(good, 1), Scored(better, 9)], range(100))[0] == 2


def test_the_reference_stays_where_nothing_is_better() -> None:
    first = np.linspace(0.5, 1.5, 50)
    assert choose([Scored(first + 0.1, 1), Scored(first, 9)], range(50), reference=1)[0] == 1
    assert choose([Scored(first, 1)], range(50))[0] == 0
    # A perfect one, whose loss is a rounding error below 0.
    assert choose([Scored(np.full(50, -1e-7), 1)], range(50))[0] == 0


def test_comparison_by_hand() -> None:
    comparison = compare(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 1.0, 3.0]))
    assert comparison.mean_gain == 1.0
    # Gains 1, 0, 2, 1: variance 2/3, over four images.
    assert comparison.standard_error == pytest.approx(math.sqrt(2 / 3 / 4))
    assert comparison.num_pairs == 4
    assert comparison.is_better


def test_a_gain_within_its_noise_is_no_reason() -> None:
    best = np.zeros(100)
    noise = np.resize([1.0, -1.0], 100)
    error = noise.std(ddof=1) / 10
    assert not compare(best, -(noise + 0.9 * MARGIN * error)).is_better
    assert compare(best, -(noise + 1.1 * MARGIN * error)).is_better


def test_the_more_have_tried_the_more_it_takes() -> None:
    assert margin_after(0) == pytest.approx(MARGIN)
    # A normal quantile table: 1 - 0.1587 / 2 and 1 - 0.1587 / 20.
    assert margin_after(1) == pytest.approx(1.41, abs=0.005)
    assert margin_after(19) == pytest.approx(2.41, abs=0.005)


def test_luck_wins_no_more_often_for_being_tried_often() -> None:
    """Challengers as good as the best: how often does one of twenty win?"""
    rng = np.random.default_rng(0)
    won = {"plain": 0, "shared": 0}
    for _ in range(200):
        best, candidates = rng.normal(size=26), rng.normal(size=(20, 26))
        won["plain"] += any(compare(best, c).is_better for c in candidates)
        won["shared"] += any(
            compare(best, c, margin_after(n)).is_better for n, c in enumerate(candidates)
        )
    assert won["plain"] > 130
    assert won["shared"] < won["plain"] / 2


def test_equal_networks_change_nothing() -> None:
    losses = np.array([0.3, 0.1, 0.7])
    assert not compare(losses, losses).is_better


def test_a_loss_never_wins() -> None:
    assert not compare(np.zeros(9), np.ones(9)).is_better


def test_one_image_proves_nothing() -> None:
    comparison = compare(np.array([5.0]), np.array([0.0]))
    assert comparison.standard_error == math.inf
    assert not comparison.is_better


def test_different_images_cannot_be_compared() -> None:
    with pytest.raises(AssertionError):
        compare(np.zeros(3), np.zeros(4))


def test_small_sets_choose_epochs_by_log_loss() -> None:
    metrics = {"accuracy": 0.9, "log_loss": 0.4}
    assert selection_score("accuracy", SMALL_VALIDATION - 1)(metrics) == -0.4
    assert selection_score("accuracy", SMALL_VALIDATION)(metrics) == 0.9


def test_undefined_metrics_never_beat_defined_ones() -> None:
    score = selection_score("AUC_weighted", SMALL_VALIDATION)
    assert score({"AUC_weighted": None, "log_loss": 0.4}) == -0.4
    assert score({"AUC_weighted": None, "log_loss": None}) == float("-inf")
    assert score({"AUC_weighted": None}) == float("-inf")


def test_the_latest_epoch_stays_unless_it_is_clearly_worse() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(size=20)
    noise = rng.normal(scale=0.3, size=(30, 20))
    assert latest_is_kept(level[None])
    assert latest_is_kept(level + noise)
    assert latest_is_kept(np.stack([level + 1, level]))
    # It had been better: overfitting.
    assert not latest_is_kept(np.concatenate([level + noise, level[None] + 1]))


def test_the_luckiest_of_many_epochs_is_no_better() -> None:
    """Epochs as good as the best, each a little different: how often does ours win?"""
    rng = np.random.default_rng(0)
    won = {"best": 0, "kept": 0}
    for _ in range(200):
        best = rng.normal(size=20)
        epochs = best + rng.normal(scale=0.3, size=(30, 20))
        kept = max(n for n in range(1, 31) if latest_is_kept(epochs[:n])) - 1
        won["best"] += compare(best, epochs[epochs.mean(axis=1).argmin()]).is_better
        won["kept"] += compare(best, epochs[kept]).is_better
    assert won["best"] > 180
    assert won["kept"] < 60


def stops_after(values: list[float], patience: int, delay: int, frequency: int = 1) -> int | None:
    """Return the epoch after which training stops, or None."""
    stopping = EarlyStopping(patience, delay)
    for k, value in enumerate(values):
        epoch = (k + 1) * frequency
        stopping.update(value, epoch)
        if stopping.should_stop:
            return epoch
    return None


@pytest.mark.parametrize(
    ("values", "patience", "delay", "epoch"),
    [
        ([1, 1, 1, 1], 2, 0, 3),
        ([1, 1, 1, 1], 3, 0, 4),
        ([1, 1, 1, 1, 1, 1], 2, 3, 5),
        ([1, 1, 1, 1, 1, 1, 1, 1], 5, 5, None),
        ([1] * 10, 5, 5, 10),
        ([1, 2, 1, 1, 3, 1, 1], 2, 0, 4),
        ([1, 2, 1, 3, 1, 4, 1], 2, 0, None),
        ([3, 2, 1], 1, 0, 2),
        ([float("nan"), float("nan")], 2, 0, 2),
        ([float("-inf"), 1, 1, 1], 2, 0, 4),
    ],
)
def test_table(values: list[float], patience: int, delay: int, epoch: int | None) -> None:
    assert stops_after(values, patience, delay) == epoch


def test_patience_counts_evaluations_and_delay_epochs() -> None:
    # Evaluated after epochs 2, 4, 6, 8: the delay of 4 epochs covers the first two.
    assert stops_after([1, 1, 1, 1], patience=2, delay=4, frequency=2) == 8


def test_equal_is_not_better() -> None:
    stopping = EarlyStopping(patience=9, delay=0)
    assert [stopping.update(value, 1) for value in (0.5, 0.5, 0.6, 0.4)] == [
        True,
        False,
        True,
        False,
    ]
    assert stopping.best == 0.6


def test_disabled_it_still_knows_the_best() -> None:
    stopping = EarlyStopping(patience=1, delay=0, enabled=False)
    assert stopping.update(1.0, 1)
    assert not stopping.update(0.0, 2)
    assert not stopping.should_stop
