"""One optimiser step: in pieces, out of memory, not a number, clipped."""

import copy
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autofocus.models.network import Classifier
from autofocus.training import step
from autofocus.training.device import make_accelerator
from autofocus.training.losses import multiclass, multilabel
from autofocus.training.optim import build_optimizer
from autofocus.training.recipe import Recipe
from autofocus.training.step import DivergedError, Stepper, add_gradients
from support.limited_memory import Hungry

RECIPE = Recipe(optimizer="sgd", learning_rate=0.1, clip_norm=None)
NUM_IMAGES = 12


def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    weights = torch.tensor([0.5, 1.0, 3.0])
    return multiclass.loss(model(images), targets, label_smoothing=0.1, class_weights=weights)


def make_stepper(network: nn.Module, recipe: Recipe = RECIPE) -> Stepper:
    accelerator = make_accelerator(torch.device("cpu"))
    optimizer = build_optimizer(network, recipe)
    return Stepper(*accelerator.prepare(network, optimizer), accelerator, recipe)


def a_step() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(NUM_IMAGES, 3, 32, 32), torch.randint(0, 3, (NUM_IMAGES,))


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("micro_batch", [1, 5, 8, 12, 100])
def test_pieces_have_the_gradients_of_the_whole(network: Classifier, micro_batch: int) -> None:
    other = copy.deepcopy(network)
    whole, pieces = make_stepper(network), make_stepper(other)
    pieces.micro_batch = micro_batch
    value, other_value = whole.step(*a_step(), loss), pieces.step(*a_step(), loss)
    assert value == pytest.approx(other_value, abs=1e-6)
    assert torch.allclose(gradients(network), gradients(other), rtol=1e-6, atol=1e-6)
    weights, other_weights = network.state_dict(), other.state_dict()
    assert all(torch.allclose(weights[k], other_weights[k], atol=1e-6) for k in weights)


def test_the_value_is_the_mean_loss_before_the_step(network: Classifier) -> None:
    images, targets = a_step()
    with torch.no_grad():
        expected = float(loss(network, images, targets))
    assert make_stepper(network).step(images, targets, loss) == pytest.approx(expected, abs=1e-6)


