"""A trial of a job with objects in its images: a detector from its pretrained encoder on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from autofocus.data.tiles import evaluation_entries
from autofocus.manifest import (
    MANIFEST_NAME,
    DataInfo,
    Manifest,
    ResizeFit,
    Tiling,
    encode_manifest,
)
from autofocus.models.network import Network
from autofocus.models.weights import LoadedWeights
from autofocus.runtime import Track, write_atomically
from autofocus.tasks.base import Settings, Task
from autofocus.training import team
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.curves import draw_curves
from autofocus.training.evaluate import EvaluationSet
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.loop import Fit, Trained, fit
from autofocus.training.losses import OBJECTIVES
from autofocus.training.recipe import Recipe
from autofocus.training.trial_log import trial_facts, trial_log

NUM_CHECK_IMAGES = 8


@dataclass(frozen=True)
class DetectorTrial:
    """Everything a trial needs.

    Attributes:
        task: What is learnt.
        model_name: Of the catalog.
        network: Built for the task's classes; on the CPU.
        weights: What its pretrained part came from.
        preprocess: How images become network input.
        options: What the network was built with.
        settings: Thresholds and limits of the model.
        labels: k class names.
        recipe: How to train.
        train: Images to learn from.
        held_out: Images to judge by.
        data_fingerprint: For the manifest.
        primary_metric: What epochs are ranked by.
        seed: Decides everything random.
        accelerator: The door to the device.
        folder: Of the trial.
        deadline_s: `time.monotonic()` by which training ends, or None.
        should_stop: Whether the user has asked to stop.
        on_epoch: Told each evaluation; True ends training.
        track: Shows progress.
        tiling: How images are cut up besides being seen whole; None where they are not.
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
    held_out: Samples[Any]
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
    """Train, and return the best of its epochs and how training went."""
    accelerator = trial.accelerator
    facts = trial_facts(
        trial.model_name,
        trial.train,
        trial.held_out,
        trial.weights,
        accelerator.device,
        accelerator.mixed_precision,
        trial.deadline_s,
    )
    folder = trial.folder
    with trial_log(folder, facts), team.working(take_part, trial):
        trained = take_part(trial)
    candidate = _candidate(trial, trained)
    draw_curves(folder / "metrics.jsonl", folder / "curves.png", trial.primary_metric)
    write_atomically(folder / MANIFEST_NAME, encode_manifest(candidate.manifest))
    return candidate, trained


def take_part(trial: DetectorTrial) -> Trained:
    """Train, alone or with the process that runs `run_detector_trial`."""
    task, labels, recipe = trial.task, trial.labels, trial.recipe
    targets = task.encode_targets(trial.train.records, labels)
    judged = task.encode_targets(trial.held_out.records, labels)
    network = trial.network.to(trial.accelerator.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = OBJECTIVES[task.name](recipe, targets, trial.network)
    spec, accelerator = trial.preprocess, trial.accelerator
    caches = shared_budgets(len(targets), len(judged), accelerator.num_processes)
    tiling = trial.tiling
    entries = evaluation_entries(len(judged), tiling) if tiling else []
    seed, batch_size = trial.seed, recipe.batch_size
    with (
        training_loader(
            trial.train, targets, objective, spec, recipe, seed, accelerator, caches[0], tiling
        ) as training,
        evaluation_loader(
            trial.held_out, judged, objective, spec, batch_size, caches[1], entries
        ) as validation,
    ):
        return fit(
            Fit(
                network=network,
                task=task,
                objective=objective,
                recipe=recipe,
                training=training,
                validation=EvaluationSet(validation, judged, labels, trial.settings, entries),
                score=lambda metrics: _score(metrics, trial.primary_metric),
                folder=trial.folder,
                seed=trial.seed,
                accelerator=trial.accelerator,
                deadline_s=trial.deadline_s,
                should_stop=trial.should_stop,
                on_epoch=trial.on_epoch,
                track=trial.track,
            )
        )


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
        data=DataInfo(trial.data_fingerprint, len(trial.train), len(trial.held_out)),
        tiling=trial.tiling,
        outputs=list(network.output_names),
        settings=dict(trial.settings),
        network=dict(trial.options),
        metrics=metrics,
    )
    return Candidate(network, manifest, metrics, trial.held_out.locations[:NUM_CHECK_IMAGES])
