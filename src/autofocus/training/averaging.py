"""Means of weights: over steps (EMA), and with the initial ones (WiSE-FT).

WiSE-FT is Wortsman et al. 2021 (arXiv 2109.01903).
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of weights; ramped up, so that short runs average too.

    The decay at step t is min(decay, (1 + t) / (10 + t)) (Tarvainen & Valpola 2017, ramped as in
    TensorFlow's ExponentialMovingAverage).

    Args:
        network: Network whose weights are averaged.
        decay: Decay after the ramp.
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


class Mixture:
    """Mean of a network's weights with the initial ones (WiSE-FT).

    Args:
        initial: Network before the first step.
        share: Share of its weights in the mean, in (0, 1).
    """

    def __init__(self, initial: nn.Module, share: float) -> None:
        self.share = share
        self._initial = {name: value.clone() for name, value in initial.state_dict().items()}
        self._network = copy.deepcopy(initial).eval().requires_grad_(False)

    def of(self, network: nn.Module) -> nn.Module:
        """Return the mean with a network, in eval mode; the next call changes it."""
        self._network.load_state_dict(interpolate(self._initial, network.state_dict(), self.share))
        return self._network


def interpolate(
    initial: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return `share` of `initial` and the rest of `trained`; integers are those of `trained`."""
    return {
        name: torch.lerp(value, initial[name].to(value), share)
        if value.is_floating_point()
        else value
        for name, value in trained.items()
    }
