"""One trial: what it trains, where and until when, and its result. Only trials open a spec."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import Preprocess, Tiling
from autofocus.models.base import LoadedWeights, ModelSpec
from autofocus.models.weights.load import OnMissing, load_weights
from autofocus.runtime import Track, no_progress
from autofocus.tasks.base import Settings, Task
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.device import choose_device, prepare_torch
from autofocus.training.loop import Trained
from autofocus.training.recipe import Recipe


@dataclass(frozen=True)
class WeightsChoice:
    """The pretrained weights to take, by name.

    Attributes:
        source: `random`, the path of a file, or None for the model's own.
        on_missing: `substitute` lets the embedded model stand in for one that cannot be had.
        accept_licences: Licences the user accepts besides Apache, MIT and BSD.
        user_named_model: False lets the embedded model stand in.
    """

    source: str | None = None
    on_missing: OnMissing = "error"
    accept_licences: Collection[str] = ()
    user_named_model: bool = True

    def load(self, model: ModelSpec, track: Track = no_progress) -> LoadedWeights:
        """Return the weights of `model`; see `load_weights`."""
        return load_weights(
            model,
            self.source,
            self.on_missing,
            self.accept_licences,
            self.user_named_model,
            track=track,
        )


@dataclass(frozen=True)
class TrialSpec:
    """What a trial trains: resolved, frozen, picklable. Images are positions in the run's samples.

    Attributes:
        id: Name of the trial and of its folder.
        task: The task.
        labels: k class names.
        model: The model that was asked for.
        weights: Its pretrained weights.
        preprocess: Preprocessing.
        recipe: Training recipe.
        train: Positions of the training images, [n].
        validation: Positions of the validation images, [m].
        primary_metric: Metric that ranks epochs and trials.
        seed: Seed of everything random.
        device: `auto` or a torch device.
        data_fingerprint: Fingerprint of the data, for the manifest.
        network: Options to build the network with.
        settings: Thresholds and limits of the model.
        tiling: Tiles of each image beside the whole; None without tiles.
        compares_groups: Whether its losses are wanted however many validation images there are.
    """

    id: str
    task: Task[Any, Any]
    labels: Sequence[str]
    model: ModelSpec
    weights: WeightsChoice
    preprocess: Preprocess
    recipe: Recipe
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    primary_metric: str
    seed: int
    device: str
    data_fingerprint: str
    network: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    tiling: Tiling | None = None
    compares_groups: bool = False

    def of(self, samples: Samples) -> tuple[Samples, Samples]:
        """Return its training and its validation images."""
        return samples.chosen(self.train), samples.chosen(self.validation)

    def prepare(self, track: Track = no_progress) -> tuple[LoadedWeights, torch.device]:
        """Return the pretrained weights and the device.

        Raises:
            WeightsError: If the weights cannot be had or their licence was not accepted.
            JobError: If the device does not exist.
        """
        prepare_torch()
        return self.weights.load(self.model, track), choose_device(self.device)


def _never(*_: object) -> bool:
    return False


def _unrecorded(what: str, **inputs: object) -> None:
    """Record no decision."""


@dataclass(frozen=True)
class RunContext:
    """Where a trial runs, until when, and whom it tells.

    Attributes:
        folder: The trial's folder.
        deadline_s: Time (`time.monotonic()`) by which it ends; None for no limit.
        should_stop: Whether the user has asked to stop.
        on_epoch: Called with each evaluation; True ends training.
        decide: Called with every decision and its inputs.
        track: Progress display.
    """

    folder: Path
    deadline_s: float | None = None
    should_stop: Callable[[], bool] = _never
    on_epoch: Callable[[dict[str, Any]], bool] = _never
    decide: Callable[..., None] = _unrecorded
    track: Track = no_progress

    def on_worker(self) -> "RunContext":
        """Return the context of another process that trains with this one; it tells nobody."""
        return RunContext(self.folder, self.deadline_s)


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial.

    Attributes:
        candidate: Model of its best epoch.
        trained: Result of training.
        losses: Loss of each validation image or group of images, [m], lower is better;
            None where there are images enough to go by the metric.
        initial_losses: The same of the network that training began with; None where it is no
            result.
    """

    candidate: Candidate
    trained: Trained
    losses: NDArray[np.float64] | None = None
    initial_losses: NDArray[np.float64] | None = None
