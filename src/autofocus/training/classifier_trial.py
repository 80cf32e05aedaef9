"""A trial of a classifier: a frozen probe, then the whole network from its head on."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from filelock import FileLock

from autofocus.manifest import Calibration
from autofocus.metrics.calibration import MIN_CALIBRATION_IMAGES
from autofocus.models.network import Classifier
from autofocus.structures.frames import Frame
from autofocus.tasks.whole_image import WholeImageTask
from autofocus.training.averaging import interpolate
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.evaluate import Evaluation, EvaluationSet, evaluate, run_network
from autofocus.training.loop import OUT_OF_TIME, Trained
from autofocus.training.probe import HEADS, LinearHead
from autofocus.training.probe_trial import Probed, build_network, run_probe, whole_image_task
from autofocus.training.selection import SMALL_VALIDATION, selection_score
from autofocus.training.trial import RunContext, TrialResult, TrialSpec
from autofocus.training.trial_loop import Ranking, running, write_result


def train_classifier(spec: TrialSpec, samples: Samples, context: RunContext) -> TrialResult:
    """Probe the encoder, fine-tune the network, and return the best of its epochs.

    Raises:
        BudgetError: If the deadline passed before all images were seen.
    """
    weights, device = spec.prepare(context.track)
    with _one_probe_at_a_time(context.folder.parent):
        probed = run_probe(spec, weights, device, samples, context)
    context.decide("recipe", trial=spec.id, **spec.recipe.document())
    network = probed.initial_model
    with running(spec, network, weights, samples, context, device, _rank_epochs) as loop:
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
    network = probed.initial_model
    with running(spec, network, weights, samples, context, device, _keep_latest) as loop:
        trained = loop.run()
        network = _contiguous(trained)
        network.load_state_dict(interpolate(initial, network.state_dict(), initial_share))
        _cool(network, before.manifest.calibration.temperature)
        evaluation = evaluate(network, spec.task, loop.validation, torch.device("cpu"))
    losses = whole_image_task(spec).sample_losses(evaluation.predictions, loop.validation.targets)
    result = TrialResult(dataclasses.replace(before, network=network), trained, losses)
    write_result(spec, result.candidate, context.folder)
    return result


def train_from_head(
    spec: TrialSpec,
    samples: Samples,
    context: RunContext,
    head: LinearHead,
    shares: Sequence[float],
) -> dict[str, torch.Tensor] | None:
    """Train a whole network from a frozen head; no image chooses an epoch of it.

    Args:
        spec: Trial with the images to learn from, and those to return logits of in `validation`.
        samples: The run's images.
        context: Folder, deadline and callbacks.
        head: Head to start from.
        shares: Shares of the trained weights in means with the initial ones (WiSE-FT).

    Returns:
        The network's state dict, and by `logits_name(share)` logits, float64 [m, k]; None if the
        time ended or the user stopped.
    """
    weights, device = spec.prepare(context.track)
    network = build_network(spec, weights)
    network.set_head(head.weight, head.bias)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    with running(spec, network, weights, samples, context, device, _keep_latest) as loop:
        trained = loop.run()
        if trained.status != "completed" or trained.reason == OUT_OF_TIME:
            return None
        network = _contiguous(trained)
        found = {name: value.clone() for name, value in network.state_dict().items()}
        logits = {}
        for share in shares:
            network.load_state_dict(interpolate(initial, found, 1 - share))
            batches = run_network(network, loop.validation.loader, torch.device("cpu"))
            rows = np.concatenate([outputs["logits"] for outputs, _ in batches])
            logits[logits_name(share)] = torch.from_numpy(rows.astype(np.float64))
    return found | logits


def logits_name(share: float) -> str:
    """Return the name of the logits of a mean with so much of the trained weights."""
    return f"logits at {share}"


@contextmanager
def _one_probe_at_a_time(trials: Path) -> Iterator[None]:
    """Wait for other processes of the run: the second one finds features in the cache.

    They would batch the same images differently, and round differently.
    """
    trials.mkdir(parents=True, exist_ok=True)
    with FileLock(trials / "probe.lock"):
        yield


def _rank_epochs(spec: TrialSpec, train: Samples, validation: Samples) -> Ranking:
    score = selection_score(spec.primary_metric, len(validation))
    return Ranking(score, initial_is_valid=True, sample_losses=_losses_of(spec, validation))


def _losses_of(
    spec: TrialSpec, validation: Samples
) -> Callable[[list[Any]], Sequence[float]] | None:
    """Return a function to the loss of each validation image, where they are few; else None."""
    if len(validation) >= SMALL_VALIDATION:
        return None
    task, targets = whole_image_task(spec), validation.targets
    return lambda predictions: task.sample_losses(predictions, targets).tolist()


def _keep_latest(spec: TrialSpec, train: Samples, validation: Samples) -> Ranking:
    # Where no score is defined the latest weights are kept.
    return Ranking(lambda metrics: float("-inf"), initial_is_valid=False)


def _calibrated(
    spec: TrialSpec, probed: Probed, trained: Trained, validation: EvaluationSet
) -> TrialResult:
    task, network, initial = whole_image_task(spec), _contiguous(trained), probed.losses
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
    task: WholeImageTask[Any, Any],
    validation: EvaluationSet,
    evaluation: Evaluation,
    size: tuple[int, int],
) -> tuple[Calibration, Evaluation]:
    """Find the temperature on validation and fold it into the head, where there are images enough.

    Args:
        network: Network on the CPU; its head is changed.
        task: Task of whole images.
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
    temperature = HEADS[task.activation].temperature(logits, np.asarray(targets))
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
