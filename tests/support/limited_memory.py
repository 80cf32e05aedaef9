"""A network that runs out of memory, to test optimiser steps and the batch that fits."""

from torch import Tensor, nn


class Hungry(nn.Module):
    """Has memory for only so many images at once."""

    def __init__(self, network: nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.network = network
        self.most = most
        self.error = error
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise self.error
        logits: Tensor = self.network(images)
        return logits
