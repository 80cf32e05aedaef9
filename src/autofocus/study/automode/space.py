"""The search space of AutoMode: around the default recipe of each entrant.

It has the form of a job's `search_space` and is kept in `decisions.jsonl`, so that the search can
be run again as a sweep.
"""

import math
from collections.abc import Sequence
from typing import Any

from autofocus.models.base import CLASSIFIER, DETECTOR, SEGMENTER
from autofocus.settings.search_space import parse_space
from autofocus.study.automode.entrants import Entrant
from autofocus.study.automode.priors import Priors
from autofocus.study.search.samplers import Past, RandomSampler, Sampler
from autofocus.training.recipe import Recipe

# Kind of model -> the parameter that sets the size of its input.
SIZE_PARAMETERS = {
    CLASSIFIER: "validation_crop_size",
    DETECTOR: "image_size",
    SEGMENTER: "image_size",
}
# Sides of an input are multiples of this, in pixels.
_SIDE_STEP = 32


def space_around(entrant: Entrant, recipe: Recipe, side: int, priors: Priors) -> dict[str, Any]:
    """Return one sub-space of a job's `search_space`.

    Parameters that the job sets are not varied.

    Args:
        entrant: The model.
        recipe: Its default recipe, with the job's parameters.
        side: Longer side of its default input, in pixels.
        priors: Ranges.
    """
    low, high = (math.log(recipe.learning_rate * factor) for factor in priors.learning_rate)
    space: dict[str, Any] = {
        "learning_rate": {"type": "loguniform", "min_value": low, "max_value": high},
        "augmentations": _choice(priors.augmentations),
    }
    size_name = SIZE_PARAMETERS[entrant.plan.model.kind]
    if entrant.num_groups:
        # What a network takes is known once it is built.
        space[size_name] = _choice(_sides(side, priors))
        frozen = [round(frac * entrant.num_groups) for frac in priors.frozen_frac]
        space["layers_to_freeze"] = _choice(frozen)
    given = entrant.plan.parameters
    is_sized = {"min_size", "max_size", "image_size", "validation_resize_size"} & set(given)
    fixed = {*given, size_name} if is_sized else {*given}
    fixed -= entrant.parameters.keys()
    chosen = {name: value for name, value in space.items() if name not in fixed}
    return {**entrant.parameters, **chosen}


def _sides(side: int, priors: Priors) -> list[int]:
    others = [side * factor / _SIDE_STEP for factor in priors.sides if factor != 1]
    return [side, *(_SIDE_STEP * max(2, round(multiple)) for multiple in others)]


def _choice(values: Sequence[Any]) -> dict[str, Any]:
    return {"type": "choice", "values": list(dict.fromkeys(values))}


class AutoSampler(Sampler):
    """First the default recipes, then random points of the space.

    Trial n depends on the seed and n alone, so a kill changes no trial.

    Args:
        defaults: Parameters of the first trials.
        raw_space: `search_space` in the form of a job's.
        seed: The job's seed.
    """

    reads_past = False

    def __init__(
        self, defaults: Sequence[dict[str, Any]], raw_space: Sequence[dict[str, Any]], seed: int
    ) -> None:
        self._defaults = defaults
        space, problems = parse_space(list(raw_space))
        assert not problems, problems
        super().__init__(space, seed)
        self._random = RandomSampler(space, seed)

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        if number < len(self._defaults):
            return dict(self._defaults[number])
        return self._random.ask(number, past)
