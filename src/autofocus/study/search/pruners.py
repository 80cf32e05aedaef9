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
Curve = Sequence[tuple[int, float]]


def verdict(
    policy: EarlyTermination | None,
    trial: int,
    interval: int,
    curves: Mapping[int, Curve],
    ended: Collection[int] = (),
    *,
    in_order: bool = True,
) -> PruneDecision:
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
    if policy is None or not is_due(policy, interval) or _best(curves[trial], interval) is None:
        return "continue"
    rivals = [number for number in curves if number < trial or not in_order]
    there = [n for n in rivals if n in ended or _last(curves[n]) >= interval]
    if in_order and len(there) < len(rivals):
        return "wait"
    found = (_compared(policy, curves[n], interval) for n in there if n != trial)
    return _judged(policy, curves[trial], interval, sorted(v for v in found if v is not None))


class Pruner:
    """Decides in order as `verdict` does, and looks at a trial only once an interval.

    Args:
        policy: None stops nothing.
        curves: As `verdict` takes them; they grow while trials run.
        ended: The same.
    """

    def __init__(
        self,
        policy: EarlyTermination | None,
        curves: Mapping[int, Curve],
        ended: Collection[int],
    ) -> None:
        self._policy = policy
        self._curves = curves
        self._ended = ended
        self._known: dict[int, _Known] = {}

    def verdict(self, trial: int, interval: int) -> PruneDecision:
        """Return what `verdict` returns; trials are numbered 0, 1, 2, … without a gap."""
        policy, curve = self._policy, self._curves[trial]
        if policy is None or not is_due(policy, interval) or _best(curve, interval) is None:
            return "continue"
        known = self._known.setdefault(interval, _Known())
        if known.num > trial:
            # Its process died, and it measures again what later trials were compared with.
            return verdict(policy, trial, interval, self._curves, self._ended)
        while known.num < trial:
            rival = self._curves[known.num]
            if known.num not in self._ended and _last(rival) < interval:
                return "wait"
            known.add(_compared(policy, rival, interval))
        return _judged(policy, curve, interval, known.ascending)


class _Known:
    """What the trials below `num` are compared by at one interval; nothing changes that."""

    def __init__(self) -> None:
        self.num = 0
        self.ascending: list[float] = []

    def add(self, value: float | None) -> None:
        self.num += 1
        if value is not None:
            insort(self.ascending, value)


def is_due(policy: EarlyTermination, interval: int) -> bool:
    """Return whether the policy looks at this interval."""
    if isinstance(policy, Asha):
        return interval in policy.rungs
    return interval >= policy.delay_evaluation and interval % policy.evaluation_interval == 0


def _judged(
    policy: EarlyTermination, curve: Curve, interval: int, ascending: Sequence[float]
) -> PruneDecision:
    """Return whether a trial goes on.

    Args:
        policy: What decides.
        curve: Of the trial, whose last evaluation may have measured nothing: an undefined metric.
        interval: Where trials are compared.
        ascending: What `_compared` returned of the others.
    """
    measured = _until(curve, interval)
    own = max(measured)
    everyone = list(ascending)
    insort(everyone, fmean(measured) if isinstance(policy, MedianStopping) else own)
    threshold = _threshold(policy, everyone)
    return "stop" if threshold is not None and own < threshold else "continue"


def _compared(policy: EarlyTermination, curve: Curve, interval: int) -> float | None:
    """Return what another trial is compared by, or None where it takes no part."""
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
        policy: What decides.
        ascending: What all trials are compared by, with the one that is judged.
    """
    if isinstance(policy, MedianStopping):
        return median(ascending)
    if isinstance(policy, Bandit):
        return _slack(policy, ascending[-1])
    if isinstance(policy, Asha):
        return ascending[-max(1, len(ascending) // policy.eta)]
    # Whoever is level with the first that stays, stays.
    return ascending[len(ascending) * policy.truncation_percentage // 100]


def _slack(policy: Bandit, best: float) -> float | None:
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    assert policy.slack_factor is not None, "a bandit has one slack"
    # A ratio of what is negative or 0 would stop the best trial itself.
    return best / (1 + policy.slack_factor) if best > 0 else None


def _best(curve: Curve, interval: int) -> float | None:
    return max(_until(curve, interval), default=None)


def _until(curve: Curve, interval: int) -> list[float]:
    # Intervals are whole and rise from 1: what is wanted is among the first `interval` of them.
    return [value for at, value in curve[:interval] if at <= interval]


def _last(curve: Curve) -> int:
    return curve[-1][0] if curve else 0
