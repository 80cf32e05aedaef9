"""Early termination: which trials stop before their time. Pure functions; every metric is better
when it is larger.

A trial's curve is what it measured of the primary metric: (interval, value), where interval n is
its n-th evaluation. A policy looks at a trial at every multiple of `evaluation_interval` from
`delay_evaluation` on, and compares it with other trials *at the same interval*: with the best
(bandit, truncation_selection, asha) or the average (median_stopping) of what they measured up to
it. So a young trial is never compared with what an old one reached later.

bandit                 stops what is below best / (1 + slack_factor), or below best - slack_amount
median_stopping        stops what is below the median of the running averages
truncation_selection   stops what is among the lowest truncation_percentage, rounded down
asha (ours)            stops what is not among the best 1 / eta, at each of its rungs

In order (the default), a trial is compared with the trials of lower number, and waits until each
of them has reached the interval or ended. What is decided then depends on the curves alone, not on
which trial was faster: a sweep that was killed and resumed decides the same. Otherwise it is
compared with all trials that have reached the interval or ended, and never waits: for sweeps under
a time budget.

`exclude_finished_jobs` leaves out the trials that ended before the interval.
"""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, median
from typing import Literal

from autofocus.job import Asha, Bandit, EarlyTermination, MedianStopping, TruncationSelection

Verdict = Literal["continue", "stop", "wait"]
# (interval, value) in the order of the intervals, which begin at 1.
Curve = Sequence[tuple[int, float]]


def verdict(
    policy: EarlyTermination | None,
    trial: int,
    interval: int,
    curves: Mapping[int, Curve],
    ended: Collection[int] = (),
    *,
    in_order: bool = True,
) -> Verdict:
    """Decide about a trial that has just measured the primary metric for the n-th time.

    Args:
        policy: None stops nothing.
        trial: Its number.
        interval: n.
        curves: Of all trials that were begun, by number; an empty one before the first evaluation.
        ended: Numbers of the trials that measure nothing any more, for whatever reason.
        in_order: Compare with trials of lower number only, and wait for them.

    Returns:
        `wait` means that a trial of lower number decides it and has not got there yet.
    """
    if policy is None or not is_due(policy, interval):
        return "continue"
    own = _best(curves[trial], interval)
    if own is None:
        return "continue"
    rivals = [number for number in curves if number < trial or not in_order]
    there = [n for n in rivals if n in ended or _last(curves[n]) >= interval]
    if in_order and len(there) < len(rivals):
        return "wait"
    compared = {number: curves[number] for number in {*there, trial}}
    threshold = _threshold(policy, trial, interval, compared)
    return "stop" if threshold is not None and own < threshold else "continue"


def is_due(policy: EarlyTermination, interval: int) -> bool:
    """Return whether the policy looks at this interval."""
    if isinstance(policy, Asha):
        return interval in policy.rungs
    return interval >= policy.delay_evaluation and interval % policy.evaluation_interval == 0


def _threshold(
    policy: EarlyTermination, trial: int, interval: int, curves: Mapping[int, Curve]
) -> float | None:
    """Return the value below which a trial stops; None stops none.

    Args:
        policy: What decides.
        trial: Whose last evaluation may have measured nothing: an undefined metric.
        interval: Where trials are compared.
        curves: Of the trial itself and those it is compared with.
    """
    if isinstance(policy, MedianStopping):
        averages = [fmean(values) for c in curves.values() if (values := _until(c, interval))]
        return median(averages)
    best = {
        number: value
        for number, curve in curves.items()
        if (value := _best(curve, interval)) is not None
    }
    if isinstance(policy, Bandit):
        return _slack(policy, max(best.values()))
    reached = {
        number: value
        for number, value in best.items()
        if number == trial or _last(curves[number]) >= interval
    }
    if isinstance(policy, Asha):
        ranked = sorted(reached.values(), reverse=True)
        return ranked[max(1, len(ranked) // policy.eta) - 1]
    return _truncation(policy, sorted((reached if policy.exclude_finished_jobs else best).values()))


def _slack(policy: Bandit, best: float) -> float | None:
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    assert policy.slack_factor is not None, "a bandit has one slack"
    # A ratio of what is negative or 0 would stop the best trial itself.
    return best / (1 + policy.slack_factor) if best > 0 else None


def _truncation(policy: TruncationSelection, ascending: Sequence[float]) -> float:
    # Whoever is level with the first that stays, stays.
    return ascending[len(ascending) * policy.truncation_percentage // 100]


def _best(curve: Curve, interval: int) -> float | None:
    return max(_until(curve, interval), default=None)


def _until(curve: Curve, interval: int) -> list[float]:
    # Intervals are whole and rise from 1: what is wanted is among the first `interval` of them.
    return [value for at, value in curve[:interval] if at <= interval]


def _last(curve: Curve) -> int:
    return curve[-1][0] if curve else 0
