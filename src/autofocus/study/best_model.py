"""Which trial's model is the one to serve: each challenges the best of those before it.

The answer depends on the trials in the order of their numbers and not on which ended first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.training.finetune_trial import SMALL_VALIDATION
from autofocus.training.selection import compare, margin_after


@dataclass(frozen=True)
class Score:
    """What a trial is judged by.

    Attributes:
        trial: Its id.
        value: Of the primary metric; None where it is undefined.
        losses: Of each validation image or group of images, [n], such that lower is better;
            None where there are images enough to go by the value.
    """

    trial: str
    value: float | None
    losses: NDArray[np.float64] | None = None


class BestModel:
    """Takes trials as they end and knows the best at any time.

    Args:
        decide: Takes every comparison and its inputs.
        start: Holds the title before the first trial.
    """

    def __init__(self, decide: Callable[..., None], start: Score | None) -> None:
        self._decide = decide
        self._start = start
        self._settled = start
        # All trials below this number have ended; `_settled` is the best of them.
        self._number = 0
        self._ahead: dict[int, Score | None] = {}
        self._known: dict[tuple[str, str], bool] = {}
        self._numbers: dict[str, int] = {}

    def add(self, number: int, entry: Score | None) -> None:
        """Take a trial that ended; None is one without a model."""
        if entry is not None:
            self._numbers[entry.trial] = number
        self._ahead[number] = entry
        while self._number in self._ahead:
            self._settled = self._better(self._settled, self._ahead.pop(self._number))
            self._number += 1

    @property
    def current(self) -> Score | None:
        """The best of the trials that have ended."""
        best = self._settled
        for number in sorted(self._ahead):
            best = self._better(best, self._ahead[number])
        return best

    def _better(self, champion: Score | None, challenger: Score | None) -> Score | None:
        if champion is None or challenger is None:
            return champion or challenger
        pair = champion.trial, challenger.trial
        if pair not in self._known:
            wins, inputs = beats(challenger, champion, self._numbers[challenger.trial])
            self._known[pair] = wins
            self._decide("champion", champion=pair[0], challenger=pair[1], wins=wins, **inputs)
        return challenger if self._known[pair] else champion


def beats(challenger: Score, champion: Score, num_before: int = 0) -> tuple[bool, dict[str, Any]]:
    """Return whether a challenger takes the title, and from what that was decided.

    On few validation images a difference may be chance: then they are compared image by image.

    Args:
        challenger: Wants it.
        champion: Has it.
        num_before: Others that wanted it before: the more there were, the likelier is luck.
    """
    if (
        challenger.losses is not None
        and champion.losses is not None
        and len(champion.losses) == len(challenger.losses) < SMALL_VALIDATION
    ):
        comparison = compare(champion.losses, challenger.losses, margin_after(num_before))
        return comparison.challenger_wins, vars(comparison)
    values = {"value": challenger.value, "best": champion.value}
    if challenger.value is None or champion.value is None:
        return champion.value is None and challenger.value is not None, values
    return challenger.value > champion.value, values
