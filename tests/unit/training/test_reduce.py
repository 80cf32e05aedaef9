"""Gradients of all processes are added up, in whatever types, sizes and orders of memory."""

import pytest
import torch
from torch import Tensor, nn

from autofocus.training import reduce
from autofocus.training.reduce import add_gradients


class Others:
    """Stands for a second process, whose tensors are given."""

    def __init__(self, *theirs: Tensor) -> None:
        self.theirs = list(theirs)
        self.sizes: list[int] = []

    def all_reduce(self, tensor: Tensor) -> None:
        self.sizes.append(tensor.numel())
        their = self.theirs.pop(0)
        assert their.dtype == tensor.dtype
        tensor += their


def parameter(shape: tuple[int, ...], gradient: float | None, dtype: torch.dtype) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(shape, dtype=dtype))
    made.grad = None if gradient is None else torch.full(shape, gradient, dtype=dtype)
    return made


def test_a_layer_without_images_here_gets_what_the_others_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = parameter((2,), 1.0, torch.float32)
    theirs = parameter((3,), None, torch.float32)
    mine = parameter((1, 2), 5.0, torch.float32)
    no_one = parameter((4,), None, torch.float32)
    half = parameter((2,), 1.0, torch.bfloat16)
    others = Others(
        torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0]),
        torch.tensor([10.0, 20.0, 7.0, 8.0, 9.0, 0.0, 0.0]),
        torch.tensor([2.0, 3.0], dtype=torch.bfloat16),
    )
    monkeypatch.setattr(reduce, "distributed", others)
    add_gradients([both, theirs, mine, no_one, half])
    assert both.grad is not None
    assert both.grad.tolist() == [11.0, 21.0]
    assert theirs.grad is not None
    assert theirs.grad.tolist() == [7.0, 8.0, 9.0]
    assert mine.grad is not None
    assert mine.grad.tolist() == [[5.0, 5.0]]
    # As on one process: an optimiser leaves alone what has no gradient.
    assert no_one.grad is None
    assert half.grad is not None
    assert half.grad.tolist() == [3.0, 4.0]
    assert others.theirs == []


def test_memory_order_stays_and_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce, "_BUCKET_BYTES", 4 * 30)
    weights = [nn.Parameter(torch.zeros(2, 3, 2, 2)) for _ in range(3)]
    for number, weight in enumerate(weights):
        values = torch.arange(24.0).reshape(2, 3, 2, 2) + 100 * number
        weight.grad = values.to(memory_format=torch.channels_last)
    others = Others(torch.ones(3), *[torch.arange(24.0)] * 3)
    monkeypatch.setattr(reduce, "distributed", others)
    add_gradients(weights)
    assert others.sizes == [3, 24, 24, 24]
    for number, weight in enumerate(weights):
        assert weight.grad is not None
        assert weight.grad.is_contiguous(memory_format=torch.channels_last)
        expected = 2 * torch.arange(24.0).reshape(2, 3, 2, 2) + 100 * number
        assert torch.equal(weight.grad, expected)
    add_gradients([])
