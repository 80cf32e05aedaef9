"""The search space that AutoMode makes for a job: around the default recipe of each contender.

It is written as a user would write it, and kept in `decisions.jsonl`: nothing is hidden, and what
AutoMode did can be asked for again as a sweep.
"""

import math
from collections.abc import Sequence
from typing import Any

from autofocus.models.base import CLASSIFIER
from autofocus.settings.search_space import SearchSpace, parse_space
from autofocus.study.automode.entrants import Entrant
from autofocus.study.automode.priors import Priors
from autofocus.study.search.samplers import Past, RandomSampler
from autofocus.training.recipe import Recipe

# Sides of an input are multiples of it.
_SIDE_STEP = 32


def space_around(contender: Entrant, recipe: Recipe, side: int, priors: Priors) -> dict[str, Any]:
    """Return one sub-space of a job's `search_space`.

    What the job sets itself is not varied.

    Args:
        contender: The model.
        recipe: Its default recipe, with what the job sets.
        side: Longer side of its default input, in pixels.
        priors: How far to look.
    """
    low, high = (math.log(recipe.learning_rate * factor) for factor in priors.learning_rate)
    space: dict[str, Any] = {
        "learning_rate": {"type": "loguniform", "min_value": low, "max_value": high},
        "augmentations": _choice(priors.augmentations),
    }
    if contender.num_groups:
        # Of a network that was not built it is not known what it takes.
        space[_size_name(contender)] = _choice(_sides(side, priors))
        frozen = [round(frac * contender.num_groups) for frac in priors.frozen_frac]
        space["layers_to_freeze"] = _choice(frozen)
    given = contender.plan.parameters
    is_sized = {"min_size", "max_size", "image_size", "validation_resize_size"} & set(given)
    fixed = {*given, _size_name(contender)} if is_sized else {*given}
    fixed -= contender.parameters.keys()
    chosen = {name: value for name, value in space.items() if name not in fixed}
    return {**contender.parameters, **chosen}


def _size_name(contender: Entrant) -> str:
    is_classifier = contender.plan.model.kind == CLASSIFIER
    return "validation_crop_size" if is_classifier else "image_size"


def _sides(side: int, priors: Priors) -> list[int]:
    others = [side * factor / _SIDE_STEP for factor in priors.sides if factor != 1]
    return [side, *(_SIDE_STEP * max(2, round(multiple)) for multiple in others)]


def _choice(values: Sequence[Any]) -> dict[str, Any]:
    return {"type": "choice", "values": list(dict.fromkeys(values))}


class AutoSampler:
    """First the default recipes, then random points of the space; see `samplers.Sampler`.

    Trial n is a matter of the seed and n alone, so a kill changes no trial.

    Args:
        defaults: Parameters of the first trials.
        raw_space: As a job would have it.
        seed: The job's.
    """

    num_trials: int | None = None

    def __init__(
        self, defaults: Sequence[dict[str, Any]], raw_space: Sequence[dict[str, Any]], seed: int
    ) -> None:
        self._defaults = defaults
        space, problems = parse_space(list(raw_space))
        assert not problems, problems
        self._random = RandomSampler(space, seed)
        self.space: SearchSpace = space

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        if number < len(self._defaults):
            return dict(self._defaults[number])
        return self._random.ask(number, past)
