"""A trial of a classifier: a frozen probe, then the whole network from its head on."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock

from autofocus.manifest import Calibration
from autofocus.metrics.calibration import MIN_CALIBRATION_IMAGES, fit_temperature
from autofocus.models.network import Classifier
from autofocus.structures.frames import Frame
from autofocus.tasks.classification import ClassificationTask
from autofocus.training import distributed
from autofocus.training.averaging import interpolate
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.device import choose_device, make_accelerator
from autofocus.training.evaluate import Evaluation, EvaluationSet, evaluate, run_network
from autofocus.training.loop import Trained, TrainingLoop
from autofocus.training.probe_trial import Probed, run_probe
from autofocus.training.selection import SMALL_VALIDATION, selection_score
from autofocus.training.trial import RunContext, TrialResult, TrialSpec, open_loop, write_result
from autofocus.training.trial_log import trial_facts, trial_log


def train_classifier(spec: TrialSpec, samples: Samples, context: RunContext) -> TrialResult:
    """Probe the encoder, fine-tune the network, and return the best of its epochs.

    Raises:
        BudgetError: If the deadline passed before all images were seen.
    """
    weights, device = spec.prepare(context.track)
    with _one_probe_at_a_time(context.folder.parent):
        probed = run_probe(spec, weights, device, samples, context)
    context.decide("recipe", trial=spec.id, **spec.recipe.document())
    with running(spec, probed, samples, device, context) as loop:
        trained = loop.run()
        result = _calibrated(spec, probed, trained, loop.validation)
    write_result(spec, result.candidate, context.folder)
    return result


def refit_classifier(
    spec: TrialSpec,
    samples: Samples,
    context: RunContext,
    before: Candidate,
    initial_share: float,
) -> TrialResult:
    """Refit a fine-tuned model on training and validation images together.

    No image is left to validate the new model on: it has the metrics and the temperature of the
    one before, and `losses` of images that it has learnt.

    Args:
        spec: Trial with all images in `train`, and as many epochs as the model before had.
        samples: The run's images.
        context: Folder, deadline and callbacks.
        before: The model that was validated.
        initial_share: Share of the initial weights in the model before, in [0, 1].
    """
    weights, device = spec.prepare(context.track)
    probed = run_probe(spec, weights, device, samples, context)
    initial = {name: value.clone() for name, value in probed.initial_model.state_dict().items()}
    with running(spec, probed, samples, device, context, keeps_latest=True) as loop:
        trained = loop.run()
        network = _contiguous(trained)
        network.load_state_dict(interpolate(initial, network.state_dict(), initial_share))
        _cool(network, before.manifest.calibration.temperature)
        evaluation = evaluate(network, spec.task, loop.validation, torch.device("cpu"))
    losses = _task(spec).sample_losses(evaluation.predictions, loop.validation.targets)
    result = TrialResult(dataclasses.replace(before, network=network), trained, losses)
    write_result(spec, result.candidate, context.folder)
    return result


@contextmanager
def _one_probe_at_a_time(trials: Path) -> Iterator[None]:
    """Wait for other processes of the run: the second one finds features in the cache.

    They would batch the same images differently, and round differently.
    """
    trials.mkdir(parents=True, exist_ok=True)
    with FileLock(trials / "probe.lock"):
        yield


@contextmanager
def running(
    spec: TrialSpec,
    probed: Probed,
    samples: Samples,
    device: torch.device,
    context: RunContext,
    *,
    keeps_latest: bool = False,
) -> Iterator[TrainingLoop]:
    """Open the loop of the probe's network on all ranks, and keep the trial's log.

    Args:
        spec: The trial.
        probed: Its probe; training begins with `initial_model`.
        samples: The run's images.
        device: Device of training.
        context: Folder, deadline and callbacks.
        keeps_latest: Whether the last weights are kept, regardless of validation.
    """
    accelerator, network = make_accelerator(device), probed.initial_model
    train, validation = spec.of(samples)
    manifest = probed.candidate.manifest
    facts = trial_facts(
        manifest.model_name,
        train.source,
        len(train),
        len(validation),
        manifest.weights,
        accelerator.device,
        accelerator.mixed_precision,
        context.deadline_s,
    )
    share = (spec, network, train, validation, context.on_worker(), keeps_latest)
    with (
        trial_log(context.folder, facts),
        distributed.on_all_ranks(train_share, *share),
        _loop(spec, network, train, validation, context, keeps_latest, accelerator) as loop,
    ):
        yield loop


def train_share(
    spec: TrialSpec,
    network: Classifier,
    train: Samples,
    validation: Samples,
    context: RunContext,
    keeps_latest: bool,
) -> Trained:
    """Train with the process that is `running` the trial."""
    accelerator = make_accelerator(choose_device(spec.device))
    with _loop(spec, network, train, validation, context, keeps_latest, accelerator) as loop:
        return loop.run()


@contextmanager
def _loop(
    spec: TrialSpec,
    network: Classifier,
    train: Samples,
    validation: Samples,
    context: RunContext,
    keeps_latest: bool,
    accelerator: Accelerator,
) -> Iterator[TrainingLoop]:
    # Where no score is defined the latest weights are kept.
    score = selection_score(spec.primary_metric, len(validation))
    with open_loop(
        spec,
        network,
        train,
        validation,
        context,
        accelerator,
        score=_no_score if keeps_latest else score,
        initial_is_valid=not keeps_latest,
        sample_losses=None if keeps_latest else _sample_losses(_task(spec), validation),
    ) as loop:
        yield loop


def _sample_losses(
    task: ClassificationTask[Any], validation: Samples
) -> Callable[[list[Any]], Sequence[float]] | None:
    """Return a function to the loss of each validation image, where they are few; else None."""
    if len(validation) >= SMALL_VALIDATION:
        return None
    return lambda predictions: task.sample_losses(predictions, validation.targets).tolist()


def _no_score(metrics: dict[str, Any]) -> float:
    return float("-inf")


def _calibrated(
    spec: TrialSpec, probed: Probed, trained: Trained, validation: EvaluationSet
) -> TrialResult:
    task, network, initial = _task(spec), _contiguous(trained), probed.losses
    if trained.improved:
        size = spec.preprocess.size
        calibration, evaluation = calibrate(network, task, validation, trained.evaluation, size)
        losses = task.sample_losses(evaluation.predictions, validation.targets)
    else:
        # It is the probe still: neither rounding nor a new temperature makes it better than it.
        calibration, evaluation, losses = Calibration(), trained.evaluation, initial
    manifest = msgspec.structs.replace(
        probed.candidate.manifest, calibration=calibration, metrics=evaluation.metrics
    )
    candidate = dataclasses.replace(probed.candidate, network=network, manifest=manifest)
    return TrialResult(candidate, trained, losses, initial)


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
    _cool(network, temperature)
    scaled = {"logits": (logits / temperature).astype(np.float32)}
    predictions = task.postprocess(scaled, [Frame(size)] * len(targets), {})
    metrics = task.evaluate(predictions, targets, labels, {})
    found = Calibration(temperature, "validation", len(targets))
    return found, Evaluation(predictions, metrics)


def _cool(network: Classifier, temperature: float) -> None:
    """Divide the logits of a network by a temperature, for good."""
    network.set_head(network.head.weight / temperature, network.head.bias / temperature)


def _contiguous(trained: Trained) -> Classifier:
    network: Classifier = trained.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network


def _task(spec: TrialSpec) -> ClassificationTask[Any]:
    assert isinstance(spec.task, ClassificationTask), "a classifier's task has classes"
    return spec.task
