"""Find the models that AutoMode may train: those of the prior table with weights and time."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from autofocus.errors import WeightsError
from autofocus.manifest import ResizeCrop
from autofocus.models.weights.hub import Timeouts
from autofocus.models.weights.load import load_weights
from autofocus.runtime import Track
from autofocus.study.automode.priors import PriorModel, Priors
from autofocus.study.default_model import BRIEF
from autofocus.study.resolve import Plan, trial_plan
from autofocus.study.study import Study

log = logging.getLogger(__name__)

# Largest model for a CPU without a time budget, in billions of multiply-adds an image.
MAX_CPU_GMACS: Final = 8.0
# A hub that did not answer once is not waited for again.
_SHORTEST: Final = Timeouts(connect_s=0.2, answer_s=0.5)
# Parameters that set the size of a classifier's input.
_SIZES: Final = {"validation_crop_size", "validation_resize_size"}


@dataclass(frozen=True)
class Entrant:
    """A model that AutoMode may train.

    Attributes:
        parameters: Parameters of the trial with its default recipe, beside the job's.
        plan: Plan of that trial.
        image_s: Estimated training time of an image, in seconds.
        num_groups: Groups of layers that can be frozen; 0 where the network was not built yet.
        rank: Rank by the prior table, lower is better.
    """

    parameters: dict[str, Any]
    plan: Plan
    image_s: float
    num_groups: int = 0
    rank: float = math.inf


@dataclass(frozen=True)
class AutoStart:
    """State of AutoMode before its first trial.

    Attributes:
        entrants: Models; their default recipes are the first trials, in this order.
        space: `search_space` around their recipes, in the form of a job's.
        num_epochs: Epochs of the first default recipe.
        side: Longer side of its input, in pixels.
        facts: What the profile of the data says besides numbers of images and classes.
    """

    entrants: list[Entrant]
    space: list[dict[str, Any]]
    num_epochs: int
    side: int
    facts: Mapping[str, Any]


class AutoMode(Protocol):
    """The steps of AutoMode that depend on the model's kind."""

    def begin(self, study: Study) -> AutoStart:
        """Give the study its images, and find the models to train and the space to search."""


@dataclass(frozen=True)
class ResourceBudget:
    """Images, device and time to train with.

    Attributes:
        num_images: Training images.
        image_s: Measured training time of an image with the plan's own model, in seconds.
        is_cpu: Whether there is no accelerator.
        needed_s: Function from an entrant to the minimum seconds that it needs.
        left_s: Seconds of the budget for an entrant; infinite without a budget.
        num_groups: Groups of layers of the plan's own model.
    """

    num_images: int
    image_s: float
    is_cpu: bool
    needed_s: Callable[[Entrant], float]
    left_s: float
    num_groups: int


def find_entrants(
    plan: Plan, priors: Priors, budget: ResourceBudget, track: Track
) -> list[Entrant]:
    """Return the plan's own model and the best expected others, as many as the table says.

    Args:
        plan: The run's plan; its own model needs no download, or is named by the job.
        priors: Prior table of the model's kind.
        budget: Images and time.
        track: Progress display of downloads.
    """
    base, column = priors.gmacs_of(plan.model.name), priors.ranked(budget.num_images)
    rank = next((index for index, row in enumerate(column) if _is_own(row, plan)), math.inf)
    own = Entrant({}, plan, budget.image_s, budget.num_groups, rank)
    if base is None or plan.job.weights is not None or priors.num_entrants < 2:
        return [own]
    found = [own]
    timeouts = BRIEF
    is_sized = bool(_SIZES & plan.parameters.keys())
    for index, row in enumerate(column):
        is_other = row.name != plan.model.name
        if _is_own(row, plan) or (plan.user_named_model if is_other else is_sized):
            continue
        parameters = _parameters(row, plan, is_sized)
        entrant = Entrant(
            parameters,
            trial_plan(plan, parameters),
            budget.image_s * row.gmacs / base,
            # The number of groups of another network is known once it is built.
            0 if is_other else budget.num_groups,
            index,
        )
        if not _is_affordable(entrant, row, budget):
            continue
        if is_other:
            try:
                load_weights(entrant.plan.model, timeouts=timeouts, track=track)
            except WeightsError as error:
                log.debug("%s takes no part: %s", row.name, error.problems[0])
                timeouts = _SHORTEST
                continue
        found.append(entrant)
        if len(found) == priors.num_entrants:
            break
    return found


def _is_own(row: PriorModel, plan: Plan) -> bool:
    """Return whether a row is the plan's own model at its own size."""
    if row.name != plan.model.name:
        return False
    default = plan.model.preprocess
    return row.side is None or (isinstance(default, ResizeCrop) and default.crop_size == row.side)


def _parameters(row: PriorModel, plan: Plan, is_sized: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if row.name != plan.model.name:
        parameters["model_name"] = row.name
    if row.side is not None and not is_sized:
        parameters["validation_crop_size"] = row.side
    return parameters


def _is_affordable(entrant: Entrant, row: PriorModel, budget: ResourceBudget) -> bool:
    """Return whether there is time for an entrant; without a budget a CPU has its limit."""
    if math.isinf(budget.left_s):
        return not budget.is_cpu or row.gmacs <= MAX_CPU_GMACS
    return budget.needed_s(entrant) <= budget.left_s
