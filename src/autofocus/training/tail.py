"""Tail training: the last layers of a classifier learn from cached activations.

The first layers stay as they were pretrained, and their activations are read from disk, one view of
each image an epoch. Norms keep their pretrained statistics. The averaged weights are the result;
their mean with the weights that training began with (`mixed_tail`) is often better than
either (WiSE-FT).

A fit is the same whatever runs beside it, and takes one thread, so that the fits of several folds
share the cores: `fit_all`.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofocus.models.network import Classifier
from autofocus.runtime import num_cores
from autofocus.tasks.base import Targets
from autofocus.training.activations import Activations
from autofocus.training.averaging import WeightAverage, interpolate
from autofocus.training.losses import OBJECTIVES
from autofocus.training.optim import build_optimizer, rate_factor, set_rates
from autofocus.training.recipe import Recipe
from autofocus.training.step import DivergedError

T = TypeVar("T")
TailState = dict[str, Tensor]

CPU = torch.device("cpu")
# Images whose logits are computed at once.
_EVALUATION_BATCH_SIZE = 64
# Steps that are measured, after those in which memory and kernels are set up.
_NUM_WARM_UP, _NUM_MEASURED = 3, 5


def tail_recipe(num_epochs: int = 8) -> Recipe:
    """Return the recipe of tail training.

    Labels are not smoothed: mixing with the initial weights does more for the probabilities. Of 134
    photos in five folds smoothing by 0.1 made the log loss, at its best temperature, 0.060 instead
    of 0.033, and half-way 0.037 instead of 0.017.

    Args:
        num_epochs: Views of each image that training sees.
    """
    return Recipe(
        num_epochs=num_epochs,
        batch_size=32,
        learning_rate=5e-4,
        layer_decay=1.0,
        warmup_epochs=1.0,
        max_warmup_frac=0.1,
        ema_decay=0.99,
    )


def num_steps(recipe: Recipe, num_images: int) -> int:
    """Return the steps of a fit to so many images."""
    return recipe.num_epochs * _steps_an_epoch(recipe, num_images)


def fit_tail(
    tail: Classifier,
    activations: Activations,
    targets: Targets,
    train: NDArray[np.int64],
    *,
    task: str,
    recipe: Recipe,
    seed: int,
    device: torch.device = CPU,
    max_steps: int | None = None,
    deadline_s: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[], object] = lambda: None,
) -> TailState | None:
    """Return the averaged weights of a tail after its training.

    Args:
        tail: Tail with the head to start from; stays as it is.
        activations: Of n images.
        targets: The task's targets of these, [n] or [n, k].
        train: Positions of the images to learn from, [m].
        task: Name of the task; its objective is the loss.
        recipe: Result of `tail_recipe`.
        seed: Seed of the order of images and views.
        device: Device to train on.
        max_steps: Steps after which the schedule ends; None for those of the recipe.
        deadline_s: Time (`time.monotonic()`) by which to end; None for no limit.
        should_stop: Whether the user has asked to stop; called at each step.
        on_step: Called after each step, in the thread of the fit.

    Returns:
        Its state dict, on the CPU; None if time ran out or the user stopped.

    Raises:
        DivergedError: If the loss is not a number.
    """
    # In eval mode norms keep their statistics and nothing is dropped: no hidden chance.
    network: Any = copy.deepcopy(tail).eval().requires_grad_(True)
    network.to(device, memory_format=torch.channels_last)
    known = np.asarray(targets)
    objective = OBJECTIVES[task](recipe, known[train], network)
    optimizer = build_optimizer(network, recipe)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = WeightAverage(network, recipe.ema_decay or 0.0)
    steps_an_epoch = _steps_an_epoch(recipe, len(train))
    limit = max_steps or num_steps(recipe, len(train))
    for step, (index, views) in enumerate(_batches(activations, train, recipe, seed, limit)):
        if should_stop() or (deadline_s is not None and time.monotonic() > deadline_s):
            return None
        set_rates(optimizer, rates, rate_factor(recipe, step, limit, steps_an_epoch))
        inputs = _inputs(activations, index, views, device)
        given = objective.collate(list(known[index]), device)
        optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(network, inputs, given)
        if not float(loss.detach()) <= recipe.max_loss:
            raise DivergedError(f"the loss of the tail is {float(loss.detach()):.3g}: it exploded.")
        torch.autograd.backward(loss)
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        average.update(network, step)
        on_step()
    return {name: value.cpu() for name, value in average.network.state_dict().items()}


def tail_logits(
    tail: Classifier,
    activations: Activations,
    positions: NDArray[np.int64],
    device: torch.device = CPU,
) -> NDArray[np.float64]:
    """Return the logits of images as they are scored, [m, k].

    Args:
        tail: Tail on `device`; left in eval mode.
        activations: Of n images.
        positions: Positions of m of them.
        device: Its device.
    """
    tail.eval()
    logits = []
    for start in range(0, len(positions), _EVALUATION_BATCH_SIZE):
        index = positions[start : start + _EVALUATION_BATCH_SIZE]
        with torch.inference_mode():
            output = tail(_inputs(activations, index, np.zeros_like(index), device))
        logits.append(output.double().cpu().numpy())
    return np.concatenate(logits) if logits else np.zeros((0, tail.num_classes))


def mixed_tail(tail: Classifier, trained: TailState, share: float) -> Classifier:
    """Return a copy of a tail whose weights went this share of the way to the trained ones.

    Args:
        tail: Tail with the weights that training began with; stays as it is.
        trained: Result of `fit_tail`.
        share: 1 for the trained weights themselves.
    """
    mixed = copy.deepcopy(tail)
    mixed.load_state_dict(interpolate(tail.state_dict(), trained, 1 - share))
    return mixed


def fit_all(jobs: Sequence[Callable[[], T]], device: torch.device = CPU) -> list[T]:
    """Return the result of each job, in order; on a CPU as many at a time as there are cores.

    Each job has a thread of its own, and torch takes no others for it: two fits side by side take
    two thirds of the time of one after the other on two threads each.

    Args:
        jobs: Functions such as `partial(fit_tail, …)`; each leaves the others' networks alone.
        device: Device of the jobs; another than the CPU computes one after the other.
    """
    if device.type != "cpu":
        return [job() for job in jobs]
    num_threads = torch.get_num_threads()
    set_one = partial(torch.set_num_threads, 1)
    try:
        with ThreadPoolExecutor(num_cores(), "autofocus-fit", initializer=set_one) as pool:
            return list(pool.map(lambda job: job(), jobs))
    finally:
        # torch keeps the number by thread, but new threads take the latest that any was given.
        torch.set_num_threads(num_threads)


def step_s(
    tail: Classifier,
    activations: Activations,
    targets: Targets,
    *,
    task: str,
    recipe: Recipe,
    device: torch.device = CPU,
) -> float:
    """Return the seconds of a step here, with as many fits side by side as there are cores.

    Real steps of the recipe's batch are measured, after a warm-up.
    """
    everything = np.arange(len(activations))

    def measure() -> float:
        marks: list[float] = []
        fit_tail(
            tail,
            activations,
            targets,
            everything,
            task=task,
            recipe=recipe,
            seed=0,
            device=device,
            max_steps=_NUM_WARM_UP + _NUM_MEASURED + 1,
            on_step=lambda: marks.append(time.monotonic()),
        )
        return float(np.median(np.diff(marks[_NUM_WARM_UP:])))

    num_beside = num_cores() if device.type == "cpu" else 1
    return max(fit_all([measure] * num_beside, device))


def _steps_an_epoch(recipe: Recipe, num_images: int) -> int:
    return max(1, math.ceil(num_images / recipe.batch_size))


def _batches(
    activations: Activations, train: NDArray[np.int64], recipe: Recipe, seed: int, limit: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield positions and views of each step, [b] each; every image once an epoch.

    An image shows its views in an order of its own, each once before any comes again.
    """
    rng = np.random.default_rng(seed)
    num_views = activations.num_views
    num_given = 0
    for epoch in range(limit):
        if epoch % num_views == 0:
            order = rng.permuted(np.tile(np.arange(num_views), (len(train), 1)), axis=1)
        shuffled = rng.permutation(len(train))
        # Parts of equal size: a last one of a few images would weigh them too much.
        for part in np.array_split(shuffled, _steps_an_epoch(recipe, len(train))):
            if num_given == limit:
                return
            num_given += 1
            yield train[part], order[part, epoch % num_views]


def _inputs(
    activations: Activations,
    index: NDArray[np.int64],
    views: NDArray[np.int64],
    device: torch.device,
) -> Tensor:
    """Return activations of images in one view each, float32 [b, c, h, w], on `device`."""
    rows: Any = activations.at_cut[index, views]
    inputs = torch.from_numpy(np.asarray(rows)).to(device)
    layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
    return inputs.float().contiguous(memory_format=layout)
