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

# A pass of a frozen head or of two networks as one costs this much more: heads of folds, packages.
_FIXED_S: Final = 2.0
# Real steps are measured only where there is time for that, and for a good part of what a tail is
# expected to take without.
_MEASURE_S: Final = 20.0
_MEASURE_SHARE: Final = 0.5


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
        return study.left_s() - study.test_reserve_s()

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
        left_s = self.left_s()
        for action in self._ordered(actions):
            if math.isfinite(left_s) and isinstance(action, Tail) and "tail" not in self._factors:
                if left_s < max(_MEASURE_S, _MEASURE_SHARE * self.price(action).seconds):
                    continue
                # Nothing here has trained yet: real steps say more than any table.
                self.took(action, _FIXED_S + action.measure(self._contest))
                left_s = self.left_s()
            priced = self.price(action)
            if priced.seconds <= left_s:
                return priced
        return None

    def layout(self, actions: Sequence[Action]) -> list[Priced]:
        """Return the actions that are expected to fit, in order."""
        left_s, found = self.left_s(), []
        for priced in map(self.price, self._ordered(actions)):
            if priced.seconds <= left_s:
                found.append(priced)
                left_s -= priced.seconds
        return found

    def cheapest(self, actions: Sequence[Action]) -> Priced | None:
        """Return the cheapest action."""
        return min(map(self.price, actions), key=lambda one: one.seconds, default=None)

    def _ordered(self, actions: Sequence[Action]) -> list[Action]:
        return sorted(actions, key=lambda one: -one.gain / (1 + one.passes(self._contest)))

    def _raw_s(self, action: Action) -> float:
        return action.passes(self._contest) * len(self._contest.study.samples) * self.pass_s
