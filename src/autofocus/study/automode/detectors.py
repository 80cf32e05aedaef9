"""AutoMode for detectors and segmenters: what the boxes are like says how to begin."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import Manifest
from autofocus.models import build as families
from autofocus.models.network import Network
from autofocus.study.automode.entrants import AutoStart, Entrant, ResourceBudget, contenders
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.profile import training_image_s
from autofocus.study.automode.space import space_around
from autofocus.study.study import Study
from autofocus.study.trials.detectors import TEST_IMAGE_S, design, losses, parts
from autofocus.study.trials.prepare import prepare
from autofocus.study.trials.recipes import detector_recipe_for
from autofocus.study.trials.trial import Common, SweepStart, common_of
from autofocus.tasks.base import Task
from autofocus.training.evaluate import EvaluationSet, evaluate
from autofocus.training.optim import num_layer_groups

# A model is trained where this share of its default recipe fits into that share of the time.
MIN_EPOCHS_SHARE, TIME_SHARE = 0.4, 0.6


class DetectorAutoMode:
    """Begin from what the boxes are like; see `AutoMode`."""

    def begin(self, study: Study) -> AutoStart:
        """Split the images, measure the default network, and see which others could be trained."""
        plan = study.plan
        priors = priors_of(plan.model.kind)
        common = common_of(study, *parts(study))
        weights, device = prepare(plan, len(study.labels), study.track)
        plan = replace(plan, model=weights.spec)
        designed = design(common, plan, device)
        size, num_views = designed.spec.size, designed.num_views
        # Random numbers take as long as weights, and leave torch's generator as it was.
        with torch.random.fork_rng([]):
            network = families.build(plan.model, len(study.labels), None, size, designed.options)
        means = ResourceBudget(
            num_images=num_views,
            image_s=training_image_s(network, size, device),
            is_cpu=device.type == "cpu",
            needed_s=lambda one: MIN_EPOCHS_SHARE * _recipe_s(one, num_views),
            left_s=TIME_SHARE * study.left_s(),
            num_groups=num_layer_groups(network),
        )
        found = sorted(contenders(plan, priors, means, study.track), key=lambda one: one.rank)
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
        judged: EvaluationSet,
    ) -> tuple[Manifest, NDArray[np.float64] | None]:
        """Judge a mean of networks, and return its manifest and what each part costs the metric.

        Args:
            common: Of all trials.
            network: On the CPU.
            manifest: Of the best ingredient.
            task: A task with objects.
            judged: The validation images.
        """
        evaluation = evaluate(network, task, judged, torch.device("cpu"))
        manifest = msgspec.structs.replace(manifest, metrics=evaluation.metrics)
        return manifest, losses(common, task, evaluation.predictions, manifest.settings)


def _recipe_s(contender: Entrant, num_views: int) -> float:
    num_epochs = detector_recipe_for(contender.plan, num_views).num_epochs
    return num_epochs * num_views * contender.image_s


def _space(contender: Entrant, num_views: int, side: int) -> dict[str, Any]:
    recipe = detector_recipe_for(contender.plan, num_views)
    return space_around(contender, recipe, side, priors_of(contender.plan.model.kind))
