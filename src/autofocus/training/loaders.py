"""The two loaders of a trial: varied batches to learn from, plain ones to judge by."""

from typing import Any

from accelerate import Accelerator

from autofocus.data.cache import CacheBudget, free_budget
from autofocus.data.loader import Loader
from autofocus.tasks.base import Targets
from autofocus.training.candidate import Samples
from autofocus.training.losses import Objective
from autofocus.training.recipe import Recipe


def shared_budgets(
    num_training: int, num_validation: int, num_processes: int
) -> tuple[CacheBudget, CacheBudget]:
    """Return what the caches of training and validation images may take together.

    Each gets its share of the images; training, whose views cost more and which every epoch
    needs, at least a half.

    Args:
        num_training: Images to learn from.
        num_validation: Images to judge by.
        num_processes: That train on this machine; each keeps its own.
    """
    total_bytes = free_budget().ram_bytes // num_processes
    share = max(0.5, num_training / max(1, num_training + num_validation))
    training_bytes = int(share * total_bytes)
    return CacheBudget(training_bytes), CacheBudget(total_bytes - training_bytes)


def training_loader(
    samples: Samples[Any],
    targets: Targets,
    objective: Objective,
    spec: Any,
    recipe: Recipe,
    seed: int,
    accelerator: Accelerator,
    cache: CacheBudget,
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
        cache: What may be taken to keep images between epochs.
    """
    return Loader(
        samples.locations,
        objective.views(spec, targets, recipe.augmentation),
        batch_size=min(recipe.batch_size, len(samples)),
        seed=seed,
        cache=cache,
        shuffle=True,
        # A last batch of a few images would weigh as much as a full one.
        drop_last=True,
        rank=accelerator.process_index,
        num_ranks=accelerator.num_processes,
    )


def evaluation_loader(
    samples: Samples[Any],
    targets: Targets,
    objective: Objective,
    spec: Any,
    batch_size: int,
    cache: CacheBudget,
) -> Loader:
    """Return a loader of what the packaged model would see."""
    views = objective.views(spec, targets, None)
    return Loader(samples.locations, views, batch_size=batch_size, cache=cache)
