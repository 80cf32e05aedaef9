"""AutoMode for detectors and segmenters: the boxes decide tiling, input and limits."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import Calibration
from autofocus.models.box_profile import profile_boxes
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.study.automode.entrants import AutoStart, Entrant, ResourceBudget, find_entrants
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.profile import profile_objects, training_image_s
from autofocus.study.automode.space import space_around
from autofocus.study.scheduler import PROBE_ID
from autofocus.study.study import Study
from autofocus.study.trials.detectors import DetectorTrials, design
from autofocus.study.trials.recipes import recipe_for
from autofocus.training.detector_trial import group_losses
from autofocus.training.device import choose_device
from autofocus.training.evaluate import EvaluationSet, evaluate
from autofocus.training.optim import num_layer_groups
from autofocus.training.trial import TrialSpec

# A model takes part where this share of its default recipe fits into that share of the time.
MIN_EPOCHS_SHARE, TIME_SHARE = 0.4, 0.6


class DetectorAutoMode:
    """Choose by the expected rank of models, and by the time that they take."""

    def begin(self, study: Study) -> AutoStart:
        """Split the images, time the default network, and find which others could be trained."""
        plan = study.plan
        priors = priors_of(plan.model.kind)
        DetectorTrials().begin(study, plan, PROBE_ID)
        plan = replace(plan, model=study.model_of(plan))
        targets = list(study.samples.chosen(study.train).targets)
        designed = design(plan, targets)
        size, num_views = designed.spec.size, designed.num_views
        device = choose_device(plan.job.device)
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
        recipe = recipe_for(found[0].plan, num_views)
        space = [_space(one, num_views, max(size)) for one in found]
        facts = profile_objects(profile_boxes(targets))
        return AutoStart(found, space, recipe.num_epochs, max(size), facts)

    def finish_soup(
        self, network: Network, spec: TrialSpec, validation: EvaluationSet
    ) -> tuple[Calibration, dict[str, Any], NDArray[np.float64] | None]:
        """See `AutoMode.finish_soup`."""
        evaluation = evaluate(network, spec.task, validation, torch.device("cpu"))
        found, targets = evaluation.predictions, validation.targets
        losses = group_losses(
            spec.task, found, targets, spec.labels, spec.settings, spec.primary_metric
        )
        return Calibration(), evaluation.metrics, losses


def _recipe_s(entrant: Entrant, num_views: int) -> float:
    num_epochs = recipe_for(entrant.plan, num_views).num_epochs
    return num_epochs * num_views * entrant.image_s


def _space(entrant: Entrant, num_views: int, side: int) -> dict[str, Any]:
    recipe = recipe_for(entrant.plan, num_views)
    return space_around(entrant, recipe, side, priors_of(entrant.plan.model.kind))
