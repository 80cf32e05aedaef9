"""A trial of a detector or segmenter, from its pretrained encoder on."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.tiles import evaluation_entries
from autofocus.manifest import (
    MANIFEST_NAME,
    DataInfo,
    Manifest,
    ResizeFit,
    Tiling,
    encode_manifest,
)
from autofocus.models.base import LoadedWeights
from autofocus.models.network import Network
from autofocus.runtime import Track, write_atomically
from autofocus.tasks.base import Settings, Task
from autofocus.training import distributed
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.evaluate import EvaluationSet
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.loop import Fit, Trained, fit
from autofocus.training.losses import OBJECTIVES, Objective
from autofocus.training.losses.detection import takes_sizes
from autofocus.training.recipe import Recipe
from autofocus.training.trial_log import draw_curves, trial_facts, trial_log

log = logging.getLogger(__name__)

NUM_CHECK_IMAGES = 8
# Training images that each evaluation covers where the job asks for it.
MAX_TRAIN_SUBSET = 200


@dataclass(frozen=True)
class DetectorTrial:
    """Arguments of a detector's trial.

    Attributes:
        task: The task.
        model_name: Name in the catalog.
        network: Network for the task's classes, on the CPU.
        weights: Its pretrained weights.
        preprocess: Preprocessing.
        options: Options the network was built with.
        settings: Thresholds and limits of the model.
        labels: k class names.
        recipe: Training recipe.
        train: Training images.
        validation: Validation images.
        data_fingerprint: Fingerprint for the manifest.
        primary_metric: Metric that ranks epochs.
        seed: Seed of everything random.
        accelerator: Device and processes.
        folder: Trial folder.
        deadline_s: Time (`time.monotonic()`) by which training ends; None for no limit.
        should_stop: Whether the user has asked to stop.
        on_epoch: Called with each evaluation; True ends training.
        track: Progress display.
        tiling: Tiles of each image beside the whole; None without tiles.
    """

    task: Task[Any, Any]
    model_name: str
    network: Network
    weights: LoadedWeights
    preprocess: ResizeFit
    options: Mapping[str, Any]
    settings: Settings
    labels: list[str]
    recipe: Recipe
    train: Samples[Any]
    validation: Samples[Any]
    data_fingerprint: str
    primary_metric: str
    seed: int
    accelerator: Accelerator
    folder: Path
    deadline_s: float | None
    should_stop: Callable[[], bool]
    on_epoch: Callable[[dict[str, Any]], bool]
    track: Track
    tiling: Tiling | None = None


def run_detector_trial(trial: DetectorTrial) -> tuple[Candidate, Trained]:
    """Train; return the best epoch's model and the result of training."""
    accelerator = trial.accelerator
    facts = trial_facts(
        trial.model_name,
        trial.train,
        trial.validation,
        trial.weights,
        accelerator.device,
        accelerator.mixed_precision,
        trial.deadline_s,
    )
    folder, recipe = trial.folder, trial.recipe
    with trial_log(folder, facts), distributed.on_all_ranks(train_detector, trial):
        for line in unheeded(trial.network, trial.model_name, recipe):
            log.warning("%s", line)
        trained = train_detector(trial)
    candidate = _candidate(trial, trained)
    draw_curves(folder / "metrics.jsonl", folder / "curves.png", trial.primary_metric)
    write_atomically(folder / MANIFEST_NAME, encode_manifest(candidate.manifest))
    return candidate, trained


def unheeded(network: Network, model_name: str, recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for each setting of the recipe that this network cannot use."""
    if recipe.multi_scale and not takes_sizes(network):
        yield f"multi_scale is not used: {model_name} takes one size"


def train_detector(trial: DetectorTrial) -> Trained:
    """Train, on this rank or on all; rank 0 runs `run_detector_trial`."""
    task, labels, recipe = trial.task, trial.labels, trial.recipe
    targets = task.encode_targets(trial.train.records, labels)
    network = trial.network.to(trial.accelerator.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = OBJECTIVES[task.name](recipe, targets, trial.network)
    spec, accelerator = trial.preprocess, trial.accelerator
    caches = shared_budgets(len(targets), len(trial.validation), accelerator.num_processes)
    seed, tiling = trial.seed, trial.tiling
    some = train_subset(trial.train, seed)
    with (
        training_loader(
            trial.train, targets, objective, spec, recipe, seed, accelerator, caches[0], tiling
        ) as training,
        _measured(trial, trial.validation, objective, caches[1]) as validation,
        _measured(trial, some, objective, CacheBudget())
        if recipe.log_training_metrics
        else nullcontext() as subset,
    ):
        return fit(
            Fit(
                network=network,
                task=task,
                objective=objective,
                recipe=recipe,
                training=training,
                validation=validation,
                score=lambda metrics: _score(metrics, trial.primary_metric),
                folder=trial.folder,
                seed=trial.seed,
                accelerator=trial.accelerator,
                deadline_s=trial.deadline_s,
                should_stop=trial.should_stop,
                on_epoch=trial.on_epoch,
                track=trial.track,
                train_subset=subset,
                # Untrained heads: the initial network is no result.
                initial_is_valid=False,
            )
        )


@contextmanager
def _measured(
    trial: DetectorTrial, samples: Samples[Any], objective: Objective, cache: CacheBudget
) -> Iterator[EvaluationSet]:
    """Open images to evaluate on."""
    tiling, labels = trial.tiling, trial.labels
    targets = trial.task.encode_targets(samples.records, labels)
    entries = evaluation_entries(len(samples), tiling) if tiling else []
    with evaluation_loader(
        samples, targets, objective, trial.preprocess, trial.recipe, cache, entries
    ) as loader:
        yield EvaluationSet(loader, targets, labels, trial.settings, entries)


def train_subset(train: Samples[Any], seed: int) -> Samples[Any]:
    """Return the training images that evaluations cover: all, or some that the seed chooses."""
    order = np.random.default_rng(seed).permutation(len(train))
    return train.chosen(np.sort(order[:MAX_TRAIN_SUBSET]))


def _score(metrics: Mapping[str, Any], primary_metric: str) -> float:
    value = metrics.get(primary_metric)
    return float("-inf") if value is None else float(value)


def _candidate(trial: DetectorTrial, trained: Trained) -> Candidate:
    network = trained.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    metrics = trained.evaluation.metrics
    manifest = Manifest(
        task=trial.task.name,
        labels=list(trial.labels),
        model_name=trial.model_name,
        preprocess=trial.preprocess,
        weights=trial.weights.info,
        data=DataInfo(trial.data_fingerprint, len(trial.train), len(trial.validation)),
        tiling=trial.tiling,
        outputs=list(network.output_names),
        settings=dict(trial.settings),
        network=dict(trial.options),
        metrics=metrics,
    )
    return Candidate(network, manifest, metrics, trial.validation.locations[:NUM_CHECK_IMAGES])
