"""The space of AutoMode is one that a user could have written, around the default recipe."""

import math
from dataclasses import replace
from typing import Any

import pytest

from autofocus.models.base import CLASSIFIER, DETECTOR
from autofocus.settings.search_space import Choice, Uniform, parse_space
from autofocus.study.automode.entrants import Entrant
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.space import AutoSampler, space_around
from autofocus.study.resolve import resolve, trial_plan
from autofocus.training.recipe import Recipe

RECIPE = Recipe(learning_rate=0.001)


def entrant(task: str, num_groups: int = 10, **keys: Any) -> Entrant:
    plan = resolve({"task": task, "training_data": "photos", **keys})
    return Entrant({}, plan, 0.01, num_groups)


def parsed(raw: dict[str, Any]) -> dict[str, Any]:
    space, problems = parse_space([raw])
    assert problems == []
    return dict(space[0])


def test_the_default_recipe_lies_inside() -> None:
    priors = priors_of(CLASSIFIER)
    space = parsed(space_around(entrant("image_classification"), RECIPE, 224, priors))
    rate = space["learning_rate"]
    assert isinstance(rate, Uniform)
    assert rate.min_value < math.log(RECIPE.learning_rate) < rate.max_value
    sizes = space["validation_crop_size"]
    assert isinstance(sizes, Choice)
    assert sizes.values == (224, 288)
    assert space["layers_to_freeze"].values == (0, 3, 6)
    assert "light" in space["augmentations"].values


def test_detectors_vary_the_size_of_their_images() -> None:
    one = entrant("image_object_detection")
    space = parsed(space_around(one, RECIPE, 416, priors_of(DETECTOR)))
    assert space["image_size"].values == (416, 320, 512)


def test_what_the_job_sets_is_not_varied() -> None:
    given = {"learning_rate": 0.01, "layers_to_freeze": 2, "min_size": 300}
    one = entrant("image_object_detection", training_parameters=given)
    assert set(space_around(one, RECIPE, 416, priors_of(DETECTOR))) == {"augmentations"}


def test_what_a_contender_is_stays() -> None:
    one = entrant("image_classification")
    parameters = {"model_name": "resnet18.a1_in1k", "validation_crop_size": 288}
    other = Entrant(parameters, trial_plan(one.plan, parameters), 0.01, 0)
    space = space_around(other, RECIPE, 288, priors_of(CLASSIFIER))
    assert {name: space[name] for name in parameters} == parameters
    assert "layers_to_freeze" not in space, "nobody has counted its layers yet"
    built = replace(other, num_groups=5)
    sizes = space_around(built, RECIPE, 288, priors_of(CLASSIFIER))["validation_crop_size"]
    assert sizes["values"] == [288, 352]


def test_trials_are_the_defaults_and_then_points_that_depend_on_their_number_alone() -> None:
    priors = priors_of(CLASSIFIER)
    raw = [space_around(entrant("image_classification"), RECIPE, 224, priors)]
    sampler = AutoSampler([{"validation_crop_size": 288}], raw, seed=3)
    assert sampler.ask(0) == {"validation_crop_size": 288}
    later = [AutoSampler([{}], raw, seed=3).ask(number) for number in (5, 4)]
    assert [sampler.ask(4), sampler.ask(5)] == later[::-1]
    assert later[0] != later[1]
    assert AutoSampler([{}], raw, seed=4).ask(5) != later[0]
    with pytest.raises(AssertionError):
        AutoSampler([], [{"nonsense": 1}], seed=0)
