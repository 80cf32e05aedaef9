"""Published defaults (azure.md §1.6) for Azure's names, ours for others; the job wins over both."""

from dataclasses import fields
from typing import Any

import pytest

from autofocus.models.catalog import ALIASES
from autofocus.settings.parameters import PARAMETERS, read_parameters
from autofocus.study.resolve import resolve
from autofocus.study.trials.recipes import recipe_for
from autofocus.training.recipe import (
    AZURE_DETECTOR_DEFAULTS,
    MIN_STEPS,
    RECIPE_PARAMETERS,
    Recipe,
    default_recipe,
    detector_recipe,
    with_parameters,
)

AZURE_NAMES = [name for name in ALIASES if "/" not in name]
# The table of azure.md §1.6, column "classification", by the YAML's names.
PUBLISHED = {
    "number_of_epochs": 15,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "beta1": 0.9,
    "beta2": 0.999,
    "ams_gradient": False,
    "learning_rate_scheduler": "warmup_cosine",
    "warmup_cosine_lr_cycles": 0.45,
    "warmup_cosine_lr_warmup_epochs": 2,
    "step_lr_gamma": 0.5,
    "step_lr_step_size": 5,
    "early_stopping": True,
    "early_stopping_patience": 5,
    "early_stopping_delay": 5,
    "gradient_accumulation_step": 1,
    "evaluation_frequency": 1,
    "layers_to_freeze": 0,
    "weighted_loss": 0,
}
BATCH_SIZES = {"vits16r224": 128, "vitb16r224": 48, "vitl16r224": 10}
RATES = {
    "image_classification": {"vits16r224": 0.0125, "vitb16r224": 0.0125, "vitl16r224": 0.001},
    "image_classification_multilabel": {
        "vits16r224": 0.025,
        "vitb16r224": 0.025,
        "vitl16r224": 0.002,
    },
}
OTHER_RATES = {"image_classification": 0.01, "image_classification_multilabel": 0.035}


def recipe_of(task: str, model: str | None, num_images: int = 100, **parameters: Any) -> Recipe:
    if model is not None:
        parameters["model_name"] = model
    document = {"task": task, "training_data": "x", "training_parameters": parameters}
    return recipe_for(resolve(document), num_images)


def by_published_name(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, field) for name, field in RECIPE_PARAMETERS.items()}


def test_azure_has_twelve_names() -> None:
    assert len(AZURE_NAMES) == 12


@pytest.mark.parametrize("task", sorted(RATES))
@pytest.mark.parametrize("name", AZURE_NAMES)
def test_published_defaults(task: str, name: str) -> None:
    recipe = recipe_of(task, name)
    actual = by_published_name(recipe)
    assert {key: actual[key] for key in PUBLISHED} == PUBLISHED
    assert recipe.learning_rate == RATES[task].get(name, OTHER_RATES[task])
    assert recipe.batch_size == BATCH_SIZES.get(name, 78)
    clip = (None, 1.0) if name.startswith("vit") else (5.0, None)
    assert (recipe.clip_value, recipe.clip_norm) == clip
    # One rate for all layers, no average, no smoothing: nothing that is not published.
    assert (recipe.backbone_scale, recipe.layer_decay) == (1.0, 1.0)
    assert recipe.ema_decay is None
    assert recipe.label_smoothing == 0.0
    assert recipe.mixup_alpha == 0.0
    assert not recipe.freeze_norm_stats


@pytest.mark.parametrize("name", ["vitb16r224", "resnet50", "ResNet50", " seresnext "])
def test_published_defaults_do_not_depend_on_the_number_of_images(name: str) -> None:
    small, large = (recipe_of("image_classification", name, n) for n in (10, 100_000))
    assert small == large
    assert small.optimizer == "sgd"


def test_transformers_learn_slower_below_the_head() -> None:
    recipe = recipe_of("image_classification", "google/vit-base-patch16-224")
    assert recipe.learning_rate * recipe.backbone_scale == pytest.approx(5e-5)
    assert recipe.layer_decay == 0.8


