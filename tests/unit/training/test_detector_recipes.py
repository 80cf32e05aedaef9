"""Recipes of detectors: every model of the catalog has one; it is steps that heads need."""

import pytest

from autofocus.models import catalog
from autofocus.models.transformers.catalog import TRANSFORMERS
from autofocus.training.detector_recipes import AZURE, MIN_STEPS, detector_recipe

HEADS = ("fcos", "retinanet", "fasterrcnn", "maskrcnn")
NAMES = [*(f"{head}_resnet18_fpn" for head in HEADS), *(spec.name for spec in TRANSFORMERS)]


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_of_the_catalog_has_a_recipe(name: str) -> None:
    recipe = detector_recipe(catalog.resolve(name).name, 100, is_azure=False)
    assert recipe.learning_rate <= 1e-3
    assert recipe.early_stopping_patience == 10


@pytest.mark.parametrize("num_images", [1, 30, 205, 999])
def test_few_images_train_for_as_many_steps(num_images: int) -> None:
    recipe = detector_recipe("fcos_x", num_images, is_azure=False)
    steps = recipe.num_epochs * num_images / recipe.batch_size
    assert steps >= MIN_STEPS or recipe.num_epochs == 300


def test_azures_names_train_as_published() -> None:
    recipe = detector_recipe("fasterrcnn_resnet50_fpn", 100, is_azure=True)
    assert {name: getattr(recipe, name) for name in AZURE} == AZURE
    assert (recipe.num_epochs, recipe.batch_size, recipe.learning_rate) == (15, 2, 0.005)
