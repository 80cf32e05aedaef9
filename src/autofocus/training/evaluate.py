"""Evaluation: run a network over images, and let the task turn outputs into metrics."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from autofocus.data.batches.loader import Loader
from autofocus.models.network import Network, to_numpy
from autofocus.structures.frames import Frame, Region
from autofocus.tasks.base import Settings, Targets, Task
from autofocus.training.losses import Objective
from autofocus.training.step import DivergedError

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EvaluationSet:
    """Images and targets to evaluate on.

    Attributes:
        loader: Loader of unaugmented, unshuffled images.
        targets: The task's targets, in the loader's order.
        labels: k class names.
        settings: Thresholds and limits of the model.
        entries: (position of the image, region) of each of the loader's tiles, whose predictions
            are merged by image; empty where images are not tiled.
    """

    loader: Loader
    targets: Targets
    labels: Sequence[str]
    settings: Settings = field(default_factory=dict)
    entries: Sequence[tuple[int, Region]] = ()


@dataclass(frozen=True)
class Evaluation:
    """Result of a network on an evaluation set.

    Attributes:
        predictions: One prediction an image, in the set's order.
        metrics: Every metric of the task.
    """

    predictions: list[Any]
    metrics: dict[str, Any]


def evaluate(
    network: Network, task: Task[Any, Any], data: EvaluationSet, device: torch.device
) -> Evaluation:
    """Return predictions and metrics of `network`, which is left in eval mode.

    Raises:
        DivergedError: If an output is not a number.
    """
    settings = task.evaluation_settings(data.settings)
    predictions: list[Any] = []
    for outputs, frames in run_network(network, data.loader, device):
        # Batch by batch: a detector's outputs are a thousand times larger than its predictions.
        predictions += task.postprocess(outputs, frames, settings)
    if data.entries:
        predictions = task.merge_images(predictions, data.entries, settings)
    metrics = task.evaluate(predictions, data.targets, data.labels, data.settings)
    return Evaluation(predictions, metrics)


def run_network(
    network: Network, loader: Loader, device: torch.device
) -> Iterator[tuple[Outputs, list[Frame]]]:
    """Yield the outputs by name and the frames of each batch.

    Raises:
        DivergedError: If an output is not a number.
    """
    network.eval()
    for batch in loader.epoch(0):
        with torch.inference_mode():
            outputs = network(torch.from_numpy(batch.images).to(device))
        tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
        arrays = [to_numpy(tensor) for tensor in tensors]
        if not all(np.isfinite(array).all() for array in arrays):
            raise DivergedError(
                "the network's outputs are not numbers. Try a smaller learning_rate."
            )
        yield dict(zip(network.output_names, arrays, strict=True)), batch.frames


def mean_loss(
    network: Network, objective: Objective, loader: Loader, accelerator: Accelerator, seed: int
) -> float | None:
    """Return the training loss of images that do not train, or None if it is not finite.

    The mean over images, without dropout and with the running statistics of norms. Its random
    numbers are the same at each call; weights, buffers of norms and random state stay as they
    are. `network` is left in eval mode.

    Args:
        network: Network; not wrapped for several processes.
        objective: The loss.
        loader: Loader of unaugmented images, with targets.
        accelerator: Device and processes.
        seed: Seed of everything random.
    """
    device, total, num_images = accelerator.device, 0.0, 0
    _to_loss_mode(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        for batch in loader.epoch(0):
            images = torch.from_numpy(batch.images).to(device)
            with accelerator.autocast():
                targets = objective.collate(batch.targets, device)
                loss = objective.loss(network, images, targets)
            total += float(loss) * len(images)
            num_images += len(images)
    network.eval()
    return total / num_images if math.isfinite(total) else None


def _to_loss_mode(network: Network) -> None:
    """Let a network compute its losses, with dropout and norms as in evaluation."""
    network.train()
    for module in network.modules():
        # Whole heads, which have children, choose by their mode between losses and predictions.
        if isinstance(module, _NormBase) or next(module.children(), None) is None:
            module.eval()
