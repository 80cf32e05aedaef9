"""Every early termination policy against curves whose outcome was worked out by hand."""

import itertools
import random
from collections.abc import Mapping

import pytest

from autofocus.settings.job import (
    Asha,
    Bandit,
    EarlyTermination,
    MedianStopping,
    TruncationSelection,
)
from autofocus.study.search.pruners import Points, Pruner, is_due, prune_decision


def curves(*values: list[float]) -> dict[int, list[tuple[int, float]]]:
    return {number: list(enumerate(curve, 1)) for number, curve in enumerate(values)}


def stops(
    policy: EarlyTermination, known: Mapping[int, Points], interval: int, *, in_order: bool = False
) -> list[int]:
    """Return the trials that stop at an interval when all of them have reached it."""
    return [
        trial
        for trial in known
        if prune_decision(policy, trial, interval, known, in_order=in_order) == "stop"
    ]


# Best so far at interval 2: 0.8, 0.66, 0.67, 0.3. At interval 3: 0.8, 0.66, 0.9, 0.3.
FOUR = curves([0.5, 0.8, 0.7], [0.66, 0.6, 0.1], [0.1, 0.67, 0.9], [0.3, 0.2, 0.1])
# Running averages at interval 2: 0.65, 0.63, 0.385, 0.25, median 0.5075. At interval 3:
# 0.6667, 0.4533, 0.5567, 0.2, median 0.505.

HAND_COMPUTED = [
    # 0.8 / 1.2 = 0.6667: 0.66 is below, 0.67 is not.
    (Bandit(slack_factor=0.2), 2, [1, 3]),
    # 0.9 / 1.2 = 0.75: the best of trial 0 was 0.8, whatever it has fallen to.
    (Bandit(slack_factor=0.2), 3, [1, 3]),
    # 0.8 - 0.13 = 0.67: level is not below.
    (Bandit(slack_amount=0.13), 2, [1, 3]),
    (Bandit(slack_amount=0.15), 2, [3]),
    # A trial's best counts against the averages of all.
    (MedianStopping(), 2, [3]),
    (MedianStopping(), 3, [3]),
    # Of four, 25 % are one, 49 % are one, 50 % are two.
    (TruncationSelection(truncation_percentage=24), 2, []),
    (TruncationSelection(truncation_percentage=25), 2, [3]),
    (TruncationSelection(truncation_percentage=49), 2, [3]),
    (TruncationSelection(truncation_percentage=50), 2, [1, 3]),
    (TruncationSelection(truncation_percentage=99), 3, [0, 1, 3]),
    # The best of up to three go on, the best two of four for eta 2.
    (Asha(eta=3, rungs=[2]), 2, [1, 2, 3]),
    (Asha(eta=2, rungs=[2]), 2, [1, 3]),
    (Asha(eta=2, rungs=[3]), 3, [1, 3]),
]


@pytest.mark.parametrize(("policy", "interval", "expected"), HAND_COMPUTED)
def test_hand_computed(policy: EarlyTermination, interval: int, expected: list[int]) -> None:
    assert stops(policy, FOUR, interval) == expected


IN_ORDER = [
    # Trial 0 has nobody before it, 1 is below 0.8 / 1.2, 2 is not, 3 is.
    (Bandit(slack_factor=0.2), 2, [1, 3]),
    # Trial 1: best 0.66 against the median of (0.65, 0.63). 2: 0.67 against 0.63. 3: 0.3.
    (MedianStopping(), 2, [3]),
    # One half of 1, 2, 3, 4 trials: 0, 1, 1, 2.
    (TruncationSelection(truncation_percentage=50), 2, [1, 3]),
    # The best one of 1, 2, 3, the best two of 4.
    (Asha(eta=2, rungs=[2]), 2, [1, 2, 3]),
]


@pytest.mark.parametrize(("policy", "interval", "expected"), IN_ORDER)
def test_hand_computed_in_order(
    policy: EarlyTermination, interval: int, expected: list[int]
) -> None:
    assert stops(policy, FOUR, interval, in_order=True) == expected


