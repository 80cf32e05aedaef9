"""Model selection among trials: each is compared with the best of those before it.

The result depends on the order of the trials' numbers and not on which ended first.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.training.selection import MARGIN, SMALL_VALIDATION, compare, margin_after

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """Score of a trial, to compare it with others.

    Attributes:
        trial: Trial id.
        value: Primary metric; None where it is undefined.
        losses: Loss of each validation image or group of images, [n], lower is better; None where
            there are images enough to go by the value.
    """

    trial: str
    value: float | None
    losses: NDArray[np.float64] | None = None


class BestModel:
    """The best of the trials that have ended, in whatever order they end.

    Args:
        decide: Called with every comparison and its inputs.
        baseline: Best before the first trial; None without a model.
        is_paired: Whether losses of images decide however many there are.
        margin: Standard errors by which a challenger must be better; None for more after others.
    """

    def __init__(
        self,
        decide: Callable[..., None],
        baseline: Score | None,
        *,
        is_paired: bool = False,
        margin: float | None = None,
    ) -> None:
        self._decide = decide
        self._margin = margin
        self._most = math.inf if is_paired else SMALL_VALIDATION
        self._settled = baseline
        # All trials below this number have ended; `_settled` is the best of them.
        self._number = 0
        self._ahead: dict[int, Score | None] = {}
        self._known: dict[tuple[str, str], bool] = {}
        self._numbers: dict[str, int] = {}

    def add(self, number: int, score: Score | None) -> None:
        """Add a trial that ended; None is one without a model."""
        if score is not None:
            self._numbers[score.trial] = number
        self._ahead[number] = score
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

    def _better(self, best: Score | None, candidate: Score | None) -> Score | None:
        if best is None or candidate is None:
            return best or candidate
        pair = best.trial, candidate.trial
        if pair not in self._known:
            margin = self._margin or margin_after(self._numbers[candidate.trial])
            wins, inputs = beats(candidate, best, margin, self._most)
            self._known[pair] = wins
            self._decide("champion", champion=pair[0], challenger=pair[1], wins=wins, **inputs)
            _tell(candidate, best, wins, inputs)
        return candidate if self._known[pair] else best


def _tell(candidate: Score, best: Score, wins: bool, inputs: dict[str, Any]) -> None:
    if "num_pairs" not in inputs:
        return
    log.info(
        "trial %s against %s on %d images or groups: loss lower by %.4f ± %.4f: %s",
        candidate.trial,
        best.trial,
        inputs["num_pairs"],
        inputs["mean_gain"],
        inputs["standard_error"],
        "taken" if wins else "not taken",
    )


def beats(
    candidate: Score, best: Score, margin: float = MARGIN, most: float = SMALL_VALIDATION
) -> tuple[bool, dict[str, Any]]:
    """Return whether a candidate is better than the best, and the inputs of that decision.

    On few validation images a difference may be chance: then they are compared image by image.

    Args:
        candidate: Score of the new trial.
        best: Best score so far.
        margin: Standard errors by which the candidate must be better.
        most: Number of images from which the primary metric decides.
    """
    if (
        candidate.losses is not None
        and best.losses is not None
        and len(best.losses) == len(candidate.losses) < most
    ):
        comparison = compare(best.losses, candidate.losses, margin)
        return comparison.is_better, comparison.inputs()
    values = {"value": candidate.value, "best": best.value}
    if candidate.value is None or best.value is None:
        return best.value is None and candidate.value is not None, values
    return candidate.value > best.value, values
