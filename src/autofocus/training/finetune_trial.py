"""A fine-tuning trial of a classification job: from the probe's head through the whole network."""

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
from autofocus.models.timm.classifiers import Classifier
from autofocus.runtime import Track, write_atomically
from autofocus.structures.frames import Frame
from autofocus.tasks.base import Targets
from autofocus.tasks.classification import ClassificationTask
from autofocus.training import distributed
from autofocus.training.averaging import mixed
from autofocus.training.candidate import Candidate
from autofocus.training.evaluate import Evaluation, EvaluationSet, evaluate, run_network
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.loop import Fit, Trained, fit
from autofocus.training.losses import OBJECTIVES
from autofocus.training.probe_trial import Probed, ProbeSetup
from autofocus.training.recipe import Recipe
from autofocus.training.trial_log import draw_curves, trial_facts, trial_log

# With fewer validation images one of them moves accuracy more than most epochs do.
SMALL_VALIDATION = 200


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning made.

    Attributes:
        candidate: The model that could be published.
        trained: How training went.
        losses: What each held-out image costs, [n].
    """

    candidate: Candidate
    trained: Trained
    losses: NDArray[np.float64]


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
        keeps_latest: Whether the last weights are kept, whatever validation images say of them.
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
    with _running(job, probed) as (trained, validation):
        finetuned = _calibrated(job, probed, trained, validation)
    _leave(job, finetuned)
    return finetuned


def run_again(job: Finetuning, probed: Probed, before: Candidate, start_share: float) -> Finetuned:
    """Fine-tune once more with the images that a model was judged by among those to learn from.

    No image is left to judge the new model by: it has the metrics and the temperature of the one
    before, and `losses` of images that it has learnt.

    Args:
        job: With `keeps_latest`, and as many epochs as the model before had.
        probed: All images to learn from; its `start` has a head that was fitted on all of them.
        before: The model that was judged.
        start_share: Of the weights that training starts from, in the model before.
    """
    start = {name: value.clone() for name, value in probed.start.state_dict().items()}
    with _running(job, probed) as (trained, validation):
        network = _contiguous(trained)
        network.load_state_dict(mixed(start, network.state_dict(), start_share))
        temperature = before.manifest.calibration.temperature
        network.set_head(network.head.weight / temperature, network.head.bias / temperature)
        judged = _judged(job, probed, validation)
        evaluation = evaluate(network, job.setup.task, judged, torch.device("cpu"))
    losses = job.setup.task.sample_losses(evaluation.predictions, judged.targets)
    finetuned = Finetuned(dataclasses.replace(before, network=network), trained, losses)
    _leave(job, finetuned)
    return finetuned


@contextmanager
def _running(job: Finetuning, probed: Probed) -> Iterator[tuple[Trained, Loader]]:
    """Train with all processes, and keep the log."""
    weights, accelerator = job.setup.weights, job.accelerator
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
        trial_log(job.folder, facts),
        distributed.working(take_part, job, probed),
        _trained(job, probed) as (trained, validation),
    ):
        yield trained, validation


def _leave(job: Finetuning, finetuned: Finetuned) -> None:
    """Write what the trial came to into its folder."""
    draw_curves(job.folder / "metrics.jsonl", job.folder / "curves.png", job.primary_metric)
    manifest = encode_manifest(finetuned.candidate.manifest)
    write_atomically(job.folder / MANIFEST_NAME, manifest)


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
    latest = job.keeps_latest
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
                # Where no score is defined the latest weights are kept.
                score=_no_score if latest else selection_score(job.primary_metric, len(judged)),
                keeps_start=not latest,
                sample_losses=None if latest else _sample_losses(task, judged),
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


def _sample_losses(
    task: ClassificationTask[Any], targets: Targets
) -> Callable[[list[Any]], Sequence[float]] | None:
    """Return what each validation image costs, where they are so few that it matters."""
    if len(targets) >= SMALL_VALIDATION:
        return None
    return lambda predictions: task.sample_losses(predictions, targets).tolist()


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


def _no_score(metrics: dict[str, Any]) -> float:
    return float("-inf")


def _channels_last(network: Classifier, device: torch.device) -> Classifier:
    placed: Classifier = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _calibrated(job: Finetuning, probed: Probed, trained: Trained, validation: Loader) -> Finetuned:
    task, size = job.setup.task, job.setup.preprocess.size
    network = _contiguous(trained)
    judged = _judged(job, probed, validation)
    calibration, evaluation = calibrate(network, task, judged, trained.evaluation, size)
    manifest = msgspec.structs.replace(
        probed.candidate.manifest, calibration=calibration, metrics=evaluation.metrics
    )
    candidate = dataclasses.replace(
        probed.candidate, network=network, manifest=manifest, metrics=evaluation.metrics
    )
    losses = task.sample_losses(evaluation.predictions, judged.targets)
    return Finetuned(candidate, trained, losses)


def _contiguous(trained: Trained) -> Classifier:
    network: Classifier = trained.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network


def _judged(job: Finetuning, probed: Probed, validation: Loader) -> EvaluationSet:
    targets = job.setup.task.encode_targets(probed.held_out.records, job.setup.labels)
    return EvaluationSet(validation, targets, job.setup.labels)


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
