"""Recipe and preprocessing of a job: the defaults of its model, then its own parameters."""

from collections.abc import Callable
from typing import Any, Final

from autofocus.errors import JobError
from autofocus.manifest import ResizeCrop
from autofocus.models.base import CLASSIFIER, DETECTOR, SEGMENTER
from autofocus.models.catalog import ALIASES, AZURE_DETECTORS
from autofocus.models.families import family_of
from autofocus.settings.parameters import PARAMETERS
from autofocus.study.resolve import Plan
from autofocus.tasks.whole_image import WholeImageTask
from autofocus.training.recipe import (
    RECIPE_PARAMETERS,
    Recipe,
    default_recipe,
    detector_recipe,
    with_parameters,
)

# azure.md §1.6: validation_resize_size and validation_crop_size of Azure's names.
AZURE_RESIZE, AZURE_CROP = 256, 224


def recipe_for(plan: Plan, num_images: int) -> Recipe:
    """Return the recipe of a plan: its model's, then its own parameters.

    Args:
        plan: The plan.
        num_images: Training images, and tiles of them.
    """
    return with_parameters(_RECIPES[plan.model.kind](plan, num_images), plan.parameters)


def _of_classifier(plan: Plan, num_images: int) -> Recipe:
    assert isinstance(plan.task, WholeImageTask), "a classifier says what a whole image shows"
    return default_recipe(
        _azure_name(plan),
        num_images,
        plan.task.azure_learning_rates,
        defaults=family_of(plan.model).recipe_defaults(plan.model),
        label_smoothing=plan.task.label_smoothing,
    )


def _of_detector(plan: Plan, num_images: int) -> Recipe:
    defaults = family_of(plan.model).recipe_defaults(plan.model)
    return detector_recipe(defaults, num_images, is_azure_detector(plan))


_RECIPES: Final[dict[str, Callable[[Plan, int], Recipe]]] = {
    CLASSIFIER: _of_classifier,
    DETECTOR: _of_detector,
    SEGMENTER: _of_detector,
}


def default_values(plan: Plan, num_images: int) -> dict[str, Any]:
    """Return the hyperparameters that have a value before the images are looked at.

    Args:
        plan: Plan; what it sets is among them.
        num_images: Training images.
    """
    task, recipe = plan.task, recipe_for(plan, num_images)
    values = {name: getattr(recipe, field) for name, field in RECIPE_PARAMETERS.items()}
    values |= {name: plan.parameters.get(name, x) for name, x in task.default_values.items()}
    return {
        name: value
        for name, value in values.items()
        if value is not None and PARAMETERS[name].used_by in plan.readers
    }


def is_azure_detector(plan: Plan) -> bool:
    """Return whether the job names its detector as Azure does."""
    return (plan.job.model_name or "").strip().lower() in AZURE_DETECTORS


def preprocess_for(plan: Plan, default: ResizeCrop) -> ResizeCrop:
    """Return the preprocessing of a plan.

    Args:
        plan: Plan, which may set sizes; Azure's names have published ones.
        default: Preprocessing of the weights; its normalisation always holds.

    Raises:
        JobError: If the crop is larger than the resized image.
    """
    parameters = plan.parameters
    if _azure_name(plan):
        crop = int(parameters.get("validation_crop_size", AZURE_CROP))
        resize = max(AZURE_RESIZE, crop)
    else:
        crop = int(parameters.get("validation_crop_size", default.crop_size))
        resize = round(default.resize_size * crop / default.crop_size)
    resize = int(parameters.get("validation_resize_size", resize))
    if resize < crop:
        raise JobError(
            f"training_parameters.validation_resize_size: must be at least the crop of {crop} "
            f"pixels, got {resize}. Give a smaller validation_crop_size too."
        )
    return ResizeCrop(resize, crop, default.mean, default.std)


def _azure_name(plan: Plan) -> str | None:
    """Return the job's model as one of Azure's twelve short names; hub ids are aliases too."""
    name = (plan.job.model_name or "").strip().lower()
    return name if name in ALIASES and "/" not in name else None
