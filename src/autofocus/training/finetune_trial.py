"""A fine-tuning trial of a classifier: the whole network, from a probe's head on."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from autofocus.data.batches.loader import Loader
from autofocus.manifest import MANIFEST_NAME, Calibration, encode_manifest
from autofocus.metrics.calibration import MIN_CALIBRATION_IMAGES, fit_temperature
from autofocus.models.network import Classifier
from autofocus.runtime import Track, write_atomically
from autofocus.structures.frames import Frame
from autofocus.tasks.base import Targets
from autofocus.tasks.classification import ClassificationTask
from autofocus.training import distributed
from autofocus.training.averaging import interpolate
from autofocus.training.candidate import Candidate
from autofocus.training.evaluate import Evaluation, EvaluationSet, evaluate, run_network
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.loop import Fit, Trained, fit
from autofocus.training.losses import OBJECTIVES
from autofocus.training.probe_trial import Probed, ProbeSetup
from autofocus.training.recipe import Recipe
from autofocus.training.selection import SMALL_VALIDATION, selection_score
from autofocus.training.trial_log import draw_curves, trial_facts, trial_log


@dataclass(frozen=True)
class Finetuned:
    """Result of fine-tuning.

    Attributes:
        candidate: Model to publish.
        trained: Result of training.
        losses: Loss of each validation image, [n].
    """

    candidate: Candidate
    trained: Trained
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class Finetuning:
    """Settings of a fine-tuning run.

    Attributes:
        setup: The probe's setup.
        recipe: Training recipe.
        accelerator: Device and processes.
        primary_metric: Metric that ranks epochs on large validation sets.
        folder: Trial folder.
        deadline_s: Time (`time.monotonic()`) by which training ends; None for no limit.
        should_stop: Whether the user has asked to stop.
        on_epoch: Called with each evaluation; True ends training.
        track: Progress display.
        keeps_latest: Whether the last weights are kept, regardless of validation.
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
    keeps_latest: bool = False


def run_finetune(job: Finetuning, probed: Probed) -> Finetuned:
    """Fine-tune the probe's network and return the best of its epochs."""
    with _running(job, probed) as (trained, loader):
        finetuned = _calibrated(job, probed, trained, loader)
    _write_result(job, finetuned)
    return finetuned


def run_refit(
    job: Finetuning, probed: Probed, before: Candidate, initial_share: float
) -> Finetuned:
    """Refit a fine-tuned model on training and validation images together.

    No image is left to validate the new model on: it has the metrics and the temperature of the
    one before, and `losses` of images that it has learnt.

    Args:
        job: Run with `keeps_latest`, and as many epochs as the model before had.
        probed: Probe with all images in `train` and an `initial_model` fitted on all of them.
        before: The model that was validated.
        initial_share: Share of the initial weights in the model before, in [0, 1].
    """
    initial = {name: value.clone() for name, value in probed.initial_model.state_dict().items()}
    with _running(job, probed) as (trained, loader):
        network = _contiguous(trained)
        network.load_state_dict(interpolate(initial, network.state_dict(), initial_share))
        temperature = before.manifest.calibration.temperature
        network.set_head(network.head.weight / temperature, network.head.bias / temperature)
        validation = _validation_set(job, probed, loader)
        evaluation = evaluate(network, job.setup.task, validation, torch.device("cpu"))
    losses = job.setup.task.sample_losses(evaluation.predictions, validation.targets)
    finetuned = Finetuned(dataclasses.replace(before, network=network), trained, losses)
    _write_result(job, finetuned)
    return finetuned


@contextmanager
def _running(job: Finetuning, probed: Probed) -> Iterator[tuple[Trained, Loader]]:
    """Train with all processes, and keep the log."""
    weights, accelerator = job.setup.weights, job.accelerator
    facts = trial_facts(
        weights.spec.name,
        probed.train,
        probed.validation,
        weights,
        accelerator.device,
        accelerator.mixed_precision,
        job.deadline_s,
    )
    with (
        trial_log(job.folder, facts),
        distributed.on_all_ranks(train_on_worker, job, probed),
        _trained(job, probed) as (trained, loader),
    ):
        yield trained, loader


def _write_result(job: Finetuning, finetuned: Finetuned) -> None:
    """Write curves and manifest into the trial's folder."""
    draw_curves(job.folder / "metrics.jsonl", job.folder / "curves.png", job.primary_metric)
    manifest = encode_manifest(finetuned.candidate.manifest)
    write_atomically(job.folder / MANIFEST_NAME, manifest)


def train_on_worker(job: Finetuning, probed: Probed) -> Trained:
    """Train with the process that runs `run_finetune` or `run_refit`."""
    with _trained(job, probed) as (trained, _):
        return trained


