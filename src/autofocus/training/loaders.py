"""The two loaders of a trial: augmented training batches, plain validation batches."""

from collections.abc import Sequence
from typing import Any, cast

from autofocus.data.batches.box_views import BoxViews
from autofocus.data.batches.cache.budget import CacheBudget, free_budget
from autofocus.data.batches.loader import Loader
from autofocus.data.batches.tile_views import TileViews
from autofocus.data.batches.tiles import tile_targets
from autofocus.data.batches.views import Views
from autofocus.manifest import Tiling
from autofocus.structures.frames import Region
from autofocus.structures.targets import BoxTarget
from autofocus.training.candidate import Samples
from autofocus.training.losses import Objective
from autofocus.training.recipe import Recipe


def shared_budgets(
    num_training: int, num_validation: int, num_processes: int
) -> tuple[CacheBudget, CacheBudget]:
    """Return the budgets of the caches of training and of validation images.

    Memory is divided by the number of images; training, whose views cost more and which every
    epoch needs, gets at least a half.

    Args:
        num_training: Training images.
        num_validation: Validation images.
        num_processes: Training processes on this machine, each with its own caches.
    """
    total_bytes = free_budget().ram_bytes // num_processes
    share = max(0.5, num_training / max(1, num_training + num_validation))
    training_bytes = int(share * total_bytes)
    return CacheBudget(training_bytes), CacheBudget(total_bytes - training_bytes)


def training_loader(
    samples: Samples,
    objective: Objective,
    spec: Any,
    recipe: Recipe,
    seed: int,
    cache: CacheBudget,
    tiling: Tiling | None = None,
    *,
    rank: int = 0,
    num_ranks: int = 1,
) -> Loader:
    """Return a loader of one process's share of augmented, shuffled batches.

    Args:
        samples: Images.
        objective: Objective that draws the views.
        spec: Size and normalisation of the network's input.
        recipe: Recipe with augmentation, batch size and threads.
        seed: Seed of order and views.
        cache: Memory for images between epochs.
        tiling: Tiles to train on beside whole images; None for no tiles.
        rank: Number of this training process.
        num_ranks: Number of training processes.
    """
    num_views = len(samples)
    views: Views
    if tiling is None:
        views = objective.views(spec, samples.targets, recipe.augmentation)
    else:
        made = tile_targets(cast(Sequence[BoxTarget], samples.targets), tiling)
        parts = objective.views(spec, [target for *_, target in made], recipe.augmentation)
        views = _tiled(parts, [(index, region) for index, region, _ in made])
        num_views = len(made)
    return Loader(
        samples.locations,
        views,
        num_views=num_views,
        batch_size=min(recipe.batch_size, num_views),
        seed=seed,
        num_threads=_num_threads(recipe),
        cache=cache,
        shuffle=True,
        # A last batch of a few images would weigh as much as a full one.
        drop_last=True,
        rank=rank,
        num_ranks=num_ranks,
    )


def evaluation_loader(
    samples: Samples,
    objective: Objective,
    spec: Any,
    recipe: Recipe,
    cache: CacheBudget,
    entries: Sequence[tuple[int, Region]] = (),
) -> Loader:
    """Return a loader of images as the packaged model takes them.

    Args:
        samples: Images.
        objective: Objective that draws the views.
        spec: Size and normalisation of the network's input.
        recipe: Recipe with batch size and threads.
        cache: Memory for images between epochs.
        entries: (position of the image, region) of each tile; empty where images are not tiled.
    """
    if entries:
        parts = objective.views(spec, [samples.targets[index] for index, _ in entries], None)
        views: Views = _tiled(parts, entries)
    else:
        views = objective.views(spec, samples.targets, None)
    return Loader(
        samples.locations,
        views,
        num_views=len(entries) or None,
        batch_size=recipe.validation_batch_size or recipe.batch_size,
        num_threads=_num_threads(recipe),
        cache=cache,
    )


def _num_threads(recipe: Recipe) -> int | None:
    return None if recipe.num_workers is None else max(1, recipe.num_workers)


def _tiled(parts: Views, entries: Sequence[tuple[int, Region]]) -> TileViews:
    assert isinstance(parts, BoxViews), "tiles are of images with objects"
    return TileViews(parts, entries)
