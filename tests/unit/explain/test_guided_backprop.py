from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autofocus.errors import InputError
from autofocus.explain.algorithms import attribution_method
from autofocus.explain.frozen import freeze
from autofocus.explain.guided_backprop import guided
from autofocus.explain.parameters import Parameters
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")


class _OwnRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x > 0)


class _Hidden(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _OwnRelu.apply(x)


def _guided_gradient(network: nn.Module, x: Tensor) -> Tensor:
    outputs = network(x).sum()
    with guided(network, outputs):
        return torch.autograd.grad(outputs, x)[0]


def test_without_anything_to_guide_the_plain_gradient_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    with pytest.raises(InputError, match="no activation that guided backprop can guide"):
        _guided_gradient(network, torch.ones(1, 4, requires_grad=True))


def test_an_operation_with_a_gradient_of_its_own_is_refused() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(4, 4), _Hidden())
    with pytest.raises(InputError, match="cannot see into _OwnReluBackward"):
        _guided_gradient(network, torch.ones(1, 4, requires_grad=True))


def test_an_activation_made_of_products_is_refused() -> None:
    from timm.layers.activations import QuickGELU

    network = nn.Sequential(nn.ReLU(), nn.Linear(4, 4), QuickGELU())
    with pytest.raises(InputError, match="cannot see into QuickGELU"):
        _guided_gradient(network, torch.ones(1, 4, requires_grad=True))


def test_the_rule_ends_with_its_context() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(2, 1, bias=False))
    nn.init.constant_(network[1].weight, -1.0)
    x = torch.ones(1, 2, requires_grad=True)
    outputs = network(x).sum()
    with guided(network, outputs) as units:
        (inside,) = torch.autograd.grad(outputs, x, retain_graph=True)
    (outside,) = torch.autograd.grad(outputs, x)
    assert units.textbook == {"ReLU": 1}
    assert units.extension == {}
    assert inside.tolist() == [[0.0, 0.0]]
    assert outside.tolist() == [[-1.0, -1.0]]


def test_metadata_counts_what_was_guided() -> None:
    torch.manual_seed(0)
    network = freeze(build_classifier(resolve("mobilenetv3_small_050"), 3, input_size=32))
    (found,) = attribution_method("guided_backprop").attribute(
        network, torch.randn(1, 3, 32, 32), [0], Parameters()
    )
    hooked = {"ReLU": 0, "Hardswish": 0, "Hardsigmoid": 0}
    for module in network.modules():
        if type(module).__name__ in hooked:
            hooked[type(module).__name__] += 1
    assert found.metadata["guided"] == hooked
    assert found.metadata["rule"] == "guided"
