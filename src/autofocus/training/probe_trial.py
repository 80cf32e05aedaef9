"""The first trial of a classification job: frozen features, a calibrated head, metrics."""

import copy
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autofocus.data.rows.issues import Issue
from autofocus.data.splits import split_indices
from autofocus.errors import BudgetError, DataError
from autofocus.manifest import DataInfo, Manifest, ResizeCrop
from autofocus.models.base import LoadedWeights
from autofocus.models.families import family_of
from autofocus.models.network import Classifier
from autofocus.runtime import Track, cache_dir
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.feature_cache import FeatureCache
from autofocus.training.features import VIEWS, Features, extract_features
from autofocus.training.probe import Probe, fit_probe_once
from autofocus.training.usable import image_issue

log = logging.getLogger(__name__)

NUM_CHECK_IMAGES = 8
# Mirrored copies help small sets and double the work.
MAX_FLIPPED_IMAGES = 1_000


@dataclass(frozen=True)
class ProbeSetup:
    """Settings of a probe trial.

    Attributes:
        task: A classification task.
        weights: The encoder's pretrained weights; `weights.spec` is the encoder.
        preprocess: Preprocessing.
        labels: k class names.
        validation_frac: Share of the training images to hold out where there is no validation
            data.
        seed: Seed of splits, folds and the order of work.
        device: Device of the encoder.
        data_fingerprint: Hash of the data, for the manifest.
        deadline_s: Time (`time.monotonic()`) after which no images are read; None for no limit.
    """

    task: ClassificationTask[Any]
    weights: LoadedWeights
    preprocess: ResizeCrop
    labels: Sequence[str]
    validation_frac: float
    seed: int
    device: torch.device
    data_fingerprint: str
    deadline_s: float | None


@dataclass(frozen=True)
class Probed:
    """A fitted probe, and the start of fine-tuning.

    Attributes:
        candidate: Model to publish.
        initial_model: Network whose head was fitted on `train` alone.
        train: Training images.
        validation: Validation images.
        predictions: Predictions of `initial_model` for `validation`, in order.
        fold_losses: Loss of each image of `train` under heads that had not seen it, [m]; a seeded
            part of them where they are many, empty where folds could not be afforded.
    """

    candidate: Candidate
    initial_model: Classifier
    train: Samples[Any]
    validation: Samples[Any]
    predictions: list[ClassScores]
    fold_losses: NDArray[np.float64]