ALL: list[EarlyTermination] = [
    Bandit(slack_factor=0.2, evaluation_interval=2, delay_evaluation=3),
    Bandit(slack_amount=0.1, evaluation_interval=2, delay_evaluation=3),
    MedianStopping(evaluation_interval=2, delay_evaluation=3),
    TruncationSelection(truncation_percentage=60, evaluation_interval=2, delay_evaluation=3),
    TruncationSelection(
        truncation_percentage=60,
        evaluation_interval=2,
        delay_evaluation=3,
        exclude_finished_jobs=True,
    ),
    Asha(eta=2, rungs=[4, 6, 8]),
]
ids = ["factor", "amount", "median", "truncation", "excluding", "asha"]


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_looks_at_every_multiple_from_the_delay_on(policy: EarlyTermination) -> None:
    assert [n for n in range(1, 9) if is_due(policy, n)] == [4, 6, 8]
    good_and_bad = curves([0.9] * 8, [0.8] * 8, [0.1] * 8)
    for interval in range(1, 9):
        expected = "stop" if interval in (4, 6, 8) else "continue"
        assert prune_decision(policy, 2, interval, good_and_bad) == expected


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_the_best_goes_on_and_so_does_the_only_one(policy: EarlyTermination) -> None:
    for best in (0.9, 0.0, -0.5):
        known = curves([best] * 4, [best - 0.3] * 4, [best - 0.4] * 4, [best - 0.5] * 4)
        assert prune_decision(policy, 0, 4, known, in_order=False) == "continue"
        assert prune_decision(policy, 0, 4, curves([best] * 4)) == "continue"


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_level_trials_all_go_on(policy: EarlyTermination) -> None:
    assert stops(policy, curves(*[[0.5] * 4] * 5), 4) == []


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_without_a_measured_value_nothing_is_decided(policy: EarlyTermination) -> None:
    known = {**curves([0.9] * 4), 1: []}
    assert prune_decision(policy, 1, 4, known) == "continue"


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_waits_for_lower_numbers_until_they_get_there_or_end(policy: EarlyTermination) -> None:
    known = {**curves([0.9] * 3), 1: list(enumerate([0.1] * 4, 1)), 2: []}
    assert prune_decision(policy, 1, 4, known) == "wait"
    assert prune_decision(policy, 1, 3, known) == "continue", "nothing is due"
    known[0].append((4, 0.9))
    assert prune_decision(policy, 0, 4, known) == "continue", "nobody is before the first"
    assert prune_decision(policy, 1, 4, known) == "stop"
    assert prune_decision(policy, 1, 4, known, in_order=False) == "stop"


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_under_a_budget_nobody_waits(policy: EarlyTermination) -> None:
    known = {
        **curves([0.9] * 3),
        1: list(enumerate([0.1] * 4, 1)),
        2: list(enumerate([0.8] * 9, 1)),
    }
    assert prune_decision(policy, 1, 4, known, in_order=False) == "stop", (
        "the one above it is there"
    )
    assert prune_decision(policy, 1, 4, {n: known[n] for n in (0, 1)}, in_order=False) == "continue"


def test_what_ended_before_the_interval_counts_with_its_best_unless_excluded() -> None:
    # Trials 0 and 1 ended after one evaluation.
    known = curves([0.1], [0.2], [0.6, 0.6], [0.5, 0.5])
    ended = {0, 1}

    def of_trial_3(policy: EarlyTermination) -> str:
        return prune_decision(policy, 3, 2, known, ended)

    half = TruncationSelection(truncation_percentage=50)
    excluding = TruncationSelection(truncation_percentage=50, exclude_finished_jobs=True)
    # Of 0.1, 0.2, 0.5, 0.6 the lowest two are others; of 0.5, 0.6 the lowest is this one.
    assert of_trial_3(half) == "continue"
    assert of_trial_3(excluding) == "stop"
    # Averages 0.1, 0.2, 0.5, 0.6: median 0.35.
    assert of_trial_3(MedianStopping()) == "continue"
    # At a rung only those that reached it count: the best one of 0.5, 0.6.
    assert of_trial_3(Asha(eta=2, rungs=[2])) == "stop"
    known = curves([0.9], [0.2], [0.6, 0.6], [0.5, 0.5])
    assert of_trial_3(Bandit(slack_factor=0.5)) == "stop"


