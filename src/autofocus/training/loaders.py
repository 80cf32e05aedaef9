"""The two loaders of a trial: varied batches to learn from, plain ones to judge by."""

from typing import Any

from accelerate import Accelerator

from autofocus.data.cache import free_budget
from autofocus.data.loader import Loader
from autofocus.tasks.base import Targets
from autofocus.training.candidate import Samples
from autofocus.training.losses import Objective
from autofocus.training.recipe import Recipe


def training_loader(
    samples: Samples[Any],
    targets: Targets,
    objective: Objective,
    spec: Any,
    recipe: Recipe,
    seed: int,
    accelerator: Accelerator,
) -> Loader:
    """Return a loader of augmented, shuffled batches, this process's share of each.

    Args:
        samples: Images.
        targets: One an image.
        objective: Draws the views.
        spec: Size and normalisation of the network's input.
        recipe: Names the augmentation and the batch size.
        seed: Decides order and views.
        accelerator: Knows the other processes.
    """
    return Loader(
        samples.locations,
        objective.views(spec, targets, recipe.augmentation),
        batch_size=min(recipe.batch_size, len(samples)),
        seed=seed,
        cache=free_budget(),
        shuffle=True,
        # A last batch of a few images would weigh as much as a full one.
        drop_last=True,
        rank=accelerator.process_index,
        num_ranks=accelerator.num_processes,
    )


def evaluation_loader(
    samples: Samples[Any], targets: Targets, objective: Objective, spec: Any, batch_size: int
) -> Loader:
    """Return a loader of what the packaged model would see."""
    views = objective.views(spec, targets, None)
    return Loader(samples.locations, views, batch_size=batch_size, cache=free_budget())
