"""The trials of a job with objects in its images: a detector, from its pretrained encoder on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.tiles import DEFAULT_OVERLAP, tile_targets, tiling_of
from autofocus.errors import DataError
from autofocus.manifest import ResizeFit, Tiling
from autofocus.models.box_profile import BoxProfile, profile_boxes
from autofocus.models.families import family_of
from autofocus.structures.targets import BoxTarget
from autofocus.study.groups import group_samples
from autofocus.study.resolve import Plan
from autofocus.study.study import Study
from autofocus.study.trials.recipes import is_azure_detector, recipe_for
from autofocus.tasks.base import Settings
from autofocus.tasks.objects import ObjectsTask
from autofocus.training.candidate import Samples
from autofocus.training.detector_trial import train_detector
from autofocus.training.device import choose_device
from autofocus.training.trial import TrialSpec
from autofocus.training.usable import UsableImages, usable_images

log = logging.getLogger(__name__)

# Seconds to score an image of the test data, before it was measured.
TEST_IMAGE_S = 0.25


class DetectorTrials:
    """Train a detector from its pretrained encoder; see `Trials`."""

    train = staticmethod(train_detector)
    single_probe = "probe"
    single_number = 0

    def begin(self, study: Study, plan: Plan, probe: str) -> None:
        """Look at all images and split them; there is no model before the first trial's."""
        given = {
            role: usable_images(
                data.records,
                data.locations,
                partial(study.report, role),
                study.track,
                study.sample_bits,
            )
            for role, data in study.sources.given.items()
            if role != "test"
        }
        for role, usable in given.items():
            study.folder.images.note(usable.locations, usable.tags, usable.hashes)
            if not usable.records:
                raise DataError(
                    f"no {role} image can be used; data_check.json in the run folder says why."
                )
        study.samples = _samples(study, list(given.values()))
        if "validation" in given:
            num_training = len(given["training"].records)
            study.train = np.arange(num_training)
            study.validation = np.arange(num_training, len(study.samples))
        else:
            study.train, study.validation = study.split()
        study.image_s = TEST_IMAGE_S

    def spec(
        self,
        study: Study,
        plan: Plan,
        trial: str,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
    ) -> TrialSpec:
        """Resolve a trial: its network and input follow from the objects; see `Trials.spec`."""
        spec, designed = designed_spec(study, plan, trial, train, validation)
        _announce(study.model_of(plan).name, designed)
        return spec


def _samples(study: Study, given: Sequence[UsableImages]) -> Samples:
    records = [record for usable in given for record in usable.records]
    locations = [location for usable in given for location in usable.locations]
    hashes = [content for usable in given for content in usable.hashes]
    thumbnails = np.stack([row for usable in given for row in usable.thumbnails])
    return Samples(
        records=records,
        locations=locations,
        targets=study.plan.task.encode_targets(records, study.labels),
        hashes=hashes,
        groups=group_samples(study, records, locations, hashes, thumbnails),
        source=study.sources.training.name,
    )


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


def designed_spec(
    study: Study,
    plan: Plan,
    trial: str,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
) -> tuple[TrialSpec, Design]:
    """Return what a trial trains, and the design that it follows from; see `Trials.spec`."""
    # Another model may stand in for the job's.
    found = replace(plan, model=study.model_of(plan))
    designed = design(found, list(study.samples.chosen(train).targets))
    spec = TrialSpec(
        id=trial,
        task=plan.task,
        labels=study.labels,
        model=plan.model,
        weights=study.weights_of(plan),
        preprocess=msgspec.structs.replace(designed.spec, sample_bits=study.sample_bits),
        recipe=recipe_for(found, designed.num_views),
        train=train,
        validation=validation,
        primary_metric=study.metric,
        seed=plan.seed,
        device=plan.job.device,
        data_fingerprint=study.sources.fingerprint,
        network=designed.options,
        settings=designed.settings,
        tiling=designed.tiling,
        compares_groups=study.plan.mode == "automode",
    )
    return spec, designed


def design(plan: Plan, targets: Sequence[BoxTarget]) -> Design:
    """Return the design of a plan's network.

    Args:
        plan: The trial's plan, with the model whose weights are there.
        targets: Targets of the training images.
    """
    task = plan.task
    assert isinstance(task, ObjectsTask), "a detector's task has objects"
    tiling = _tiling(plan, targets)
    views = [target for _, _, target in tile_targets(targets, tiling)] if tiling else targets
    profile, family = profile_boxes(views), family_of(plan.model)
    is_cpu = choose_device(plan.job.device).type == "cpu"
    spec = family.input_spec(plan.model, profile, plan.parameters, is_cpu)
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


def _announce(model_name: str, designed: Design) -> None:
    profile, spec = designed.profile, designed.spec
    log.info(
        "%s · %d objects in %d images, half of them below %.0f %% of the image's side"
        " · input %d x %d pixels",
        model_name,
        profile.num_objects,
        profile.num_images,
        100 * profile.side_frac[2],
        spec.width,
        spec.height,
    )
