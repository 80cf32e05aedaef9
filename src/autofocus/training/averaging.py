"""Means of weights: of several trainings (soup), over steps (EMA), with the initial ones (WiSE-FT).

The greedy soup is recipe 1 of Wortsman et al. 2022 (arXiv 2203.05482): the best first; each other
one is added, in the order of its own score, if the mean with it is scored at least as good as
without. WiSE-FT is Wortsman et al. 2021 (arXiv 2109.01903).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Soup:
    """Result of `greedy_soup`.

    Attributes:
        state: Mean of the chosen ingredients.
        chosen: Positions of the ingredients, in the order in which they were added.
        score: Score of the mean.
    """

    state: dict[str, Tensor]
    chosen: list[int]
    score: float


def greedy_soup(
    ingredients: Sequence[StateDict],
    score: Callable[[StateDict], float],
    is_late: Callable[[], bool] = lambda: False,
) -> Soup:
    """Return the mean of the ingredients that improve it.

    Args:
        ingredients: Weights and buffers of one architecture, best first; at least one.
        score: Function from weights to their score; larger is better.
        is_late: Called before each evaluation; True leaves out the rest.
    """
    chosen, state = [0], dict(ingredients[0])
    best = score(state)
    for position in range(1, len(ingredients)):
        if is_late():
            break
        mixed = mean_state([ingredients[i] for i in [*chosen, position]])
        value = score(mixed)
        if value >= best:
            chosen, state, best = [*chosen, position], mixed, value
    return Soup(state, chosen, best)


def mean_state(states: Sequence[StateDict]) -> dict[str, Tensor]:
    """Return the mean of each tensor; integers, such as counters, are the first state's."""
    first = states[0]
    return {
        name: (
            torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
            if tensor.is_floating_point()
            else tensor.clone()
        )
        for name, tensor in first.items()
    }


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