@contextmanager
def _trained(job: Finetuning, probed: Probed) -> Iterator[tuple[Trained, Loader]]:
    """Train; the loader of the validation images is open as long as this is entered."""
    setup = job.setup
    task, labels = setup.task, setup.labels
    targets = task.encode_targets(probed.train.records, labels)
    validation_targets = task.encode_targets(probed.validation.records, labels)
    objective = OBJECTIVES[task.name](job.recipe, targets, probed.initial_model)
    spec, recipe, accelerator = setup.preprocess, job.recipe, job.accelerator
    caches = shared_budgets(len(targets), len(validation_targets), accelerator.num_processes)
    latest = job.keeps_latest
    with (
        training_loader(
            probed.train, targets, objective, spec, recipe, setup.seed, accelerator, caches[0]
        ) as training,
        evaluation_loader(
            probed.validation, validation_targets, objective, spec, recipe, caches[1]
        ) as loader,
    ):
        trained = fit(
            Fit(
                network=_channels_last(probed.initial_model, accelerator.device),
                task=task,
                objective=objective,
                recipe=recipe,
                training=training,
                validation=EvaluationSet(loader, validation_targets, labels),
                # Where no score is defined the latest weights are kept.
                score=_no_score
                if latest
                else selection_score(job.primary_metric, len(validation_targets)),
                initial_is_valid=not latest,
                sample_losses=None if latest else _sample_losses(task, validation_targets),
                folder=job.folder,
                seed=setup.seed,
                accelerator=accelerator,
                deadline_s=job.deadline_s,
                should_stop=job.should_stop,
                on_epoch=job.on_epoch,
                track=job.track,
            )
        )
        yield trained, loader


def _sample_losses(
    task: ClassificationTask[Any], targets: Targets
) -> Callable[[list[Any]], Sequence[float]] | None:
    """Return a function to the loss of each validation image, where they are few; else None."""
    if len(targets) >= SMALL_VALIDATION:
        return None
    return lambda predictions: task.sample_losses(predictions, targets).tolist()


def _no_score(metrics: dict[str, Any]) -> float:
    return float("-inf")


def _channels_last(network: Classifier, device: torch.device) -> Classifier:
    placed: Classifier = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _calibrated(job: Finetuning, probed: Probed, trained: Trained, loader: Loader) -> Finetuned:
    task, size = job.setup.task, job.setup.preprocess.size
    network = _contiguous(trained)
    validation = _validation_set(job, probed, loader)
    calibration, evaluation = calibrate(network, task, validation, trained.evaluation, size)
    manifest = msgspec.structs.replace(
        probed.candidate.manifest, calibration=calibration, metrics=evaluation.metrics
    )
    candidate = dataclasses.replace(
        probed.candidate, network=network, manifest=manifest, metrics=evaluation.metrics
    )
    losses = task.sample_losses(evaluation.predictions, validation.targets)
    return Finetuned(candidate, trained, losses)


def _contiguous(trained: Trained) -> Classifier:
    network: Classifier = trained.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network


def _validation_set(job: Finetuning, probed: Probed, loader: Loader) -> EvaluationSet:
    targets = job.setup.task.encode_targets(probed.validation.records, job.setup.labels)
    return EvaluationSet(loader, targets, job.setup.labels)


def calibrate(
    network: Classifier,
    task: ClassificationTask[Any],
    validation: EvaluationSet,
    evaluation: Evaluation,
    size: tuple[int, int],
) -> tuple[Calibration, Evaluation]:
    """Find the temperature on validation and fold it into the head, where there are images enough.

    Args:
        network: Network on the CPU; its head is changed.
        task: Classification task.
        validation: Validation images.
        evaluation: Evaluation of the network on them.
        size: (height, width) of its input, in pixels.

    Returns:
        The temperature and its source, and the evaluation with it.
    """
    if len(validation.targets) < MIN_CALIBRATION_IMAGES:
        return Calibration(), evaluation
    targets, labels = validation.targets, validation.labels
    batches = run_network(network, validation.loader, torch.device("cpu"))
    logits = np.concatenate([outputs["logits"] for outputs, _ in batches])
    temperature = fit_temperature(logits, np.asarray(targets), task.activation)
    network.set_head(network.head.weight / temperature, network.head.bias / temperature)
    scaled = {"logits": (logits / temperature).astype(np.float32)}
    predictions = task.postprocess(scaled, [Frame(size)] * len(targets), {})
    metrics = task.evaluate(predictions, targets, labels, {})
    found = Calibration(temperature, "validation", len(targets))
    return found, Evaluation(predictions, metrics)
