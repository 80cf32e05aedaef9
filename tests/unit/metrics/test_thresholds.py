"""Thresholds: scikit-learn's curve, the best point on it, intervals of decisions in groups."""

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve

from autofocus.metrics.thresholds import (
    ALL,
    Decisions,
    choose,
    curve,
    fit,
    grouped_interval,
    reached_at,
)


def decisions(
    scores: Sequence[float],
    is_right: Sequence[bool],
    num_true: int | None = None,
    classes: Sequence[int] | None = None,
) -> Decisions:
    """Return decisions on an image each; right answers that nobody gave are on the last ones."""
    right = np.asarray(is_right, np.bool_)
    of = np.asarray([0] * len(right) if classes is None else classes, np.int64)
    images = np.arange(len(right))
    num_missed = (int(right.sum()) if num_true is None else num_true) - int(right.sum())
    missed = len(right) + np.arange(num_missed)
    return Decisions(
        of,
        np.asarray(scores, np.float32),
        right,
        images,
        np.append(of[right], np.zeros(num_missed, np.int64)),
        np.append(images[right], missed),
    )


def random_decisions(seed: int) -> Decisions:
    chance = np.random.default_rng(seed)
    is_right = chance.random(60) < 0.5
    # Two digits: many scores are equal.
    scores = np.round(np.clip(chance.normal(0.4 + 0.2 * is_right, 0.2), 0, 1), 2)
    return decisions(list(scores), list(is_right))


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_scikit_learns(seed: int) -> None:
    given = random_decisions(seed)
    precision, recall, thresholds = precision_recall_curve(given.is_right, given.scores)
    found = curve(given)
    np.testing.assert_array_equal(found[0][::-1], thresholds)
    np.testing.assert_allclose(found[1][::-1], precision[:-1], rtol=1e-15)
    np.testing.assert_allclose(found[2][::-1], recall[:-1], rtol=1e-15)


