"""The frozen probe: under what key its features are kept."""

import torch
from torch import nn

from autofocus.training.probe_trial import _digest


def encoder(stride: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=stride), nn.ReLU())


def test_features_of_random_weights_are_kept_by_layers_and_weights() -> None:
    digests = {_digest(encoder()), _digest(encoder(stride=2)), _digest(encoder(seed=1))}
    assert len(digests) == 3
    assert _digest(encoder()) == _digest(encoder())
