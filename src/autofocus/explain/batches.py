"""Explain many images in batches of the size where a CPU is fastest."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from autofocus.explain.base import Attribution
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import batch_size


def in_batches(
    network: FrozenClassifier,
    images: Tensor,
    targets: Sequence[int],
    explain: Callable[[FrozenClassifier, Tensor, Tensor], list[Attribution]],
) -> list[Attribution]:
    """Return what `explain` returns for the network, some images and their classes, all in order.

    Raises:
        InputError: If the images or classes do not fit the network.
    """
    images = network.checked(images, targets)
    classes = torch.tensor(targets, device=images.device)
    size = batch_size(images)
    batches = zip(torch.split(images, size), torch.split(classes, size), strict=True)
    return [found for batch, wanted in batches for found in explain(network, batch, wanted)]