@pytest.mark.parametrize("wanted", [0.5, 0.6, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(seed: int, wanted: float) -> None:
    given, images = random_decisions(seed), [*range(60)]
    precision, recall, thresholds = precision_recall_curve(given.is_right, given.scores)
    precision, recall = precision[:-1], recall[:-1]
    for first, second, wishes in (
        (precision, recall, (wanted, None)),
        (recall, precision, (None, wanted)),
    ):
        threshold, is_reached = choose(given, *wishes)
        reached = reached_at(given, images, threshold)
        pair = (reached.precision, reached.recall)
        got = pair if wishes[0] else pair[::-1]
        assert is_reached == (first >= wanted).any()
        if is_reached:
            assert got == (pytest.approx(got[0]), pytest.approx(second[first >= wanted].max()))
            assert got[0] is not None
            assert got[0] >= wanted
        else:
            assert got[0] == pytest.approx(first.max())
        assert thresholds.min() - 0.01 <= threshold <= thresholds.max()


def test_a_threshold_is_short_and_between_two_scores() -> None:
    given = decisions([0.9, 0.8765432, 0.8712, 0.3], [True, True, False, False])
    assert choose(given, 1.0, None) == (0.874, True)


@pytest.mark.parametrize("seed", range(20))
def test_rounding_lets_through_the_same(seed: int) -> None:
    """Scores that float32 hardly tells apart: those that were to pass do, the others do not."""
    chance = np.random.default_rng(seed)
    near = np.float32(chance.random())
    scores = [near]
    for _ in range(5):
        scores.append(np.nextafter(scores[-1], np.float32(1)))
    given = decisions([float(score) for score in scores], [i >= 3 for i in range(6)])
    threshold, is_reached = choose(given, 1.0, None)
    assert is_reached
    reached = reached_at(given, range(6), threshold)
    assert (reached.num_decisions, reached.precision, reached.recall) == (3, 1.0, 1.0)


def test_what_cannot_be_reached_comes_as_near_as_it_gets() -> None:
    given = decisions([0.97, 0.9, 0.8, 0.7], [True, False, True, True], num_true=4)
    assert choose(given, 0.7, None)[1]
    given = decisions([0.97, 0.9, 0.8, 0.7], [False, True, True, True], num_true=4)
    (found,) = fit(given, ["dog"], range(5), {"dog": 0.95}, {})
    assert not found.is_reached
    assert (found.reached.precision, found.reached.recall) == (0.75, 0.75)
    (found,) = fit(given, ["dog"], range(5), {}, {"dog": 1.0})
    assert not found.is_reached
    assert (found.reached.precision, found.reached.recall) == (0.75, 0.75)
    # Of two wishes both count; precision comes first.
    (found,) = fit(given, ["dog"], range(5), {"dog": 0.7}, {"dog": 0.8})
    assert not found.is_reached
    (found,) = fit(given, ["dog"], range(5), {"dog": 0.7}, {"dog": 0.75})
    assert found.is_reached


def test_classes_without_a_wish_share_one_threshold() -> None:
    scores = [0.9, 0.8, 0.7, 0.9, 0.6, 0.5, 0.9, 0.4]
    is_right = [True, False, True, True, True, False, True, False]
    classes = [0, 0, 0, 1, 1, 1, 2, 2]
    given = decisions(scores, is_right, classes=classes)
    own, shared = fit(given, ["a", "b", "c"], range(8), {"a": 1.0, ALL: 0.7}, {})
    assert (own.label, own.reached.num_decisions, own.reached.recall) == ("a", 1, 0.5)
    # Of b and c 0.9, 0.9 and 0.6 are right and all there is to find.
    assert (shared.label, shared.threshold) == (ALL, 0.6)
    assert (shared.reached.num_decisions, shared.reached.precision) == (3, 1.0)
    # Nothing to judge by.
    assert fit(given.of([0]), ["a", "b"], range(8), {"b": 0.9}, {}) == []
    assert fit(given.of([]), ["a", "b"], range(8), {ALL: 0.9}, {}) == []
    # Where nothing is right a low threshold is as good as a high one: the published one stays.
    wrong = decisions([0.9, 0.1], [False, False], num_true=3)
    assert fit(wrong, ["a"], range(5), {"a": 0.9}, {"a": 0.9}) == []


@pytest.mark.parametrize(("num_hits", "num"), [(0, 7), (3, 8), (19, 20), (50, 50), (1, 1)])
def test_an_interval_of_single_decisions_is_wilsons(num_hits: int, num: int) -> None:
    hits = np.arange(num) < num_hits
    expected = binomtest(num_hits, num).proportion_ci(0.9, "wilson")
    found = grouped_interval(hits.astype(np.int64), np.ones(num, np.int64))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found is not None
    assert (found[0] == 0) == (num_hits == 0)
    assert (found[1] == 1) == (num_hits == num)


@pytest.mark.parametrize("num_hits", [0, 15, 20])
def test_copies_in_one_group_are_no_evidence(num_hits: int) -> None:
    hits = (np.arange(20) < num_hits).astype(np.int64)
    once = grouped_interval(hits, np.ones(20, np.int64))
    assert once is not None
    assert grouped_interval(5 * hits, np.full(20, 5)) == pytest.approx(once)
    wider = grouped_interval(np.array([num_hits, 0]), np.array([20, 0]))
    assert wider is not None
    assert wider[1] - wider[0] > once[1] - once[0], "one group is one piece of evidence"
    assert grouped_interval(np.zeros(3, np.int64), np.zeros(3, np.int64)) is None


def test_intervals_hold_what_they_promise() -> None:
    """Of 90 % intervals of a share of 0.8, in groups that are alike, about nine of ten hold it."""
    chance, held = np.random.default_rng(0), 0
    for _ in range(400):
        totals = chance.integers(1, 6, 40)
        # Shares of groups vary around 0.8: beta(4, 1).
        hits = chance.binomial(totals, chance.beta(4, 1, 40))
        found = grouped_interval(hits, totals)
        assert found is not None
        held += found[0] <= 0.8 <= found[1]
    assert 0.85 <= held / 400 <= 0.95


def test_recall_counts_what_nobody_decided_for() -> None:
    given = decisions([0.9, 0.8], [True, False], num_true=4)
    groups: list[Hashable] = ["a", "b", "c", "c", "c"]
    reached = reached_at(given, groups, 0.5)
    assert (reached.precision, reached.recall, reached.num_true) == (0.5, 0.25, 4)
    nothing = reached_at(given, groups, 0.95)
    assert (nothing.precision, nothing.precision_interval, nothing.recall) == (None, None, 0.0)


def test_more_precision_never_comes_with_more_recall() -> None:
    given = random_decisions(7)
    found = [choose(given, wanted, None)[0] for wanted in np.linspace(0.5, 1, 20)]
    recalls = [reached_at(given, range(60), threshold).recall or 0.0 for threshold in found]
    assert all(right <= left for left, right in pairwise(recalls))
