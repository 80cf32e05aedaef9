"""The trial of a job with objects in its images: one detector, trained and published."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.data.batches.tiles import DEFAULT_OVERLAP, tile_targets, tiling_of
from autofocus.data.splits import split_indices
from autofocus.errors import DataError, TrainingError
from autofocus.manifest import ResizeFit, Tiling
from autofocus.metrics.jackknife import pseudo_values
from autofocus.models.box_profile import BoxProfile, profile_boxes
from autofocus.models.families import family_of
from autofocus.runtime import StopRequest
from autofocus.structures.targets import BoxTarget
from autofocus.study.resolve import Plan
from autofocus.study.study import RESERVE_FACTOR, Outcome, Study, format_metric
from autofocus.study.trials.prepare import prepare_trial
from autofocus.study.trials.recipes import detector_recipe_for, is_azure_detector
from autofocus.study.trials.trial import Common, Hooks, SweepStart, TrialResult, common_of
from autofocus.tasks.base import Settings, Task
from autofocus.tasks.objects import ObjectsTask
from autofocus.training.candidate import Samples
from autofocus.training.detector_trial import DetectorTrial, run_detector_trial
from autofocus.training.device import make_accelerator
from autofocus.training.selection import SMALL_VALIDATION
from autofocus.training.usable import UsableSamples, usable_samples

log = logging.getLogger(__name__)

TRIAL_ID = "0"
# Seconds to score an image of the test data, before it was measured.
TEST_IMAGE_S = 0.25


class DetectorTrials:
    """Train a detector from its pretrained encoder; see `Trials`."""

    def run_single(self, study: Study) -> Outcome:
        """Train the job's detector and publish its best epoch."""
        common = common_of(study, *parts(study))
        deadline_s = study.deadline(reserve_s(study))
        started_s = time.monotonic()
        with StopRequest() as stop:
            hooks = Hooks(study.folder.decide, should_stop=stop, track=study.track)
            result = self.train(common, study.plan, TRIAL_ID, deadline_s, hooks)
        trained, metrics = result.trained, result.candidate.metrics
        seconds = time.monotonic() - started_s
        value, name = metrics[study.metric], study.plan.model.name
        log.info("trained: %s %s after %.0f s", study.metric, format_metric(value), study.seconds())
        study.record(
            TRIAL_ID, name, value, trained.num_epochs, seconds, trained.status, trained.reason
        )
        if trained.status == "failed" and not trained.improved:
            raise TrainingError(f"training failed: {trained.reason}")
        model = study.publish(TRIAL_ID, result.candidate)
        return Outcome(TRIAL_ID, metrics, model, study.seconds(), trained.status == "stopped")

    def begin_sweep(self, study: Study, plan: Plan) -> SweepStart:
        """Look at all images and split them; there is no model before the first trial's."""
        return SweepStart(common_of(study, *parts(study)), TEST_IMAGE_S)

    def train(
        self, common: Common, plan: Plan, trial: str, deadline_s: float | None, hooks: Hooks
    ) -> TrialResult:
        """Train a detector from its pretrained encoder on; see `TrainTrial`."""
        labels = common.labels
        weights, device = prepare_trial(plan, len(labels), hooks.track)
        # Another model may stand in for the job's.
        plan = replace(plan, model=weights.spec)
        designed = design(common, plan, device)
        spec, options, settings = designed.spec, designed.options, designed.settings
        tiling = designed.tiling
        _announce(plan, designed.profile, spec)
        recipe = detector_recipe_for(plan, designed.num_views)
        hooks.decide("recipe", trial=trial, **recipe.document())
        hooks.decide(
            "network",
            trial=trial,
            size=spec.size,
            options=options,
            settings=settings,
            tiling=tiling and [tiling.cols, tiling.rows, tiling.overlap_frac],
        )
        torch.manual_seed(plan.seed)
        network = family_of(plan.model).build(plan.model, len(labels), weights, spec.size, options)
        candidate, trained = run_detector_trial(
            DetectorTrial(
                task=plan.task,
                model_name=plan.model.name,
                network=network,
                weights=weights,
                preprocess=spec,
                options=options,
                settings=settings,
                labels=labels,
                recipe=recipe,
                train=common.train,
                validation=common.validation,
                data_fingerprint=common.data_fingerprint,
                primary_metric=common.metric,
                seed=plan.seed,
                accelerator=make_accelerator(device),
                folder=common.folder / "trials" / trial,
                deadline_s=deadline_s,
                should_stop=hooks.should_stop,
                on_epoch=hooks.on_epoch,
                track=hooks.track,
                tiling=tiling,
            )
        )
        found = trained.evaluation.predictions
        return TrialResult(candidate, trained, losses(common, plan.task, found, settings))


