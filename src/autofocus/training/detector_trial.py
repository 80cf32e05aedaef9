"""A trial of a detector or segmenter, from its pretrained encoder on."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import DataInfo, Manifest
from autofocus.metrics.jackknife import group_values, pseudo_values
from autofocus.models.base import LoadedWeights
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.tasks.base import Settings, Targets, Task
from autofocus.training.candidate import NUM_CHECK_IMAGES, Candidate, Samples
from autofocus.training.loop import Trained
from autofocus.training.losses.detection import takes_sizes
from autofocus.training.recipe import Recipe
from autofocus.training.selection import SMALL_VALIDATION, selection_score
from autofocus.training.trial import RunContext, TrialResult, TrialSpec
from autofocus.training.trial_loop import Ranking, running, write_result

log = logging.getLogger(__name__)

# Training images that each evaluation covers where the job asks for it.
MAX_TRAIN_SUBSET = 200


def train_detector(spec: TrialSpec, samples: Samples, context: RunContext) -> TrialResult:
    """Train the network of a trial and return the best of its epochs."""
    weights, device = spec.prepare(context.track)
    context.decide("recipe", trial=spec.id, **spec.recipe.document())
    tiling = spec.tiling
    context.decide(
        "network",
        trial=spec.id,
        size=spec.preprocess.size,
        options=dict(spec.network),
        settings=dict(spec.settings),
        tiling=tiling and [tiling.cols, tiling.rows, tiling.overlap_frac],
    )
    network = _build(spec, weights)
    with running(spec, network, weights, samples, context, device, _rank_epochs) as loop:
        for line in unheeded(network, weights.spec.name, spec.recipe):
            log.warning("%s", line)
        trained = loop.run()
    validation = samples.chosen(spec.validation)
    candidate = _candidate(spec, weights, trained, validation.locations)
    write_result(spec, candidate, context.folder)
    found = trained.evaluation.predictions
    losses = None
    if spec.compares_groups or len(validation) < SMALL_VALIDATION:
        losses = group_losses(
            spec.task, found, validation.targets, spec.labels, spec.settings, spec.primary_metric
        )
    return TrialResult(candidate, trained, losses)


def unheeded(network: Network, model_name: str, recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for each setting of the recipe that this network cannot use."""
    if recipe.multi_scale and not takes_sizes(network):
        yield f"multi_scale is not used: {model_name} takes one size"


def train_subset(train: Samples, seed: int) -> Samples:
    """Return the training images that evaluations cover: all, or some that the seed chooses."""
    order = np.random.default_rng(seed).permutation(len(train))
    return train.chosen(np.sort(order[:MAX_TRAIN_SUBSET]))


def group_losses(
    task: Task[Any, Any],
    predictions: Sequence[Any],
    targets: Targets,
    labels: Sequence[str],
    settings: Settings,
    primary_metric: str,
) -> NDArray[np.float64] | None:
    """Return the primary metric that each group of validation images costs, [g].

    None where it is undefined. Of few images it is what each contributes to the metric of all, of
    many the metric of each group, which takes as long as one evaluation instead of twenty.

    Args:
        task: A task with objects.
        predictions: Predictions, one a validation image, in order.
        targets: Targets of these images.
        labels: k class names.
        settings: Thresholds and limits of the model.
        primary_metric: The metric.
    """

    def metric(rows: Sequence[int]) -> float | None:
        chosen = [predictions[i] for i in rows], [targets[i] for i in rows]
        value: float | None = task.evaluate(*chosen, labels, settings)[primary_metric]
        return value

    if len(targets) < SMALL_VALIDATION:
        values = pseudo_values(metric, len(targets))
    else:
        values = group_values(metric, len(targets))
    return None if values is None else -values


def _build(spec: TrialSpec, weights: LoadedWeights) -> Network:
    torch.manual_seed(spec.seed)
    return family_of(weights.spec).build(
        weights.spec, len(spec.labels), weights, spec.preprocess.size, spec.network
    )


def _rank_epochs(spec: TrialSpec, train: Samples, validation: Samples) -> Ranking:
    return Ranking(
        selection_score(spec.primary_metric, len(validation)),
        # Untrained heads: the initial network is no result.
        initial_is_valid=False,
        train_subset=train_subset(train, spec.seed) if spec.recipe.log_training_metrics else None,
    )


def _candidate(
    spec: TrialSpec, weights: LoadedWeights, trained: Trained, locations: Sequence[str]
) -> Candidate:
    network = trained.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    manifest = Manifest(
        task=spec.task.name,
        labels=list(spec.labels),
        model_name=weights.spec.name,
        preprocess=spec.preprocess,
        weights=weights.info,
        data=DataInfo(spec.data_fingerprint, len(spec.train), len(spec.validation)),
        tiling=spec.tiling,
        outputs=list(network.output_names),
        settings=dict(spec.settings),
        network=dict(spec.network),
        metrics=trained.evaluation.metrics,
    )
    return Candidate(network, manifest, locations[:NUM_CHECK_IMAGES])