def run_probe(
    setup: ProbeSetup,
    training: Samples[Any],
    validation: Samples[Any] | None,
    *,
    report: Callable[[str, Issue], None],
    decide: Callable[..., None],
    track: Track,
) -> Probed:
    """Return a calibrated frozen-feature classifier.

    Without validation data a share of `training` is held out; afterwards the head is refit on all
    images, so the metrics are those of the same recipe on fewer images.

    Args:
        setup: Task, encoder and input.
        training: Training rows.
        validation: Validation rows; None holds out a share of `training`.
        report: Called with the role and the issue of every unusable image.
        decide: Called with every decision and its inputs.
        track: Progress display.

    Raises:
        DataError: If no training or no validation image can be used.
        BudgetError: If the deadline passed before the first images were read.
    """
    torch.manual_seed(setup.seed)
    spec, size = setup.weights.spec, setup.preprocess.size
    network = family_of(spec).build(spec, len(setup.labels), setup.weights, size, {})
    assert isinstance(network, Classifier), f"{spec.family}: build a models.network.Classifier"
    network.to(setup.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pool = training if validation is None else training.joined(validation)
    features = _pool_features(network, setup, pool, track)
    for position, error in features.failures:
        role = "training" if position < len(training) else "validation"
        report(role, image_issue(pool.locations[position], error))
    if features.num_skipped:
        decide("images_left_out", reason="budget", num_left_out=features.num_skipped)
        log.warning("budget: %d of %d images were not looked at", features.num_skipped, len(pool))
    train, measured = _parts(setup, features, pool, len(training), validation is not None, decide)
    probe = _fit(setup, features, pool, train)
    decide(
        "probe",
        c=probe.c,
        out_of_fold_log_loss={f"C={c:g}": loss for c, loss in probe.search.items()},
        temperature=probe.calibration.temperature,
    )
    predictions, metrics = _evaluate(setup, probe, features, pool, measured)
    fold_losses = _fold_losses(setup, probe, pool.chosen(features.index[train]))
    network = network.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.set_head(probe.head.weight, probe.head.bias)
    initial_model = copy.deepcopy(network)
    if validation is None:
        # The metrics are of held-out images; the published model has learnt from all.
        probe = _fit(setup, features, pool, np.union1d(train, measured))
        network.set_head(probe.head.weight, probe.head.bias)
        decide("refit", num_images=len(features.index), c=probe.c)
    validation = pool.chosen(features.index[measured])
    candidate = Candidate(
        network=network,
        manifest=_manifest(setup, probe, metrics, len(train), len(measured)),
        metrics=metrics,
        check_images=validation.locations[:NUM_CHECK_IMAGES],
    )
    learnt = pool.chosen(features.index[train])
    return Probed(candidate, initial_model, learnt, validation, predictions, fold_losses)


def _pool_features(
    network: Classifier, setup: ProbeSetup, pool: Samples[Any], track: Track
) -> Features:
    views = list(VIEWS) if len(pool) <= MAX_FLIPPED_IMAGES else ["plain"]
    weights = setup.weights.info.sha256 or f"random-{_digest(network.encoder)}"
    encoder = f"{setup.weights.spec.name}/{weights}/{setup.preprocess}"
    # A budget may end the work early: then a random part of both sets was read.
    order = np.random.default_rng(setup.seed).permutation(len(pool)).tolist()
    with FeatureCache(cache_dir() / "features.sqlite", encoder) as cache:
        started_s = time.monotonic()
        features = extract_features(
            network,
            setup.preprocess,
            pool.locations,
            views=views,
            cache=cache,
            device=setup.device,
            order=order,
            deadline_s=setup.deadline_s,
            track=track,
        )
    log.info("features of %d images in %.1f s", len(features.index), time.monotonic() - started_s)
    return features


def _digest(encoder: nn.Module) -> str:
    """Return a hash of random weights, and of the layers that they are in.

    Whoever is writing a family of models changes these under the same name.
    """
    digest = hashlib.sha256(repr(encoder).encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _parts(
    setup: ProbeSetup,
    features: Features,
    pool: Samples[Any],
    num_training: int,
    has_validation: bool,
    decide: Callable[..., None],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions in `features` of the training and of the validation images."""
    if not len(features.index):
        if features.num_skipped == len(pool):
            raise BudgetError("The budget ended before the first image was seen; give more.")
        raise DataError(
            f"{pool.source}: no image can be used; data_check.json in the run folder says why."
        )
    if has_validation:
        train = np.flatnonzero(features.index < num_training)
        validation = np.flatnonzero(features.index >= num_training)
        _note_leak(features, train, validation, decide)
    else:
        labels = [setup.task.record_labels(pool.records[i]) for i in features.index]
        train, validation = split_indices(
            labels, features.hashes, setup.validation_frac, setup.seed
        )
        decide("split", seed=setup.seed, num_training=len(train), num_validation=len(validation))
        if len(train) and np.array_equal(train, validation):
            log.warning("too few images to hold any out: validation metrics are on training images")
    if not len(train) or not len(validation):
        which = "training" if not len(train) else "validation"
        raise DataError(
            f"no {which} image can be used; data_check.json in the run folder says why."
        )
    return train, validation


def _note_leak(
    features: Features,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    decide: Callable[..., None],
) -> None:
    known = {features.hashes[i] for i in train}
    num_shared = sum(features.hashes[i] in known for i in validation)
    if num_shared:
        decide("leak", num_shared=num_shared, num_validation=len(validation))
        log.warning(
            "%d of %d validation images are also training images: validation metrics flatter",
            num_shared,
            len(validation),
        )


def _fit(
    setup: ProbeSetup, features: Features, pool: Samples[Any], train: NDArray[np.int64]
) -> Probe:
    records = pool.chosen(features.index[train]).records
    return fit_probe_once(
        features.rows[train],
        np.asarray(setup.task.encode_targets(records, setup.labels)),
        kind=setup.task.activation,
        num_classes=len(setup.labels),
        labels_of=[setup.task.record_labels(record) for record in records],
        groups=[features.hashes[i] for i in train],
        seed=setup.seed,
        deadline_s=setup.deadline_s,
    )


def _evaluate(
    setup: ProbeSetup,
    probe: Probe,
    features: Features,
    pool: Samples[Any],
    validation: NDArray[np.int64],
) -> tuple[list[ClassScores], dict[str, Any]]:
    records = pool.chosen(features.index[validation]).records
    logits = probe.head.logits(features.rows[validation, 0]).astype(np.float32)
    frames = [Frame(setup.preprocess.size)] * len(records)
    predictions = setup.task.postprocess({"logits": logits}, frames, {})
    targets = setup.task.encode_targets(records, setup.labels)
    return predictions, setup.task.evaluate(predictions, targets, setup.labels, {})


def _fold_losses(setup: ProbeSetup, probe: Probe, train: Samples[Any]) -> NDArray[np.float64]:
    if probe.fold_logits is None or probe.fold_index is None:
        return np.zeros(0)
    records = train.chosen(probe.fold_index).records
    frames = [Frame(setup.preprocess.size)] * len(records)
    outputs = {"logits": probe.fold_logits.astype(np.float32)}
    predictions = setup.task.postprocess(outputs, frames, {})
    return setup.task.sample_losses(predictions, setup.task.encode_targets(records, setup.labels))


def _manifest(
    setup: ProbeSetup, probe: Probe, metrics: dict[str, Any], num_train: int, num_validation: int
) -> Manifest:
    return Manifest(
        task=setup.task.name,
        labels=list(setup.labels),
        model_name=setup.weights.spec.name,
        preprocess=setup.preprocess,
        weights=setup.weights.info,
        data=DataInfo(setup.data_fingerprint, num_train, num_validation),
        calibration=probe.calibration,
        metrics=metrics,
    )
