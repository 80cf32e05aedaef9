"""One trial, whatever the model's kind: what it is told, and what it comes to."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.models.base import CLASSIFIER
from autofocus.runtime import Track, no_progress
from autofocus.study.best_model import Score
from autofocus.study.resolve import Plan
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.loop import Trained


@dataclass(frozen=True)
class Common:
    """What all trials of a run have in common. It can be sent to another process.

    Attributes:
        labels: k class names.
        train: Images to learn from, all of which decode.
        held_out: Images to judge by, all of which decode.
        data_fingerprint: For manifests.
        metric: The primary metric.
        folder: Of the run.
    """

    labels: list[str]
    train: Samples[Any]
    held_out: Samples[Any]
    data_fingerprint: str
    metric: str
    folder: Path


@dataclass(frozen=True)
class Hooks:
    """How a trial talks to whoever runs it.

    Attributes:
        on_epoch: Told each evaluation; True ends training.
        should_stop: Whether the user has asked to stop.
        decide: Takes every choice and its inputs.
        track: Shows progress.
    """

    decide: Callable[..., None]
    on_epoch: Callable[[dict[str, Any]], bool] = lambda report: False
    should_stop: Callable[[], bool] = lambda: False
    track: Track = no_progress


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to.

    Attributes:
        candidate: Its best epoch.
        trained: How training went.
        losses: Of each validation image or group of images, [n], such that lower is better;
            None where there are images enough to go by the metric.
    """

    candidate: Candidate
    trained: Trained
    losses: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SweepStart:
    """What a sweep has before its first trial.

    Attributes:
        common: Of all trials.
        image_s: Seconds that scoring an image of the test data may take.
        entry: Of the model that is there already; None where there is none.
        candidate: That model.
        first_model_s: Seconds to its package, where that is there already.
    """

    common: Common
    image_s: float
    entry: Score | None = None
    candidate: Candidate | None = None
    first_model_s: float = 0.0


class TrainTrial(Protocol):
    """Trains the model of a plan in `trials/<id>/`, or goes on where that was interrupted."""

    def __call__(
        self, common: Common, plan: Plan, trial: str, deadline_s: float | None, hooks: Hooks
    ) -> TrialResult:
        """Return the best of its epochs.

        Args:
            common: Of all trials.
            plan: Of this trial.
            trial: Its id.
            deadline_s: `time.monotonic()` by which it ends, or None.
            hooks: How it talks.
        """


def trials_module(plan: Plan) -> Any:
    """Return the module of the model's kind; importing it imports torch."""
    name = "classifiers" if plan.model.kind == CLASSIFIER else "detectors"
    return import_module(f"autofocus.study.trials.{name}")


def automode_module(plan: Plan) -> Any:
    """Return the module of what AutoMode does otherwise for the model's kind."""
    name = "classifiers" if plan.model.kind == CLASSIFIER else "detectors"
    return import_module(f"autofocus.study.automode.{name}")


@dataclass(frozen=True)
class Assignment:
    """A trial to run.

    Attributes:
        number: 0, 1, 2, …; its id.
        plan: The sweep's, with what was drawn.
        deadline_s: `time.monotonic()` by which it ends, or None.
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
    """How a trial ended; what it is worth is in its folder.

    Attributes:
        status: `completed`, `terminated` by the policy, `stopped` by the user, or `failed`.
        reason: Why it ended.
        value: Of the primary metric at its best epoch; None without one.
        epochs: That were finished.
        seconds: That it took, in this process.
    """

    status: str
    reason: str
    value: float | None
    epochs: int
    seconds: float
