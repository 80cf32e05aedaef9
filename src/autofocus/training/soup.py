"""Greedy soup: the mean of several trainings of one network, at the price of one.

Wortsman et al. 2022 (arXiv 2203.05482), recipe 1: the best first; each other one is added, in the
order of its own score, if the mean with it is judged at least as good as without.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Soup:
    """What came of it.

    Attributes:
        state: Mean of the chosen ingredients.
        chosen: Their positions, in the order in which they were added.
        score: Of the mean.
        tried: Position of each ingredient that was tried and the score of the mean with it.
    """

    state: dict[str, Tensor]
    chosen: list[int]
    score: float
    tried: list[tuple[int, float]]


def greedy_soup(
    ingredients: Sequence[StateDict],
    score: Callable[[StateDict], float],
    is_late: Callable[[], bool] = lambda: False,
) -> Soup:
    """Return the mean of those ingredients that make it better.

    Args:
        ingredients: Weights and buffers of one architecture, best first; at least one.
        score: Judges weights; larger is better.
        is_late: Asked before each is judged; True leaves out the rest.
    """
    chosen, state = [0], dict(ingredients[0])
    best = score(state)
    tried = [(0, best)]
    for position in range(1, len(ingredients)):
        if is_late():
            break
        mixed = mean_state([ingredients[i] for i in [*chosen, position]])
        value = score(mixed)
        tried.append((position, value))
        if value >= best:
            chosen, state, best = [*chosen, position], mixed, value
    return Soup(state, chosen, best, tried)


def mean_state(states: Sequence[StateDict]) -> dict[str, Tensor]:
    """Return the mean of each tensor; whole numbers, such as counters, are the first one's."""
    first = states[0]
    return {
        name: (
            torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
            if tensor.is_floating_point()
            else tensor.clone()
        )
        for name, tensor in first.items()
    }
