"""Which recipe a job trains with: the default of its model, then what the job sets."""

from autofocus.models.catalog import ALIASES
from autofocus.sweep.resolve import Plan
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.recipe import Recipe, default_recipe, with_parameters


def recipe_for(plan: Plan, num_images: int) -> Recipe:
    """Return the recipe of `plan` for `num_images` training images."""
    assert isinstance(plan.task, ClassificationTask)
    name = plan.job.model_name
    # Hub ids are aliases too, but Azure's defaults belong to its twelve short names.
    is_azure = name in ALIASES and "/" not in str(name)
    recipe = default_recipe(name, num_images, plan.task.azure_learning_rates, is_azure)
    return with_parameters(recipe, plan.parameters)
