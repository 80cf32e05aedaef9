"""AutoMode for detectors and segmenters: the boxes decide tiling, input and limits."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import Manifest
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.study.automode.entrants import AutoStart, Entrant, ResourceBudget, find_entrants
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.profile import training_image_s
from autofocus.study.automode.space import space_around
from autofocus.study.study import Study
from autofocus.study.trials.detectors import TEST_IMAGE_S, design, losses, parts
from autofocus.study.trials.prepare import prepare_trial
from autofocus.study.trials.recipes import detector_recipe_for
from autofocus.study.trials.trial import Common, SweepStart, common_of
from autofocus.tasks.base import Task
from autofocus.training.evaluate import EvaluationSet, evaluate
from autofocus.training.optim import num_layer_groups

# A model takes part where this share of its default recipe fits into that share of the time.
MIN_EPOCHS_SHARE, TIME_SHARE = 0.4, 0.6


class DetectorAutoMode:
    """Choose by the expected rank of models, and by the time that they take."""

    def begin(self, study: Study) -> AutoStart:
        """Split the images, time the default network, and find which others could be trained."""
        plan = study.plan
        priors = priors_of(plan.model.kind)
        common = common_of(study, *parts(study))
        weights, device = prepare_trial(plan, len(study.labels), study.track)
        plan = replace(plan, model=weights.spec)
        designed = design(common, plan, device)
        size, num_views = designed.spec.size, designed.num_views
        # Random numbers take as long as weights, and leave torch's generator as it was.
        with torch.random.fork_rng([]):
            network = family_of(plan.model).build(
                plan.model, len(study.labels), None, size, designed.options
            )
        budget = ResourceBudget(
            num_images=num_views,
            image_s=training_image_s(network, size, device),
            is_cpu=device.type == "cpu",
            needed_s=lambda one: MIN_EPOCHS_SHARE * _recipe_s(one, num_views),
            left_s=TIME_SHARE * study.left_s(),
            num_groups=num_layer_groups(network),
        )
        found = sorted(find_entrants(plan, priors, budget, study.track), key=lambda one: one.rank)
        recipe = detector_recipe_for(found[0].plan, num_views)
        space = [_space(one, num_views, max(size)) for one in found]
        start = SweepStart(common, TEST_IMAGE_S)
        return AutoStart(start, found, space, recipe.num_epochs, max(size))

    def finish_soup(
        self,
        common: Common,
        network: Network,
        manifest: Manifest,
        task: Task[Any, Any],
        validation: EvaluationSet,
    ) -> tuple[Manifest, NDArray[np.float64] | None]:
        """See `AutoMode.finish_soup`."""
        evaluation = evaluate(network, task, validation, torch.device("cpu"))
        manifest = msgspec.structs.replace(manifest, metrics=evaluation.metrics)
        return manifest, losses(common, task, evaluation.predictions, manifest.settings)


def _recipe_s(entrant: Entrant, num_views: int) -> float:
    num_epochs = detector_recipe_for(entrant.plan, num_views).num_epochs
    return num_epochs * num_views * entrant.image_s


def _space(entrant: Entrant, num_views: int, side: int) -> dict[str, Any]:
    recipe = detector_recipe_for(entrant.plan, num_views)
    return space_around(entrant, recipe, side, priors_of(entrant.plan.model.kind))
