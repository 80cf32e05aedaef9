"""Cost of training and of evaluation, from a few real steps of a trial."""

import math
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.loader import Loader
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.training.candidate import Samples
from autofocus.training.evaluate import evaluate
from autofocus.training.loaders import training_loader
from autofocus.training.losses import OBJECTIVES, Objective
from autofocus.training.optim import build_optimizer, freeze_layers, norms_to_freeze
from autofocus.training.step import is_out_of_memory
from autofocus.training.trial import TrialSpec
from autofocus.training.trial_loop import evaluation_set

# The first step sets up kernels and memory; the quickest has the fewest neighbours.
_NUM_STEPS: Final = 3
_NUM_EVALUATED: Final = 2
# A job's own batch may be larger than memory: an image costs as much in a smaller one.
_MAX_IMAGES: Final = 8


@dataclass(frozen=True)
class StepCost:
    """Measured cost of an image.

    Attributes:
        train_s: Seconds that training takes a view, decoding and the optimiser included.
        evaluate_s: Seconds that evaluation takes a view: a whole image, or a tile.
        num_groups: Groups of the encoder's layers that can be frozen.
    """

    train_s: float
    evaluate_s: float
    num_groups: int


def measure_step(spec: TrialSpec, samples: Samples, limit_s: float = math.inf) -> StepCost:
    """Return what a trial costs: forward, backward and optimiser on its own batches.

    torch's generator and all else that training depends on is left as it was.

    Args:
        spec: The trial.
        samples: The run's images.
        limit_s: Seconds after which no further step is begun.
    """
    deadline_s = time.monotonic() + limit_s
    weights, device = spec.prepare()
    recipe = spec.recipe
    train, validation = spec.of(samples)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        network = family_of(weights.spec).build(
            weights.spec, len(spec.labels), weights, spec.preprocess.size, spec.network
        )
        objective = OBJECTIVES[spec.task.name](recipe, train.targets, network)
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        evaluate_s = _evaluation_s(network, spec, validation, objective, device)
        num_groups = freeze_layers(network, recipe.layers_to_freeze, recipe.frozen_frac)
        with training_loader(
            train, objective, spec.preprocess, recipe, spec.seed, CacheBudget(), spec.tiling
        ) as loader:
            train_s = _training_s(network, loader, objective, spec, deadline_s)
    return StepCost(train_s, evaluate_s, num_groups)


def _training_s(
    network: Network,
    loader: Loader,
    objective: Objective,
    spec: TrialSpec,
    deadline_s: float,
) -> float:
    """Return the seconds of a view, in a batch of the recipe's that fits into memory."""
    network.train()
    for norm in norms_to_freeze(network, spec.recipe):
        norm.eval()
    optimizer = build_optimizer(network, spec.recipe)
    num_views = min(loader.own_batch_size, _MAX_IMAGES)
    while True:
        try:
            index, times = np.arange(num_views), list[float]()
            while len(times) < _NUM_STEPS and (not times or time.monotonic() < deadline_s):
                times.append(_step_s(network, loader, objective, optimizer, spec, index))
            return min(times) / num_views
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if num_views == 1 or not is_out_of_memory(error):
                raise
            num_views //= 2


def _step_s(
    network: Network,
    loader: Loader,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    spec: TrialSpec,
    index: NDArray[np.int64],
) -> float:
    """Take a step, in this process alone, and return its seconds."""
    device, started_s = next(network.parameters()).device, time.monotonic()
    batch = loader.batch_of(index, spec.preprocess.size)
    made_s = time.monotonic() - started_s
    images = torch.from_numpy(batch.images).to(device)
    images, targets = objective.vary(images, objective.collate(batch.targets, device))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = objective.loss(network, images, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    # Waits for the device.
    loss.item()
    both_s = time.monotonic() - started_s
    # The threads of a CPU make batches instead of computing, those beside a GPU meanwhile.
    return both_s if device.type == "cpu" else max(made_s, both_s - made_s)


def _evaluation_s(
    network: Network,
    spec: TrialSpec,
    validation: Samples,
    objective: Objective,
    device: torch.device,
) -> float:
    chosen = validation.chosen(np.arange(min(_NUM_EVALUATED, len(validation))))
    with evaluation_set(spec, chosen, objective, CacheBudget()) as images:
        started_s = time.monotonic()
        evaluate(network, spec.task, images, device)
        return (time.monotonic() - started_s) / max(len(chosen), len(images.entries))
