"""Means of weights, beside what they are by hand."""

import pytest
import torch
from torch import nn

from autofocus.training.averaging import Mixture, WeightAverage, interpolate


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
