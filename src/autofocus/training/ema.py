"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class WeightAverage:
    """Keeps an averaged copy; early steps count more, so that short runs average too.

    The decay at step t is min(decay, (1 + t) / (10 + t)) (Tarvainen & Valpola 2017, ramped as in
    TensorFlow's ExponentialMovingAverage).

    Args:
        network: What is averaged.
        decay: After the ramp.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards `network` after optimiser step `step`."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        averages = self.network.state_dict()
        for name, value in network.state_dict().items():
            average = averages[name]
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)
