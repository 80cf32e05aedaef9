"""The trials of one kind of model: what a kind must offer, an assignment, and how a trial ended."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import (
    AutofocusError,
    BudgetError,
    JobError,
    StoppedError,
    TrainingError,
)
from autofocus.models import catalog
from autofocus.runtime import DISK_FULL
from autofocus.study.resolve import Plan
from autofocus.study.study import Study
from autofocus.training.candidate import Samples
from autofocus.training.step import is_out_of_memory
from autofocus.training.trial import RunContext, TrialResult, TrialSpec

# Maximum number of failed trials in an error; the leaderboard has all of them.
_MAX_REASONS = 5


class Trials(Protocol):
    """The trials of models of one kind; `runner.TRIALS` has them by kind.

    Attributes:
        single_probe: Id of the first model of a job with one trial.
        single_number: Number of that trial.
    """

    single_probe: str
    single_number: int

    def begin(self, study: Study, plan: Plan, probe: str) -> None:
        """Give a study its images, checked and split, and a first model where there is one.

        Args:
            study: The run.
            plan: The first trial's.
            probe: Id of the first model.
        """

    @property
    def train(self) -> Callable[[TrialSpec, Samples, RunContext], TrialResult]:
        """Function that trains the model of a spec, or resumes it, and returns its best epoch."""

    def spec(
        self,
        study: Study,
        plan: Plan,
        trial: str,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
    ) -> TrialSpec:
        """Resolve what a trial trains.

        Args:
            study: The run.
            plan: The trial's.
            trial: Its id.
            train: Positions of its training images, [n].
            validation: Positions of its validation images, [m].
        """


@dataclass(frozen=True)
class Assignment:
    """A trial to run.

    Attributes:
        number: 0, 1, 2, …
        spec: What it trains.
        deadline_s: Time (`time.monotonic()`) by which it ends; None for no limit.
    """

    number: int
    spec: TrialSpec
    deadline_s: float | None


@dataclass(frozen=True)
class TrialEnd:
    """End of a trial; its folder has the result.

    Attributes:
        status: `completed`, `terminated` by the policy, `stopped` by the user, or `failed`.
        reason: Reason why it ended.
        value: Primary metric at its best epoch; None without one.
        epochs: Finished epochs.
        seconds: Seconds that it took, in this process.
    """

    status: str
    reason: str
    value: float | None
    epochs: int
    seconds: float


def failure(error: BaseException) -> str:
    """Return why something failed, in one line."""
    first = str(error).strip().partition("\n")[0]
    if is_out_of_memory(error):
        return f"out of memory: {first or type(error).__name__}"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def without_model(
    study: Study,
    plan: Plan,
    rows: Iterable[Mapping[str, Any]],
    spec_of: Callable[[Plan], TrialSpec],
) -> AutofocusError:
    """Return the error of a run whose trials have ended without a model.

    Args:
        study: The run.
        plan: The job's.
        rows: Rows of its trials.
        spec_of: Function that resolves the trial of a plan.
    """
    if study.is_stopped():
        return StoppedError(
            "stopped before any trial had a model. The same command goes on where this one stopped."
        )
    failed = [row for row in rows if row["status"] == "failed"]
    if not failed:
        return BudgetError("the budget ended before any trial had a model; give more.")
    if all("over_limit" in row for row in failed):
        return over_limit(study, plan, [*dict.fromkeys(row["reason"] for row in failed)], spec_of)
    reasons = "; ".join(f"trial {row['id']}: {row['reason']}" for row in failed[:_MAX_REASONS])
    return TrainingError(f"no trial had a model: {reasons}")


def over_limit(
    study: Study, plan: Plan, problems: Sequence[str], spec_of: Callable[[Plan], TrialSpec]
) -> JobError:
    """Return the error of a job all of whose models exceed its limits.

    Args:
        study: The run.
        plan: Plan of one of them.
        problems: What `ModelLimits.problem_of` says of each.
        spec_of: Function that resolves the trial of a plan.
    """
    smallest = catalog.resolve(catalog.default_model(plan.model.kind))
    own_weights = plan.job.weights not in (None, "random")
    is_known = own_weights or any(smallest.name in text for text in problems)
    small = None if is_known else spec_of(replace(plan, model=smallest))
    return study.limits.nothing_fits(problems, plan.model.kind, small)


def is_disk_full(error: BaseException) -> bool:
    """Return whether nothing can be written any more, by whichever trial."""
    return isinstance(error, OSError) and error.errno in DISK_FULL
