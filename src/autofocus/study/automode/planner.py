"""The planner of a classifier's AutoMode: which action is next, as far as the time goes.

The order is by expected gain for what it costs, and is the same on every machine; whether there is
time is measured, and measured again with each action that ended.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from autofocus.study.automode.actions import Action, Tail
from autofocus.study.automode.candidates import Contest
from autofocus.study.study import RESERVE_FACTOR

# A pass of a frozen head or of two networks as one costs this much more: heads of folds, packages.
_FIXED_S: Final = 2.0
# Real steps are measured only where there is time for that, and for a good part of what a tail is
# expected to take without.
_MEASURE_S: Final = 20.0
_MEASURE_SHARE: Final = 0.5
# An action that ends too late is worth nothing: it must fit with this much to spare.
_SAFETY: Final = 1.1


@dataclass(frozen=True)
class Priced:
    """An action and the seconds that it is expected to take."""

    action: Action
    seconds: float


class Planner:
    """Chooses actions by expected gain and cost.

    Args:
        contest: Candidates so far.
        pass_s: Measured seconds of a forward pass of an image through the first encoder.

    Attributes:
        pass_s: The same.
    """

    def __init__(self, contest: Contest, pass_s: float) -> None:
        self._contest = contest
        self.pass_s = pass_s
        # Measured seconds over expected ones, by kind of action.
        self._factors: dict[str, float] = {}

    def left_s(self) -> float:
        """Return the seconds left for actions; infinite without a budget."""
        study = self._contest.study
        return study.left_s() - study.test_reserve_s() - self._larger_package_s()

    def price(self, action: Action) -> Priced:
        """Return an action with its expected cost."""
        return Priced(action, _FIXED_S + self._factors.get(action.kind, 1.0) * self._raw_s(action))

    def took(self, action: Action, seconds: float) -> None:
        """Learn from an action that ended."""
        raw_s = self._raw_s(action)
        if raw_s > 0:
            self._factors[action.kind] = max(0.0, seconds - _FIXED_S) / raw_s

    def choose(self, actions: Sequence[Action]) -> Priced | None:
        """Return the next action; None if there is no time for any."""
        ordered = self._ordered(actions)
        for action in ordered:
            if isinstance(action, Tail) and "tail" not in self._factors:
                self._measure([one for one in ordered if isinstance(one, Tail)])
            if (priced := self._fitting(action, self.left_s())) is not None:
                return priced
        return None

    def _fitting(self, action: Action, left_s: float) -> Priced | None:
        """Return an action, or what is done where there is no time for it; None if neither fits."""
        priced = [self.price(one) for one in (action, action.shorter) if one is not None]
        return next((one for one in priced if _SAFETY * one.seconds <= left_s), None)

    def _measure(self, tails: Sequence[Tail]) -> None:
        """Time the steps of the cheapest tail: nothing has trained yet, and no table knows more."""
        short = [one.shorter or one for one in tails]
        cheapest, left_s = min(short, key=lambda one: one.passes(self._contest)), self.left_s()
        needed_s = max(_MEASURE_S, _MEASURE_SHARE * self.price(cheapest).seconds)
        if math.isfinite(left_s) and left_s >= needed_s:
            self.took(cheapest, _FIXED_S + cheapest.measure(self._contest))

    def _larger_package_s(self) -> float:
        """Return what the package of the best takes more than that of the served model."""
        contest = self._contest
        ratio = contest.best.size / contest.served.size
        return max(0.0, ratio - 1) * RESERVE_FACTOR * contest.study.packaging_s

    def layout(self, actions: Sequence[Action]) -> list[Priced]:
        """Return the actions that are expected to fit, in order."""
        left_s, found = self.left_s(), []
        for action in self._ordered(actions):
            if (priced := self._fitting(action, left_s)) is not None:
                found.append(priced)
                left_s -= priced.seconds
        return found

    def cheapest(self, actions: Sequence[Action]) -> Priced | None:
        """Return the cheapest action."""
        short = [one.shorter or one for one in actions]
        return min(map(self.price, short), key=lambda one: one.seconds, default=None)

    def _ordered(self, actions: Sequence[Action]) -> list[Action]:
        return sorted(actions, key=lambda one: -one.gain / (1 + one.passes(self._contest)))

    def _raw_s(self, action: Action) -> float:
        return action.passes(self._contest) * len(self._contest.study.samples) * self.pass_s
