"""What a family owns: stand-ins, names of weights, recipes."""

from dataclasses import fields, replace

import pytest

from autofocus.errors import AutofocusError, JobError, WeightsError
from autofocus.models.catalog import HEADS, MODELS, RECOMMENDED, default_model, resolve
from autofocus.models.families import FAMILIES, family_of
from autofocus.models.transformers.catalog import TRANSFORMERS
from autofocus.training.recipe import Recipe, detector_recipe

DETECTORS = [*(f"{head}_resnet18_fpn" for head in HEADS), *(spec.name for spec in TRANSFORMERS)]
NAMES = [*DETECTORS, *(spec.name for spec in RECOMMENDED)]


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_the_catalog_has_a_recipe_and_a_stand_in(name: str) -> None:
    spec = resolve(name)
    family = family_of(spec)
    assert set(family.recipe_defaults(spec)) <= {field.name for field in fields(Recipe)}
    stand_in = resolve(family.stand_in(spec) or default_model(spec.kind))
    assert stand_in.kind == spec.kind
    assert "tf_efficientnet_lite0" in stand_in.name


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_learn_slowly_and_wait_long(name: str) -> None:
    spec = resolve(name)
    recipe = detector_recipe(family_of(spec).recipe_defaults(spec), 100, is_azure=False)
    assert recipe.learning_rate <= 1e-3
    assert recipe.early_stopping_patience == 10


def test_a_head_without_a_recipe_is_an_error_that_says_so() -> None:
    spec = replace(resolve("fcos_resnet18_fpn"), name="centernet_resnet18_fpn")
    with pytest.raises(AutofocusError, match="no recipe for the head 'centernet'") as caught:
        family_of(spec).recipe_defaults(spec)
    assert "TorchvisionFamily.recipes" in str(caught.value)


def test_errors_can_name_the_tensors_of_every_family() -> None:
    assert all(family.weight_names for family in FAMILIES.values())


def test_only_networks_that_take_any_shape_read_its_parameters() -> None:
    assert [name for name in FAMILIES if FAMILIES[name].takes_any_shape] == ["torchvision"]


def test_a_family_that_this_process_does_not_know_is_named() -> None:
    spec = replace(resolve("resnet18"), family="toy")
    with pytest.raises(WeightsError, match=r"one of timm, torchvision.*got 'toy'.*entry point"):
        family_of(spec)


def test_a_model_is_an_entry_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(resolve("resnet18"), name="Toy.v1")
    monkeypatch.setitem(MODELS, "toy", spec)
    with pytest.raises(JobError, match=r"'Toy\.v1' must be an entry under its own name"):
        resolve("toy")
    monkeypatch.setitem(MODELS, "toy.v1", spec)
    assert resolve("TOY") == resolve("toy.V1") == spec
