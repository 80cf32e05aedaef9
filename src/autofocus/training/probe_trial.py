"""The frozen probe: features of an encoder that does not learn, and a calibrated linear head."""

import copy
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autofocus.errors import AutofocusError, BudgetError
from autofocus.manifest import DataInfo, Manifest, ResizeCrop
from autofocus.models.base import LoadedWeights
from autofocus.models.families import family_of
from autofocus.models.network import Classifier
from autofocus.runtime import cache_dir
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.whole_image import WholeImageTask
from autofocus.training.candidate import NUM_CHECK_IMAGES, Candidate, Samples
from autofocus.training.feature_cache import FeatureCache
from autofocus.training.features import VIEWS, Features, extract_features
from autofocus.training.probe import Probe, fit_probe_once
from autofocus.training.thumbnails import Thumbnails
from autofocus.training.trial import RunContext, TrialSpec

log = logging.getLogger(__name__)

# Mirrored copies help small sets and double the work.
MAX_FLIPPED_IMAGES = 1_000


@dataclass(frozen=True)
class Probed:
    """A fitted probe, and the start of fine-tuning.

    Attributes:
        candidate: Model to publish.
        initial_model: Network whose head was fitted on the training images alone.
        losses: Loss of each validation image under `initial_model`, [m].
    """

    candidate: Candidate
    initial_model: Classifier
    losses: NDArray[np.float64]


def run_probe(
    spec: TrialSpec,
    weights: LoadedWeights,
    device: torch.device,
    samples: Samples,
    context: RunContext,
) -> Probed:
    """Return the probe of a trial's images, whose features may be in the cache.

    Raises:
        BudgetError: If the deadline passed before all images were seen.
        InputError: If an image can no longer be read.
    """
    used = samples.chosen(np.concatenate([spec.train, spec.validation]))
    network, features = encode(spec, weights, device, used.locations, context, used.hashes)
    if features.failures:
        raise features.failures[0][1]
    if features.num_skipped:
        raise BudgetError("the budget ended before all images were seen")
    train = np.arange(len(spec.train))
    validation = np.arange(len(spec.train), len(used))
    spec = replace(spec, train=train, validation=validation)
    return fit_head(spec, weights, network, used, features.rows, context)


def encode(
    spec: TrialSpec,
    weights: LoadedWeights,
    device: torch.device,
    locations: Sequence[str],
    context: RunContext,
    hashes: Sequence[str] | None = None,
    thumbnails: Thumbnails | None = None,
) -> tuple[Classifier, Features]:
    """Build the frozen network of a trial; return it, on the CPU, and the features of images."""
    torch.manual_seed(spec.seed)
    assert isinstance(spec.preprocess, ResizeCrop), "classifiers see a crop"
    network = build_network(spec, weights)
    views = list(VIEWS) if len(locations) <= MAX_FLIPPED_IMAGES else ["plain"]
    content = weights.info.sha256 or f"random-{_digest(network.encoder)}"
    encoder = f"{weights.spec.name}/{content}/{spec.preprocess}"
    # A budget may end the work early: then a random part of all images was read.
    order = np.random.default_rng(spec.seed).permutation(len(locations)).tolist()
    with FeatureCache(cache_dir() / "features.sqlite", encoder) as cache:
        started_s = time.monotonic()
        features = extract_features(
            network,
            spec.preprocess,
            locations,
            views=views,
            cache=cache,
            device=device,
            hashes=hashes,
            thumbnails=thumbnails,
            order=order,
            deadline_s=context.deadline_s,
            track=context.track,
        )
    log.info("features of %d images in %.1f s", len(features.index), time.monotonic() - started_s)
    return network, features


def build_network(trial: TrialSpec, weights: LoadedWeights) -> Classifier:
    """Build the classifier of a trial, of whichever family, on the CPU.

    Raises:
        AutofocusError: If its family builds something else.
    """
    spec = weights.spec
    family = family_of(spec)
    network = family.build(spec, len(trial.labels), weights, trial.preprocess.size, {})
    if not isinstance(network, Classifier):
        raise AutofocusError(
            f"{type(family).__name__}.build: must return a models.network.Classifier for "
            f"{spec.name}, got {type(network).__name__}."
        )
    return network


def _digest(encoder: nn.Module) -> str:
    """Return a hash of random weights, and of the layers that they are in.

    Whoever is writing a family of models changes these under the same name.
    """
    digest = hashlib.sha256(repr(encoder).encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def fit_head(
    spec: TrialSpec,
    weights: LoadedWeights,
    network: Classifier,
    samples: Samples,
    rows: NDArray[np.float32],
    context: RunContext,
    *,
    serves_all: bool = False,
) -> Probed:
    """Fit and calibrate the head of a frozen network.

    Args:
        spec: The trial.
        weights: Its weights.
        network: Result of `encode`; its head is changed.
        samples: The images that `spec` has positions of.
        rows: Features of `samples`, float32 [n, v, d]: images, views, feature size.
        context: Deadline and decisions.
        serves_all: Whether the published head learns from validation images too, once it was
            measured on them; so the metrics are those of the same recipe on fewer images.
    """
    probe = _fit(spec, samples, rows, spec.train, context)
    context.decide(
        "probe",
        trial=spec.id,
        c=probe.c,
        out_of_fold_log_loss={f"C={c:g}": loss for c, loss in probe.search.items()},
        temperature=probe.calibration.temperature,
    )
    task, train, validation = whole_image_task(spec), *spec.of(samples)
    predictions = _predictions(spec, probe.head.logits(rows[spec.validation, 0]))
    metrics = task.evaluate(predictions, validation.targets, spec.labels, {})
    losses = task.sample_losses(predictions, validation.targets)
    network.set_head(probe.head.weight, probe.head.bias)
    initial_model = copy.deepcopy(network)
    if serves_all:
        everything = np.union1d(spec.train, spec.validation)
        probe = _fit(spec, samples, rows, everything, context)
        network.set_head(probe.head.weight, probe.head.bias)
        context.decide("refit", num_images=len(everything), c=probe.c)
    manifest = Manifest(
        task=task.name,
        labels=list(spec.labels),
        model_name=weights.spec.name,
        preprocess=spec.preprocess,
        weights=weights.info,
        data=DataInfo(spec.data_fingerprint, len(train), len(validation)),
        calibration=probe.calibration,
        metrics=metrics,
    )
    candidate = Candidate(network, manifest, validation.locations[:NUM_CHECK_IMAGES])
    return Probed(candidate, initial_model, losses)


def _fit(
    spec: TrialSpec,
    samples: Samples,
    rows: NDArray[np.float32],
    positions: NDArray[np.int64],
    context: RunContext,
) -> Probe:
    task, chosen = whole_image_task(spec), samples.chosen(positions)
    return fit_probe_once(
        rows[positions],
        np.asarray(chosen.targets),
        kind=task.activation,
        num_classes=len(spec.labels),
        labels_of=[task.record_labels(record) for record in chosen.records],
        groups=chosen.groups,
        seed=spec.seed,
        deadline_s=context.deadline_s,
    )


def _predictions(spec: TrialSpec, logits: NDArray[np.floating[Any]]) -> list[ClassScores]:
    frames = [Frame(spec.preprocess.size)] * len(logits)
    return whole_image_task(spec).postprocess({"logits": logits.astype(np.float32)}, frames, {})


def whole_image_task(spec: TrialSpec) -> WholeImageTask[Any, Any]:
    """Return the task of a classifier's trial."""
    assert isinstance(spec.task, WholeImageTask), "a classifier says what a whole image shows"
    return spec.task
