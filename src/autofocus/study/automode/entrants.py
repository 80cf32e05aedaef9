"""Which models AutoMode looks at: those of the prior table that can be had and fit the time."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import WeightsError
from autofocus.manifest import Manifest, ResizeCrop
from autofocus.models.network import Network
from autofocus.models.weights.hub import Timeouts
from autofocus.models.weights.load import load_weights
from autofocus.runtime import Track
from autofocus.study.automode.priors import PriorModel, Priors
from autofocus.study.resolve import Plan, trial_plan
from autofocus.study.study import Study
from autofocus.study.trials.prepare import BRIEF
from autofocus.study.trials.trial import Common, SweepStart
from autofocus.tasks.base import Task
from autofocus.training.evaluate import EvaluationSet

log = logging.getLogger(__name__)

# Billions of multiply-adds an image that a CPU is not asked for, where nobody named a time.
MAX_CPU_GMACS: Final = 8.0
# A hub that did not answer once is not waited for again.
_NO_PATIENCE: Final = Timeouts(connect_s=0.2, answer_s=0.5)
# What sets the size of a classifier's input.
_SIZES: Final = {"validation_crop_size", "validation_resize_size"}


@dataclass(frozen=True)
class Entrant:
    """A model that AutoMode may train.

    Attributes:
        parameters: Of a trial that trains it with its default recipe; what the job says is not
            among them.
        plan: Of that trial.
        image_s: About how many seconds training takes an image.
        num_groups: Groups of layers that can be frozen; 0 where the network was not built yet.
        rank: Expected by the prior table, lower is better.
    """

    parameters: dict[str, Any]
    plan: Plan
    image_s: float
    num_groups: int = 0
    rank: float = math.inf


@dataclass(frozen=True)
class AutoStart:
    """What AutoMode has before its first trial.

    Attributes:
        start: As a sweep has it.
        contenders: Their default recipes are the first trials, in this order.
        space: A `search_space` around their recipes, as a job would have it.
        num_epochs: Of the first one's default recipe.
        side: Longer side of its input, in pixels.
        can_refit: Whether the best is trained once more with the images that it was judged by.
    """

    start: SweepStart
    contenders: list[Entrant]
    space: list[dict[str, Any]]
    num_epochs: int
    side: int
    can_refit: bool = False


class AutoMode(Protocol):
    """The steps of AutoMode that depend on the model's kind."""

    def begin(self, study: Study) -> AutoStart:
        """Split the images, and find the models to train and the space to search."""

    def finish_soup(
        self,
        common: Common,
        network: Network,
        manifest: Manifest,
        task: Task[Any, Any],
        judged: EvaluationSet,
    ) -> tuple[Manifest, NDArray[np.float64] | None]:
        """Evaluate a mean of networks; return its manifest and each validation image's loss.

        Args:
            common: The run's data.
            network: On the CPU; a classifier's head is calibrated in place.
            manifest: Of the best ingredient.
            task: The run's.
            judged: The validation images.
        """


@dataclass(frozen=True)
class ResourceBudget:
    """What there is to train with.

    Attributes:
        num_images: To learn from.
        image_s: What the plan's own model takes an image, measured.
        is_cpu: Whether there is no accelerator.
        needed_s: From a contender to the seconds without which it is not worth looking at.
        left_s: What of the budget it may take; infinite without one.
        num_groups: Of the plan's own model.
    """

    num_images: int
    image_s: float
    is_cpu: bool
    needed_s: Callable[[Entrant], float]
    left_s: float
    num_groups: int


def contenders(plan: Plan, priors: Priors, means: ResourceBudget, track: Track) -> list[Entrant]:
    """Return the plan's own model and the best expected others, as many as the table says.

    Args:
        plan: Its own model is the one that needs no download, or that the job names.
        priors: Of its kind.
        means: What there is to train with.
        track: Shows downloads.
    """
    base, column = priors.gmacs_of(plan.model.name), priors.ranked(means.num_images)
    rank = next((place for place, row in enumerate(column) if _is_own(row, plan)), math.inf)
    own = Entrant({}, plan, means.image_s, means.num_groups, rank)
    if base is None or plan.job.weights is not None or priors.num_contenders < 2:
        return [own]
    found = [own]
    patience = BRIEF
    is_sized = bool(_SIZES & plan.parameters.keys())
    for place, row in enumerate(column):
        is_other = row.name != plan.model.name
        if _is_own(row, plan) or (plan.user_named_model if is_other else is_sized):
            continue
        parameters = _parameters(row, plan, is_sized)
        contender = Entrant(
            parameters,
            trial_plan(plan, parameters),
            means.image_s * row.gmacs / base,
            # How many groups another network has is known once it is built.
            0 if is_other else means.num_groups,
            place,
        )
        if not _is_affordable(contender, row, means):
            continue
        if is_other:
            try:
                load_weights(contender.plan.model, patience=patience, track=track)
            except WeightsError as error:
                log.debug("%s takes no part: %s", row.name, error.problems[0])
                patience = _NO_PATIENCE
                continue
        found.append(contender)
        if len(found) == priors.num_contenders:
            break
    return found


def _is_own(row: PriorModel, plan: Plan) -> bool:
    """Return whether a row is what the plan trains without it."""
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


def _is_affordable(contender: Entrant, row: PriorModel, means: ResourceBudget) -> bool:
    """Return whether there is time for it; nobody's patience is endless where no time was named."""
    if math.isinf(means.left_s):
        return not means.is_cpu or row.gmacs <= MAX_CPU_GMACS
    return means.needed_s(contender) <= means.left_s
