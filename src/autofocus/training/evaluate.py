"""Run a network over images and hand its outputs to the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.data.loader import Loader
from autofocus.tasks.base import Task
from autofocus.training.step import DivergedError


@dataclass(frozen=True)
class EvaluationSet:
    """What to evaluate on.

    Attributes:
        loader: Unaugmented and unshuffled.
        targets: The task's targets, rows as in the loader.
        labels: k class names.
        size: (height, width) of the network's input, in pixels.
    """

    loader: Loader
    targets: NDArray[Any]
    labels: Sequence[str]
    size: tuple[int, int]


@dataclass(frozen=True)
class Evaluation:
    """What a network did on an evaluation set.

    Attributes:
        outputs: By name, rows as in the set.
        metrics: Every metric of the task.
    """

    outputs: dict[str, NDArray[np.float32]]
    metrics: dict[str, Any]


def evaluate(
    network: nn.Module, task: Task[Any, Any], data: EvaluationSet, device: torch.device
) -> Evaluation:
    """Return outputs and metrics of `network`, which is left in eval mode.

    Raises:
        DivergedError: If an output is not a number.
    """
    network.eval()
    parts: list[Tensor] = []
    with torch.inference_mode():
        for batch in data.loader.epoch(0):
            images = torch.from_numpy(batch.images).to(device)
            parts.append(network(images).float().cpu())
    logits = torch.cat(parts).numpy()
    if not np.isfinite(logits).all():
        raise DivergedError("the network's outputs are not numbers. Try a smaller learning_rate.")
    return judged({"logits": logits}, task, data)


def judged(
    outputs: dict[str, NDArray[np.float32]], task: Task[Any, Any], data: EvaluationSet
) -> Evaluation:
    """Return what a network's outputs are worth.

    Args:
        outputs: By name, rows as in the set.
        task: Knows what they mean.
        data: The set.
    """
    predictions = task.postprocess(outputs, [data.size] * len(data.targets), {})
    return Evaluation(outputs, task.evaluate(predictions, data.targets, data.labels))
