"""How much a run may try, its wall time and its trials: a finished run goes on where more is asked.

A file of its own: a rule that is tested alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from autofocus.study.resolve import Plan

# More time than it has taken that is worth another start, which takes seconds by itself.
LEAST_MORE_S = 20.0


@dataclass(frozen=True)
class Extent:
    """How much a run may try.

    Attributes:
        budget_s: Seconds that the run may take, over all its commands; None for no limit.
        max_trials: Maximum number of trials; None is AutoMode's own choice.
    """

    budget_s: float | None
    max_trials: int | None

    @classmethod
    def of(cls, plan: Plan) -> "Extent":
        """Return what a job asks for."""
        return cls(plan.job.budget_s, None if plan.chooses_number else plan.job.limits.max_trials)

    def document(self) -> dict[str, Any]:
        """Return the extent as `result.json` has it."""
        return {"budget_s": self.budget_s, "max_trials": self.max_trials}

    def is_more_than(self, result: Mapping[str, Any]) -> bool:
        """Return whether a finished run that came to this result goes on.

        Args:
            result: Its `result.json`.
        """
        if "max_trials" not in result or self._left_s(result) < LEAST_MORE_S:
            return False
        before = Extent(result["budget_s"], result["max_trials"])
        return self._num_trials() > before._num_trials() or self._time() > before._time()

    def _left_s(self, result: Mapping[str, Any]) -> float:
        return inf if self.budget_s is None else self.budget_s - float(result["seconds"])

    def _num_trials(self) -> float:
        if self.max_trials is not None:
            return self.max_trials
        # Without a budget AutoMode tries what is cheap, and as much as fits within one.
        return 0 if self.budget_s is None else inf

    def _time(self) -> float:
        if self.budget_s is not None:
            return self.budget_s
        return 0.0 if self.max_trials is None else inf