def reserve_s(study: Study) -> float:
    """Return the seconds to keep back for packaging and for scoring the test data."""
    return study.packaging_s * RESERVE_FACTOR + study.test_reserve_s(TEST_IMAGE_S)


def parts(study: Study) -> tuple[Samples[Any], Samples[Any]]:
    """Return the training and validation images, all of which decode."""
    given = study.samples()
    looked = {
        role: usable_samples(given[role], partial(study.report, role), study.track)
        for role in ("training", "validation")
        if role in given
    }
    for role, seen in looked.items():
        if not len(seen.samples):
            raise DataError(
                f"no {role} image can be used; data_check.json in the run folder says why."
            )
    train = looked["training"]
    if "validation" in looked:
        return train.samples, looked["validation"].samples
    return _split(study, train)


def _split(study: Study, seen: UsableSamples) -> tuple[Samples[Any], Samples[Any]]:
    job, samples = study.plan.job, seen.samples
    labels = [study.plan.task.record_labels(record) for record in samples.records]
    seed = study.seed
    train, validation = split_indices(labels, seen.hashes, job.validation_data_size, seed)
    study.folder.decide("split", seed=seed, num_training=len(train), num_validation=len(validation))
    if np.array_equal(train, validation):
        log.warning("too few images to hold any out: validation metrics are on training images")
    return samples.chosen(train), samples.chosen(validation)


def losses(
    common: Common, task: Task[Any, Any], predictions: Sequence[Any], settings: Settings
) -> NDArray[np.float64] | None:
    """Return the primary metric that each group of validation images costs, [g].

    None where there are enough images to compare by the metric alone, or where it is undefined.

    Args:
        common: The run's data.
        task: A task with objects.
        predictions: Predictions, one a validation image, in order.
        settings: Thresholds and limits of the model.
    """
    targets = list(task.encode_targets(common.validation.records, common.labels))
    if len(targets) >= SMALL_VALIDATION:
        return None

    def metric(rows: Sequence[int]) -> float | None:
        chosen = [predictions[i] for i in rows], [targets[i] for i in rows]
        value: float | None = task.evaluate(*chosen, common.labels, settings)[common.metric]
        return value

    pseudo = pseudo_values(metric, len(targets))
    return None if pseudo is None else -pseudo


@dataclass(frozen=True)
class Design:
    """Design of a detector's network and input, from the job and the training data.

    Attributes:
        tiling: Tiles of each image; None without tiles.
        profile: Profile of the objects in whole images and tiles.
        num_views: Number of whole images and tiles to train on.
        spec: Preprocessing.
        options: Options to build the network with.
        settings: Thresholds and limits of the model.
    """

    tiling: Tiling | None
    profile: BoxProfile
    num_views: int
    spec: ResizeFit
    options: dict[str, Any]
    settings: Settings


def design(common: Common, plan: Plan, device: torch.device) -> Design:
    """Return the design of a plan's network.

    Args:
        common: The run's data.
        plan: The trial's plan.
        device: Device of training.
    """
    task, train = plan.task, common.train
    assert isinstance(task, ObjectsTask), "a detector's task has objects"
    targets = list(task.encode_targets(train.records, common.labels))
    tiling = _tiling(plan, targets)
    views = [target for _, _, target in tile_targets(targets, tiling)] if tiling else targets
    profile = profile_boxes(views)
    family = family_of(plan.model)
    spec = family.input_spec(plan.model, profile, plan.parameters, device.type == "cpu")
    options = family.network_options(plan.model, profile, spec.size, plan.parameters)
    settings = task.default_settings(profile.objects_p99, is_azure_detector(plan), plan.parameters)
    return Design(tiling, profile, len(views), spec, options, settings)


def _tiling(plan: Plan, targets: Sequence[BoxTarget]) -> Tiling | None:
    """Return the tiling that the job sets or its objects need; None without tiles."""
    grid = plan.parameters.get("tile_grid_size")
    if grid is None:
        return None
    overlap_frac = plan.parameters.get("tile_overlap_ratio", DEFAULT_OVERLAP)
    tiling = tiling_of(grid, overlap_frac, targets)
    if tiling is not None:
        log.info("each image is seen whole and in %d x %d tiles", tiling.cols, tiling.rows)
    return tiling


def _announce(plan: Plan, profile: BoxProfile, spec: ResizeFit) -> None:
    log.info(
        "%s · %d objects in %d images, half of them below %.0f %% of the image's side"
        " · input %d x %d pixels",
        plan.model.name,
        profile.num_objects,
        profile.num_images,
        100 * profile.side_frac[2],
        spec.width,
        spec.height,
    )