@pytest.mark.parametrize("name", [None, "tf_efficientnet_lite0", "convnext_tiny"])
def test_other_names_train_with_ours(name: str | None) -> None:
    recipe = recipe_of("image_classification", name)
    assert recipe == Recipe(label_smoothing=0.05, early_stopping=False, initial_share=0.5)
    assert recipe.optimizer == "adamw"
    assert recipe.cosine_cycles == 0.5
    large = recipe_of("image_classification", name, 5_000)
    assert large.label_smoothing > recipe.label_smoothing
    assert large.batch_size > recipe.batch_size
    # There validation can tell when to stop, and training ends far from where it began.
    assert (large.early_stopping, large.initial_share) == (True, 0.0)


@pytest.mark.parametrize("model", ["resnet50", "tf_efficientnet_lite0"])
def test_parameters_of_the_job_win(model: str) -> None:
    given = {
        "number_of_epochs": 3,
        "training_batch_size": 5,
        "gradient_accumulation_step": 2,
        "optimizer": "adam",
        "learning_rate": 0.123,
        "weight_decay": 0.5,
        "beta1": 0.8,
        "beta2": 0.7,
        "ams_gradient": True,
        "momentum": 0.1,
        "nesterov": False,
        "learning_rate_scheduler": "step",
        "warmup_cosine_lr_warmup_epochs": 1.5,
        "warmup_cosine_lr_cycles": 0.3,
        "step_lr_gamma": 0.2,
        "step_lr_step_size": 9,
        "weighted_loss": 2,
        "layers_to_freeze": 1,
        "augmentations": "none",
        "early_stopping": False,
        "early_stopping_patience": 7,
        "early_stopping_delay": 8,
        "evaluation_frequency": 4,
        "validation_batch_size": 6,
        "number_of_workers": 2,
        "multi_scale": False,
        "log_validation_loss": True,
        "log_training_metrics": True,
    }
    assert given.keys() == RECIPE_PARAMETERS.keys()
    recipe = recipe_of("image_classification", model, **given)
    assert by_published_name(recipe) == given
    as_text = {name: str(value) for name, value in given.items()}
    assert recipe_of("image_classification", model, **as_text) == recipe


def test_runtime_spellings_mean_the_same() -> None:
    runtime = {"lr_scheduler": "step", "grad_accumulation_step": 2, "amsgrad": 1}
    recipe = recipe_of("image_classification", "resnet50", **runtime)
    assert (recipe.schedule, recipe.accumulation, recipe.ams_gradient) == ("step", 2, True)


def test_what_the_job_does_not_set_stays() -> None:
    recipe = default_recipe("resnet50", 100, {"*": 0.01})
    assert with_parameters(recipe, read_parameters({"momentum": None})) == recipe


def test_rate_given_for_another_optimiser_holds_for_all_layers() -> None:
    own = recipe_of("image_classification", None, learning_rate=0.002)
    assert (own.learning_rate, own.layer_decay) == (0.002, Recipe().layer_decay)
    other = recipe_of("image_classification", None, learning_rate=0.1, optimizer="sgd")
    assert (other.learning_rate, other.backbone_scale, other.layer_decay) == (0.1, 1.0, 1.0)


def test_every_parameter_sets_a_field_of_its_own() -> None:
    targets = list(RECIPE_PARAMETERS.values())
    assert len(set(targets)) == len(targets)
    assert set(targets) <= {field.name for field in fields(Recipe)}
    assert "nobody" not in {PARAMETERS[name].used_by for name in RECIPE_PARAMETERS}
    # Whatever a field names as its parameter is one.
    named = {field.metadata["parameter"] for field in fields(Recipe) if field.metadata}
    assert named <= RECIPE_PARAMETERS.keys()


@pytest.mark.parametrize("num_images", [1, 30, 205, 999])
def test_detectors_train_for_as_many_steps_on_few_images(num_images: int) -> None:
    recipe = detector_recipe({"batch_size": 8}, num_images, is_azure=False)
    steps = recipe.num_epochs * num_images / recipe.batch_size
    assert steps >= MIN_STEPS or recipe.num_epochs == 300


def test_azures_detectors_train_as_published() -> None:
    recipe = detector_recipe({"batch_size": 8}, 100, is_azure=True)
    values = {name: getattr(recipe, name) for name in AZURE_DETECTOR_DEFAULTS}
    assert values == AZURE_DETECTOR_DEFAULTS
    assert (recipe.num_epochs, recipe.batch_size, recipe.learning_rate) == (15, 2, 0.005)
