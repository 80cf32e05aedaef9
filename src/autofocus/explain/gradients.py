"""Gradients of one class with respect to the input: in batches, and integrated along paths.

Notation: n images; b baselines an image; s steps of a path; p = n · b paths.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from autofocus.explain.base import Attribution, Output
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.parameters import Parameters
from autofocus.explain.quadrature import quadrature

# Pixels of one batch: 20 images of 224 × 224, where a CPU is fastest.
_PIXELS_PER_BATCH: Final = 20 * 224 * 224


def select(logits: Tensor, targets: Tensor, output: Output) -> Tensor:
    """Return the explained number of each row of logits [n, k], [n]."""
    scores = logits.softmax(dim=1) if output == "softmax" else logits
    return scores.gather(1, targets[:, None]).squeeze(1)


def batch_size(images: Tensor) -> int:
    """Return how many images of this size go through a network at once."""
    height, width = images.shape[2:]
    return max(1, _PIXELS_PER_BATCH // (height * width))


def values_of(network: nn.Module, images: Tensor, targets: Sequence[int], output: Output) -> Tensor:
    """Return the explained number of each image, [n]."""
    classes = torch.tensor(targets, device=images.device)
    with torch.inference_mode():
        return torch.cat(
            [
                select(network(chunk), wanted, output)
                for chunk, wanted in zip(
                    torch.split(images, batch_size(images)),
                    torch.split(classes, batch_size(images)),
                    strict=True,
                )
            ]
        )


def input_gradients(network: nn.Module, images: Tensor, targets: Tensor, output: Output) -> Tensor:
    """Return the gradient of each image's explained number, [n, 3, h, w], in one batch."""
    points = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradients,) = torch.autograd.grad(select(network(points), targets, output).sum(), points)
    return gradients


def integrated_gradients(
    network: nn.Module,
    images: Tensor,
    baselines: Tensor,
    targets: Sequence[int],
    output: Output,
    method: str,
    n_steps: int,
) -> Tensor:
    """Return (image - baseline) times the mean gradient between them, [n, b, 3, h, w].

    All steps of all paths form one sequence that is cut into full batches.

    Args:
        network: Frozen network.
        images: [n, 3, h, w].
        baselines: [n, b, 3, h, w], or constant ones as [n, b, 1, 1, 1].
        targets: Class index of each image.
        output: Differentiated number.
        method: Quadrature, a name of `quadrature.METHODS`.
        n_steps: Steps of a path, s.
    """
    differences = images[:, None] - baselines  # [n, b, 3, h, w]
    num_images, num_baselines = differences.shape[:2]
    paths = differences.flatten(0, 1)  # [p, 3, h, w]
    sums = torch.zeros_like(paths)
    classes = torch.tensor(targets, device=images.device)
    for batch in _batches(len(paths), n_steps, method, batch_size(images)):
        of_image = [p // num_baselines for p in batch.paths]
        points = torch.empty(
            (len(of_image), *images.shape[1:]),
            dtype=images.dtype,
            device=images.device,
            memory_format=torch.channels_last,
        )
        for point, i, p, position in zip(
            points, of_image, batch.paths, batch.positions, strict=True
        ):
            # From the image backwards, so that the last point is the image itself without rounding.
            torch.sub(images[i], paths[p], alpha=1 - position, out=point)
        gradients = input_gradients(network, points, classes[of_image], output)
        for p, weight, gradient in zip(batch.paths, batch.weights, gradients, strict=True):
            sums[p].add_(gradient, alpha=weight)
    return (sums * paths).reshape(num_images, num_baselines, *images.shape[1:])


@dataclass(frozen=True)
class _Batch:
    """Points on paths, with the path, the position in [0, 1] and the weight of each."""

    paths: list[int]
    positions: list[float]
    weights: list[float]


def _batches(num_paths: int, n_steps: int, method: str, size: int) -> Iterator[_Batch]:
    positions, weights = quadrature(method, n_steps)
    for begin in range(0, num_paths * n_steps, size):
        points = range(begin, min(begin + size, num_paths * n_steps))
        steps = [point % n_steps for point in points]
        yield _Batch(
            [point // n_steps for point in points],
            [positions[step] for step in steps],
            [weights[step] for step in steps],
        )


class BatchMethod(ABC):
    """An algorithm that explains images independently, in batches of `batch_size`."""

    def attribute(
        self,
        network: FrozenClassifier,
        images: Tensor,
        targets: Sequence[int],
        parameters: Parameters,
    ) -> list[Attribution]:
        """See `AttributionMethod.attribute`."""
        images = network.checked(images, targets)
        classes = torch.tensor(targets, device=images.device)
        size = batch_size(images)
        batches = zip(torch.split(images, size), torch.split(classes, size), strict=True)
        return [
            found for batch, some in batches for found in self.explain_batch(network, batch, some)
        ]

    @abstractmethod
    def explain_batch(
        self, network: FrozenClassifier, images: Tensor, targets: Tensor
    ) -> list[Attribution]:
        """Return the attributions of one batch of checked images and their classes, in order."""