def test_accumulation_computes_a_batch_at_once() -> None:
    accelerator = make_accelerator(torch.device("cpu"))
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters())
    for accumulation, expected in ((1, 0), (4, 6)):
        recipe = replace(RECIPE, batch_size=6, accumulation=accumulation)
        assert Stepper(network, optimizer, accelerator, recipe).micro_batch == expected


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
def test_out_of_memory_halves_and_goes_on(
    network: Classifier, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    other = copy.deepcopy(network)
    make_stepper(network).step(*a_step(), loss)
    hungry = Hungry(other, 4, error)
    accelerator = make_accelerator(torch.device("cpu"))
    stepper = Stepper(hungry, build_optimizer(other, RECIPE), accelerator, RECIPE)
    with caplog.at_level(logging.WARNING):
        stepper.step(*a_step(), loss)
    assert hungry.seen == [12, 6, 3, 3, 3, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"out of memory: computing {size} images at once from now on" for size in (6, 3)
    ]
    assert torch.allclose(gradients(network), gradients(other), rtol=1e-6, atol=1e-6)
    # It remembers: the next step does not fail first.
    hungry.seen.clear()
    stepper.step(*a_step(), loss)
    assert hungry.seen == [3, 3, 3, 3]


def test_out_of_memory_half_way_counts_nothing_twice(network: Classifier) -> None:
    """The first pieces' gradients of a failed attempt must not stay."""
    other = copy.deepcopy(network)
    make_stepper(network).step(*a_step(), loss)

    class FailsOnce(Hungry):
        def forward(self, images: Tensor) -> Tensor:
            if len(self.seen) == 1:
                self.seen.append(-1)
                raise OUT_OF_MEMORY[0]
            return super().forward(images)

    hungry = FailsOnce(other, 100, OUT_OF_MEMORY[0])
    accelerator = make_accelerator(torch.device("cpu"))
    stepper = Stepper(hungry, build_optimizer(other, RECIPE), accelerator, RECIPE)
    stepper.micro_batch = 6
    stepper.step(*a_step(), loss)
    assert hungry.seen == [6, -1, 3, 3, 3, 3]
    assert torch.allclose(gradients(network), gradients(other), rtol=1e-6, atol=1e-6)


def test_one_image_that_does_not_fit_is_the_end(network: Classifier) -> None:
    hungry = Hungry(network, 0, OUT_OF_MEMORY[0])
    accelerator = make_accelerator(torch.device("cpu"))
    stepper = Stepper(hungry, build_optimizer(network, RECIPE), accelerator, RECIPE)
    with pytest.raises(torch.OutOfMemoryError):
        stepper.step(*a_step(), loss)
    assert hungry.seen == [12, 6, 3, 1]


def test_other_errors_are_not_hidden(network: Classifier) -> None:
    hungry = Hungry(network, 0, RuntimeError("shapes cannot be multiplied"))
    accelerator = make_accelerator(torch.device("cpu"))
    stepper = Stepper(hungry, build_optimizer(network, RECIPE), accelerator, RECIPE)
    with pytest.raises(RuntimeError, match="shapes"):
        stepper.step(*a_step(), loss)
    assert hungry.seen == [12]


@pytest.mark.parametrize("micro_batch", [0, 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 100.5])
def test_diverged_loss_takes_no_step(network: Classifier, value: float, micro_batch: int) -> None:
    start = copy.deepcopy(network.state_dict())
    stepper = make_stepper(network)
    stepper.micro_batch = micro_batch

    def exploding(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return model(images).mean() * 0 + value

    with pytest.raises(DivergedError, match=r"the loss is .*Try a smaller learning_rate"):
        stepper.step(*a_step(), exploding)
    now = network.state_dict()
    names = [name for name, _ in network.named_parameters()]
    assert all(torch.equal(now[name], start[name]) for name in names)


def test_a_high_loss_is_not_an_exploded_one(network: Classifier) -> None:
    stepper = make_stepper(network)
    value = stepper.step(*a_step(), lambda model, x, targets: model(x).mean() * 0 + 99.0)
    assert value == pytest.approx(99.0)


def test_a_recipe_may_begin_with_a_higher_loss(network: Classifier) -> None:
    stepper = make_stepper(network, replace(RECIPE, max_loss=500.0))
    value = stepper.step(*a_step(), lambda model, x, targets: model(x).mean() * 0 + 499.0)
    assert value == pytest.approx(499.0)
    for bad, said in ((501.0, "501, above 500"), (float("inf"), "inf"), (float("nan"), "nan: ")):
        with pytest.raises(DivergedError, match=said):
            stepper.step(*a_step(), lambda model, x, targets, bad=bad: model(x).mean() * 0 + bad)


def clipped(network: nn.Module, **clips: Any) -> tuple[Tensor, Tensor]:
    """Return gradients without and with clipping."""
    other = copy.deepcopy(network)
    make_stepper(network, replace(RECIPE, clip_norm=None)).step(*a_step(), loss)
    recipe = replace(RECIPE, **{"clip_norm": None, "clip_value": None, **clips})
    make_stepper(other, recipe).step(*a_step(), loss)
    return gradients(network), gradients(other)


def test_clip_by_value(network: Classifier) -> None:
    free, bound = clipped(network, clip_value=0.01)
    assert free.abs().max() > 0.01
    assert torch.allclose(bound, free.clamp(-0.01, 0.01), atol=1e-8)


def test_clip_by_norm(network: Classifier) -> None:
    free, bound = clipped(network, clip_norm=0.1)
    assert free.norm() > 0.1
    assert float(bound.norm()) == pytest.approx(0.1, rel=1e-3)
    assert torch.allclose(bound / bound.norm(), free / free.norm(), atol=1e-5)


def test_small_gradients_are_left_alone(network: Classifier) -> None:
    free, bound = clipped(network, clip_norm=1e6, clip_value=1e6)
    assert torch.equal(free, bound)


@pytest.mark.parametrize("module", [multiclass, multilabel])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_by_hand(module: Any, smoothing: float) -> None:
    """Class shares and class indices mean the same; smoothing moves targets, weights scale."""
    torch.manual_seed(0)
    k = 3
    logits = torch.randn(5, k, dtype=torch.float64)
    classes = torch.tensor([0, 1, 2, 2, 0])
    is_one = module is multiclass
    targets = classes if is_one else nn.functional.one_hot(classes, k)
    shares = module.as_shares(targets, k)
    assert torch.equal(shares, nn.functional.one_hot(classes, k).float())
    assert module.num_images_of_class(targets, k).tolist() == [2, 1, 2]
    rest = 1 / k if is_one else 0.5
    smooth = shares * (1 - smoothing) + rest * smoothing
    weights = torch.tensor([0.2, 1.0, 3.0])
    for class_weights in (None, weights):
        scale = torch.ones(k) if class_weights is None else class_weights
        if is_one:
            by_hand = -(smooth * scale * logits.log_softmax(1)).sum() / len(logits)
        else:
            p = logits.sigmoid()
            by_hand = -(scale * (smooth * p.log() + (1 - smooth) * (1 - p).log())).mean()
        for form in (targets, shares):
            value = module.loss(
                logits, form, label_smoothing=smoothing, class_weights=class_weights
            )
            assert float(value) == pytest.approx(float(by_hand), abs=1e-6)


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
    monkeypatch.setattr(step, "distributed", others)
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
    monkeypatch.setattr(step, "_BUCKET_BYTES", 4 * 30)
    weights = [nn.Parameter(torch.zeros(2, 3, 2, 2)) for _ in range(3)]
    for number, weight in enumerate(weights):
        values = torch.arange(24.0).reshape(2, 3, 2, 2) + 100 * number
        weight.grad = values.to(memory_format=torch.channels_last)
    others = Others(torch.ones(3), *[torch.arange(24.0)] * 3)
    monkeypatch.setattr(step, "distributed", others)
    add_gradients(weights)
    assert others.sizes == [3, 24, 24, 24]
    for number, weight in enumerate(weights):
        assert weight.grad is not None
        assert weight.grad.is_contiguous(memory_format=torch.channels_last)
        expected = 2 * torch.arange(24.0).reshape(2, 3, 2, 2) + 100 * number
        assert torch.equal(weight.grad, expected)
    add_gradients([])
