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
from autofocus.sweep.resolve import Plan
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
        losses: Of each validation image, [n]; None where images have no loss of their own.
    """

    candidate: Candidate
    trained: Trained
    losses: NDArray[np.float64] | None = None


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
    name = "classifier_trials" if plan.model.kind == CLASSIFIER else "detector_trials"
    return import_module(f"autofocus.sweep.{name}")
