"""Greedy soups, on weights whose best mean is known."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autofocus.training.averaging import (
    Mixture,
    StateDict,
    WeightAverage,
    greedy_soup,
    interpolate,
    mean_state,
)


def point(*values: float) -> dict[str, Tensor]:
    return {"weight": torch.tensor(values), "num_batches": torch.tensor(3)}


def nearness(state: StateDict) -> float:
    """Best at the origin."""
    return -float(state["weight"].norm())


def test_what_lies_on_the_other_side_is_added_and_what_leads_away_is_not() -> None:
    soup = greedy_soup([point(1.0, 0.0), point(4.0, 4.0), point(-1.0, 0.1)], nearness)
    assert soup.chosen == [0, 2]
    assert soup.state["weight"].tolist() == pytest.approx([0.0, 0.05])
    assert soup.score == pytest.approx(-0.05)


def test_it_is_the_papers_recipe_on_random_points() -> None:
    """Against a few lines of numpy that follow recipe 1."""
    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(6, 3)) + 0.3
        points = points[np.argsort(np.linalg.norm(points, axis=1))]
        basket = [points[0]]
        for each in points[1:]:
            if np.linalg.norm(np.mean([*basket, each], 0)) <= np.linalg.norm(np.mean(basket, 0)):
                basket.append(each)
        soup = greedy_soup([{"weight": torch.tensor(each)} for each in points], nearness)
        np.testing.assert_allclose(soup.state["weight"].numpy(), np.mean(basket, 0), atol=1e-12)
        assert len(soup.chosen) == len(basket)


def test_it_is_never_worse_than_its_first_ingredient() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        points = sorted((point(*torch.randn(4).tolist()) for _ in range(5)), key=nearness)[::-1]
        assert greedy_soup(points, nearness).score >= nearness(points[0])


def test_out_of_time_the_rest_is_left_out() -> None:
    calls = itertools.count()
    points = [point(1.0), point(-1.0), point(0.0)]
    soup = greedy_soup(points, nearness, is_late=lambda: next(calls) >= 1)
    assert soup.chosen == [0, 1]


def test_counters_are_not_averaged_and_precision_stays() -> None:
    states = [{"weight": torch.ones(2).half() * 3, "n": torch.tensor(v)} for v in (5, 8)]
    mean = mean_state(states)
    assert mean["n"].item() == 5
    assert mean["weight"].dtype == torch.float16
    assert mean["weight"].tolist() == [3.0, 3.0]


def one_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_ramp_by_hand() -> None:
    network = one_weight(0.0)
    average = WeightAverage(network, decay=0.3)
    nn.init.constant_(network.weight, 1.0)
    value = 0.0
    for step in range(1, 6):
        average.update(network, step)
        # 2/11, 3/12, 4/13, then the decay that was asked for.
        decay = [2 / 11, 3 / 12, 0.3, 0.3, 0.3][step - 1]
        value = decay * value + (1 - decay) * 1.0
        assert float(average.network.weight) == pytest.approx(value, abs=1e-6)


def test_statistics_are_averaged_and_counters_copied() -> None:
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(norm, decay=0.0)
    norm.train()(torch.randn(8, 2) + 5)
    average.update(norm, 1)
    assert torch.equal(average.network.running_mean, norm.running_mean)
    assert int(average.network.num_batches_tracked) == 1


def test_average_neither_learns_nor_follows() -> None:
    network = one_weight(1.0).train()
    average = WeightAverage(network, decay=0.9)
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert network.weight.requires_grad
    nn.init.constant_(network.weight, 7.0)
    assert float(average.network.weight) == 1.0


def test_by_hand() -> None:
    start = {"weight": torch.tensor([0.0, 2.0]), "num_batches": torch.tensor(3)}
    trained = {"weight": torch.tensor([4.0, 2.0]), "num_batches": torch.tensor(9)}
    found = interpolate(start, trained, 0.25)
    assert found["weight"].tolist() == [3.0, 2.0]
    assert found["num_batches"] == 9


def test_it_remembers_the_start_while_the_network_learns() -> None:
    network = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    mixture = Mixture(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(3.0)
    between = mixture.of(network)
    assert not between.training
    assert between(torch.ones(1, 2)).item() == 4.0
    assert network(torch.ones(1, 2)).item() == 6.0