def test_a_young_trial_is_not_compared_with_what_an_old_one_reached_later() -> None:
    known = curves([0.1, 0.2, 0.3, 0.9], [0.2, 0.25])
    for policy in ALL:
        soon = policy.model_copy(update={"evaluation_interval": 2, "delay_evaluation": 0})
        if isinstance(policy, Asha):
            soon = Asha(eta=2, rungs=[2])
        assert prune_decision(soon, 1, 2, known) == "continue"


def test_intervals_that_were_not_measured_leave_gaps() -> None:
    known: dict[int, Points] = {0: [(1, 0.5), (4, 0.9)], 1: [(2, 0.3), (4, 0.7)]}
    # Best 0.7 against averages 0.7 and 0.5.
    assert prune_decision(MedianStopping(), 1, 4, known) == "continue"
    assert prune_decision(Bandit(slack_amount=0.19), 1, 4, known) == "stop"


def test_an_undefined_metric_is_a_gap_at_the_end_too() -> None:
    known = curves([0.9, 0.9], [0.3])
    for policy in (Asha(eta=2, rungs=[2]), TruncationSelection(truncation_percentage=50)):
        assert prune_decision(policy, 1, 2, known) == "stop"


def test_no_policy_stops_nothing() -> None:
    assert prune_decision(None, 3, 2, FOUR) == "continue"


def run(policy: EarlyTermination, full: list[list[float]], order: random.Random) -> dict[int, int]:
    """Play a sweep of three workers whose speeds are drawn; return where each trial ended."""
    known: dict[int, list[tuple[int, float]]] = {}
    ended: dict[int, int] = {}
    waiting: set[int] = set()
    pruner = Pruner(policy, known, ended)
    while len(ended) < len(full):
        running = [n for n in known if n not in ended]
        if len(running) < 3 and len(known) < len(full):
            known[len(known)] = []
            continue
        trial = order.choice(running)
        if trial not in waiting:
            interval = len(known[trial]) + 1
            known[trial].append((interval, full[trial][interval - 1]))
        interval = len(known[trial])
        decided = prune_decision(policy, trial, interval, known, ended)
        assert pruner.decision(trial, interval) == decided
        waiting.add(trial) if decided == "wait" else waiting.discard(trial)
        if decided == "stop" or (decided == "continue" and interval == len(full[trial])):
            ended[trial] = interval
    return ended


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_in_order_the_speed_of_workers_changes_nothing(policy: EarlyTermination) -> None:
    draw = random.Random(5)
    full = [list(itertools.accumulate(draw.random() / 8 for _ in range(8))) for _ in range(12)]
    outcomes = [run(policy, full, random.Random(seed)) for seed in range(12)]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert set(outcomes[0].values()) > {8}, "some stop early, some do not"


class Looked(dict[int, list[tuple[int, float]]]):
    """Curves that count how often one was looked at."""

    num_looks = 0

    def __getitem__(self, number: int) -> list[tuple[int, float]]:
        self.num_looks += 1
        return super().__getitem__(number)


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_a_referee_looks_at_as_few_curves_for_the_last_trial_as_for_the_first(
    policy: EarlyTermination,
) -> None:
    draw = random.Random(7)
    known, ended = Looked(), set[int]()
    pruner = Pruner(policy, known, ended)
    for trial in range(100):
        known[trial] = list(enumerate((draw.random() for _ in range(4)), 1))
        expected = prune_decision(policy, trial, 4, known, ended)
        known.num_looks = 0
        assert pruner.decision(trial, 4) == expected
        assert known.num_looks <= 2, "its own, and that of the one before it"
        ended.add(trial)


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_a_referee_judges_again_what_measures_again_after_its_process_died(
    policy: EarlyTermination,
) -> None:
    known = curves(*[[0.1 * n] * 8 for n in (5, 9, 7, 1, 6)])
    pruner = Pruner(policy, known, {0, 1, 2, 3})
    for trial in (4, 1, 2, 0, 4):
        assert pruner.decision(trial, 4) == prune_decision(policy, trial, 4, known, {0, 1, 2, 3})
