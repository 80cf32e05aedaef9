"""Pruners (early termination): which trials stop before their end. Every metric is maximised.

A trial's curve has its values of the primary metric: (interval, value), where interval n is its
n-th evaluation. A policy applies at every multiple of `evaluation_interval` from
`delay_evaluation` on, and compares a trial with others *at the same interval*: with the best
(bandit, truncation_selection, asha) or the average (median_stopping) of their values up to it.
So a young trial is never compared with later values of an old one.

bandit                 stops trials below best / (1 + slack_factor), or below best - slack_amount
median_stopping        stops trials below the median of the running averages
truncation_selection   stops the lowest truncation_percentage of trials, rounded down
asha (ours)            stops all but the best 1 / eta of trials, at each of its rungs

In order (the default), a trial is compared with the trials of lower number, and waits until each
of them has reached the interval or ended. The decision then depends on the curves alone, not on
which trial was faster: a sweep that was killed and resumed decides the same. Otherwise it is
compared with all trials that have reached the interval or ended, and never waits: for sweeps under
a time budget.

`exclude_finished_jobs` leaves out the trials that ended before the interval.
"""

from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, median
from typing import Literal

from autofocus.settings.job import (
    Asha,
    Bandit,
    EarlyTermination,
    MedianStopping,
    TruncationSelection,
)

PruneDecision = Literal["continue", "stop", "wait"]
# (interval, value) in the order of the intervals, which begin at 1.
Points = Sequence[tuple[int, float]]


def prune_decision(
    policy: EarlyTermination | None,
    trial: int,
    interval: int,
    curves: Mapping[int, Points],
    ended: Collection[int] = (),
    *,
    in_order: bool = True,
) -> PruneDecision:
    """Decide about a trial after its n-th evaluation.

    Args:
        policy: Pruning policy; None prunes nothing.
        trial: Number of the trial.
        interval: n.
        curves: Curves of all trials that were begun, by number; empty before the first evaluation.
        ended: Numbers of the trials that have ended, for any reason.
        in_order: Whether trials are compared with those of lower number only, and wait for them.

    Returns:
        `wait` where a trial of lower number has not reached the interval yet.
    """
    if policy is None or not is_due(policy, interval) or _best(curves[trial], interval) is None:
        return "continue"
    others = [number for number in curves if number < trial or not in_order]
    there = [n for n in others if n in ended or _last(curves[n]) >= interval]
    if in_order and len(there) < len(others):
        return "wait"
    found = (_compared(policy, curves[n], interval) for n in there if n != trial)
    return _decision(policy, curves[trial], interval, sorted(v for v in found if v is not None))


class Pruner:
    """Decides as `prune_decision` does; in order, it reads a trial's curve once an interval.

    Args:
        policy: Pruning policy; None prunes nothing.
        curves: Curves as `prune_decision` takes them; they grow while trials run.
        ended: Numbers of the trials that have ended; grows too.
        in_order: Whether trials are compared with those of lower number only, and wait for them.
    """

    def __init__(
        self,
        policy: EarlyTermination | None,
        curves: Mapping[int, Points],
        ended: Collection[int],
        *,
        in_order: bool = True,
    ) -> None:
        self._policy = policy
        self._curves = curves
        self._ended = ended
        self._in_order = in_order
        self._known: dict[int, _Known] = {}

    def decision(self, trial: int, interval: int) -> PruneDecision:
        """Return what `prune_decision` returns; trials are numbered 0, 1, 2, … without a gap."""
        policy, curve = self._policy, self._curves[trial]
        if policy is None or not is_due(policy, interval) or _best(curve, interval) is None:
            return "continue"
        known = self._known.setdefault(interval, _Known())
        if known.num > trial or not self._in_order:
            # Without order every trial may matter; in order, the trial's process died, and it
            # measures again what later trials were compared with.
            return prune_decision(
                policy, trial, interval, self._curves, self._ended, in_order=self._in_order
            )
        while known.num < trial:
            other = self._curves[known.num]
            if known.num not in self._ended and _last(other) < interval:
                return "wait"
            known.add(_compared(policy, other, interval))
        return _decision(policy, curve, interval, known.ascending)


class _Known:
    """Values of the trials below `num` at one interval; they do not change any more."""

    def __init__(self) -> None:
        self.num = 0
        self.ascending: list[float] = []

    def add(self, value: float | None) -> None:
        self.num += 1
        if value is not None:
            insort(self.ascending, value)


def is_due(policy: EarlyTermination, interval: int) -> bool:
    """Return whether the policy applies at this interval."""
    if isinstance(policy, Asha):
        return interval in policy.rungs
    return interval >= policy.delay_evaluation and interval % policy.evaluation_interval == 0


def _decision(
    policy: EarlyTermination, curve: Points, interval: int, ascending: Sequence[float]
) -> PruneDecision:
    """Return whether a trial goes on.

    Args:
        policy: Pruning policy.
        curve: Curve of the trial; its metric may have been undefined at the last evaluation.
        interval: Interval at which trials are compared.
        ascending: Values of the other trials (`_compared`), ascending.
    """
    measured = _until(curve, interval)
    own = max(measured)
    everyone = list(ascending)
    insort(everyone, fmean(measured) if isinstance(policy, MedianStopping) else own)
    threshold = _threshold(policy, everyone)
    return "stop" if threshold is not None and own < threshold else "continue"


def _compared(policy: EarlyTermination, curve: Points, interval: int) -> float | None:
    """Return the value of another trial, or None where it is not compared."""
    measured = _until(curve, interval)
    excludes = isinstance(policy, TruncationSelection) and policy.exclude_finished_jobs
    if (excludes or isinstance(policy, Asha)) and _last(curve) < interval:
        return None
    if not measured:
        return None
    return fmean(measured) if isinstance(policy, MedianStopping) else max(measured)


def _threshold(policy: EarlyTermination, ascending: Sequence[float]) -> float | None:
    """Return the value below which a trial stops; None stops none.

    Args:
        policy: Pruning policy.
        ascending: Values of all trials, the one in question among them, ascending.
    """
    if isinstance(policy, MedianStopping):
        return median(ascending)
    if isinstance(policy, Bandit):
        return _slack(policy, ascending[-1])
    if isinstance(policy, Asha):
        return ascending[-max(1, len(ascending) // policy.eta)]
    # A trial level with the first that stays, stays.
    return ascending[len(ascending) * policy.truncation_percentage // 100]


def _slack(policy: Bandit, best: float) -> float | None:
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    assert policy.slack_factor is not None, "a bandit has one slack"
    # A ratio of what is negative or 0 would stop the best trial itself.
    return best / (1 + policy.slack_factor) if best > 0 else None


def _best(curve: Points, interval: int) -> float | None:
    return max(_until(curve, interval), default=None)


def _until(curve: Points, interval: int) -> list[float]:
    # Intervals are whole and rise from 1: what is wanted is among the first `interval` of them.
    return [value for at, value in curve[:interval] if at <= interval]


def _last(curve: Points) -> int:
    return curve[-1][0] if curve else 0
