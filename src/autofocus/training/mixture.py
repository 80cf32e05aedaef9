"""The mean of what training made and what it started from.

WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): between a fitted head on frozen features and the
network that was fine-tuned from it often lies a network that is better than both.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Mixture:
    """Remembers the weights that training starts from.

    Args:
        start: The network before the first step.
        share: Of its weights in a mixture, in (0, 1).
    """

    def __init__(self, start: nn.Module, share: float) -> None:
        self.share = share
        self._start = {name: value.clone() for name, value in start.state_dict().items()}
        self._network = copy.deepcopy(start).eval().requires_grad_(False)

    def of(self, network: nn.Module) -> nn.Module:
        """Return the mixture with a network, in eval mode; the next call changes it."""
        self._network.load_state_dict(mixed(self._start, network.state_dict(), self.share))
        return self._network


def mixed(
    start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return `share` of one state and the rest of the other; whole numbers are the latter's."""
    return {
        name: torch.lerp(value, start[name].to(value), share)
        if value.is_floating_point()
        else value
        for name, value in trained.items()
    }
