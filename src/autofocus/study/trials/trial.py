"""One trial of any kind of model: its inputs, callbacks and result."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.runtime import DISK_FULL, Track, no_progress
from autofocus.study.best_model import Score
from autofocus.study.resolve import Plan
from autofocus.study.study import Outcome, Study
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.loop import Trained
from autofocus.training.step import is_out_of_memory


@dataclass(frozen=True)
class Common:
    """Data that all trials of a run share; picklable.

    Attributes:
        labels: k class names.
        train: Training images, all of which decode.
        validation: Validation images, all of which decode.
        data_fingerprint: Fingerprint for manifests.
        metric: Primary metric.
        folder: Run folder.
    """

    labels: list[str]
    train: Samples[Any]
    validation: Samples[Any]
    data_fingerprint: str
    metric: str
    folder: Path


def common_of(study: Study, train: Samples[Any], validation: Samples[Any]) -> Common:
    """Return what all trials of a run have in common.

    Args:
        study: The run.
        train: Training images.
        validation: Validation images.
    """
    return Common(
        labels=study.labels,
        train=train,
        validation=validation,
        data_fingerprint=study.sources.fingerprint,
        metric=study.metric,
        folder=study.folder.path,
    )


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a trial.

    Attributes:
        on_epoch: Called with each evaluation; True ends training.
        should_stop: Whether the user has asked to stop.
        decide: Called with every decision and its inputs.
        track: Progress display.
    """

    decide: Callable[..., None]
    on_epoch: Callable[[dict[str, Any]], bool] = lambda report: False
    should_stop: Callable[[], bool] = lambda: False
    track: Track = no_progress


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial.

    Attributes:
        candidate: Model of its best epoch.
        trained: Result of training.
        losses: Loss of each validation image or group of images, [n], lower is better;
            None where there are images enough to go by the metric.
    """

    candidate: Candidate
    trained: Trained
    losses: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SweepStart:
    """State of a sweep before its first trial.

    Attributes:
        common: The run's data.
        image_s: Seconds that scoring a test image may take.
        score: Score of the first model; None without one.
        candidate: The model.
        first_model_s: Seconds to its package; 0 before it is packaged.
    """

    common: Common
    image_s: float
    score: Score | None = None
    candidate: Candidate | None = None
    first_model_s: float = 0.0


class Trials(Protocol):
    """The trials of models of one kind; `runner.TRIALS` has them by kind."""

    def run_single(self, study: Study) -> Outcome:
        """Train and publish the model of a job that is no sweep."""

    def begin_sweep(self, study: Study, plan: Plan) -> SweepStart:
        """Check and split the images; publish a first model where there is one to be had.

        Args:
            study: The run.
            plan: The first trial's.
        """

    def train(
        self, common: Common, plan: Plan, trial: str, deadline_s: float | None, hooks: Hooks
    ) -> TrialResult:
        """Train the model of a plan in `trials/<id>/`, or resume it; return its best epoch.

        Args:
            common: The run's data.
            plan: The trial's.
            trial: Its id.
            deadline_s: Time (`time.monotonic()`) by which it ends; None for no limit.
            hooks: Callbacks.
        """


def failure(error: BaseException) -> str:
    """Return why something failed, in one line."""
    first = str(error).strip().partition("\n")[0]
    if is_out_of_memory(error):
        return f"out of memory: {first or type(error).__name__}"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def is_disk_full(error: BaseException) -> bool:
    """Return whether nothing can be written any more, by whichever trial."""
    return isinstance(error, OSError) and error.errno in DISK_FULL


@dataclass(frozen=True)
class Assignment:
    """A trial to run.

    Attributes:
        number: 0, 1, 2, …; its id.
        plan: The sweep's plan with the drawn parameters.
        deadline_s: Time (`time.monotonic()`) by which it ends; None for no limit.
    """

    number: int
    plan: Plan
    deadline_s: float | None

    @property
    def trial(self) -> str:
        """The trial's id."""
        return str(self.number)


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
