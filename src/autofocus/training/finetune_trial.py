"""A fine-tuning trial of a classification job: from the probe's head through the whole network."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import Accelerator

from autofocus.data.loader import Loader
from autofocus.manifest import MANIFEST_NAME, Calibration, encode_manifest
from autofocus.metrics.calibration import MIN_CALIBRATION_IMAGES, fit_temperature
from autofocus.models.timm_classifiers import Classifier
from autofocus.runtime import Track, write_atomically
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.classification import ClassificationTask
from autofocus.training import team
from autofocus.training.candidate import Candidate
from autofocus.training.curves import draw_curves
from autofocus.training.evaluate import Evaluation, EvaluationSet, run_network
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.loop import Fit, Trained, fit
from autofocus.training.losses import OBJECTIVES
from autofocus.training.probe_trial import Probed, ProbeSetup
from autofocus.training.recipe import Recipe
from autofocus.training.trial_log import trial_facts, trial_log

# With fewer validation images one of them moves accuracy more than most epochs do.
SMALL_VALIDATION = 200


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning made.

    Attributes:
        candidate: The model that could be published.
        trained: How training went.
        predictions: For the held-out images, in order.
    """

    candidate: Candidate
    trained: Trained
    predictions: list[ClassScores]


@dataclass(frozen=True)
class Finetuning:
    """What a fine-tuning run needs besides what the probe found.

    Attributes:
        setup: The probe's.
        recipe: How to train.
        accelerator: The door to the device.
        primary_metric: What large validation sets are judged by.
        folder: Of the trial.
        deadline_s: `time.monotonic()` by which training ends, or None.
        should_stop: Whether the user has asked to stop.
        on_epoch: Told each evaluation; True ends training.
        track: Shows progress.
    """

    setup: ProbeSetup
    recipe: Recipe
    accelerator: Accelerator
    primary_metric: str
    folder: Path
    deadline_s: float | None
    should_stop: Callable[[], bool]
    on_epoch: Callable[[dict[str, Any]], bool]
    track: Track


def run_finetune(job: Finetuning, probed: Probed) -> Finetuned:
    """Fine-tune the probe's network and return the best of its epochs."""
    weights, accelerator, folder = job.setup.weights, job.accelerator, job.folder
    facts = trial_facts(
        weights.spec.name,
        probed.train,
        probed.held_out,
        weights,
        accelerator.device,
        accelerator.mixed_precision,
        job.deadline_s,
    )
    with (
        trial_log(folder, facts),
        team.working(take_part, job, probed),
        _trained(job, probed) as (trained, validation),
    ):
        finetuned = _calibrated(job, probed, trained, validation)
    draw_curves(folder / "metrics.jsonl", folder / "curves.png", job.primary_metric)
    write_atomically(folder / MANIFEST_NAME, encode_manifest(finetuned.candidate.manifest))
    return finetuned


def take_part(job: Finetuning, probed: Probed) -> Trained:
    """Train with the process that runs `run_finetune`."""
    with _trained(job, probed) as (trained, _):
        return trained


@contextmanager
def _trained(job: Finetuning, probed: Probed) -> Iterator[tuple[Trained, Loader]]:
    """Train; the loader of the held-out images is open as long as this is entered."""
    setup = job.setup
    task, labels = setup.task, setup.labels
    targets = task.encode_targets(probed.train.records, labels)
    judged = task.encode_targets(probed.held_out.records, labels)
    objective = OBJECTIVES[task.name](job.recipe, targets, probed.start)
    spec, recipe, accelerator = setup.preprocess, job.recipe, job.accelerator
    caches = shared_budgets(len(targets), len(judged), accelerator.num_processes)
    with (
        training_loader(
            probed.train, targets, objective, spec, recipe, setup.seed, accelerator, caches[0]
        ) as training,
        evaluation_loader(
            probed.held_out, judged, objective, spec, recipe, caches[1]
        ) as validation,
    ):
        trained = fit(
            Fit(
                network=_channels_last(probed.start, accelerator.device),
                task=task,
                objective=objective,
                recipe=recipe,
                training=training,
                validation=EvaluationSet(validation, judged, labels),
                score=selection_score(job.primary_metric, len(judged)),
                folder=job.folder,
                seed=setup.seed,
                accelerator=accelerator,
                deadline_s=job.deadline_s,
                should_stop=job.should_stop,
                on_epoch=job.on_epoch,
                track=job.track,
            )
        )
        yield trained, validation


def selection_score(primary_metric: str, num_images: int) -> Callable[[dict[str, Any]], float]:
    """Return how epochs are ranked: by the primary metric, on small sets by log loss.

    Args:
        primary_metric: The job's.
        num_images: Validation images.
    """

    def score(metrics: dict[str, Any]) -> float:
        value, loss = metrics.get(primary_metric), metrics.get("log_loss")
        if loss is not None and (num_images < SMALL_VALIDATION or value is None):
            return -float(loss)
        return float("-inf") if value is None else float(value)

    return score


def _channels_last(network: Classifier, device: torch.device) -> Classifier:
    placed: Classifier = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _calibrated(job: Finetuning, probed: Probed, trained: Trained, validation: Loader) -> Finetuned:
    task, size = job.setup.task, job.setup.preprocess.size
    network: Classifier = trained.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    targets = task.encode_targets(probed.held_out.records, job.setup.labels)
    judged = EvaluationSet(validation, targets, job.setup.labels)
    calibration, evaluation = calibrate(network, task, judged, trained.evaluation, size)
    manifest = msgspec.structs.replace(
        probed.candidate.manifest, calibration=calibration, metrics=evaluation.metrics
    )
    candidate = dataclasses.replace(
        probed.candidate, network=network, manifest=manifest, metrics=evaluation.metrics
    )
    return Finetuned(candidate, trained, evaluation.predictions)


def calibrate(
    network: Classifier,
    task: ClassificationTask[Any],
    judged: EvaluationSet,
    evaluation: Evaluation,
    size: tuple[int, int],
) -> tuple[Calibration, Evaluation]:
    """Find the temperature on validation and fold it into the head, where there are images enough.

    Args:
        network: On the CPU; its head is changed.
        task: A classification task.
        judged: The validation images.
        evaluation: Of the network on them.
        size: (height, width) of its input, in pixels.

    Returns:
        The temperature and where it comes from, and the evaluation with it.
    """
    if len(judged.targets) < MIN_CALIBRATION_IMAGES:
        return Calibration(), evaluation
    targets, labels = judged.targets, judged.labels
    batches = run_network(network, judged.loader, torch.device("cpu"))
    logits = np.concatenate([outputs["logits"] for outputs, _ in batches])
    temperature = fit_temperature(logits, np.asarray(targets), task.activation)
    network.set_head(network.head.weight / temperature, network.head.bias / temperature)
    scaled = {"logits": (logits / temperature).astype(np.float32)}
    predictions = task.postprocess(scaled, [Frame(size)] * len(targets), {})
    metrics = task.evaluate(predictions, targets, labels, {})
    found = Calibration(temperature, "validation", len(targets))
    return found, Evaluation(predictions, metrics)
