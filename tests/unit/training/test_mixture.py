"""A mixture lies between two networks, and leaves both alone."""

import torch
from torch import nn

from autofocus.training.mixture import Mixture, mixed


def test_by_hand() -> None:
    start = {"weight": torch.tensor([0.0, 2.0]), "num_batches": torch.tensor(3)}
    trained = {"weight": torch.tensor([4.0, 2.0]), "num_batches": torch.tensor(9)}
    found = mixed(start, trained, 0.25)
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
