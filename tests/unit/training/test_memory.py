"""The batch that fits is found before the first step, and nothing but that is changed."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autofocus.data.batches.cache.budget import MIB
from autofocus.data.batches.loader import Batch
from autofocus.models.network import Classifier, Network
from autofocus.structures.frames import Frame
from autofocus.training import memory
from autofocus.training.device import make_accelerator
from autofocus.training.loop import TrainingLoop
from autofocus.training.losses import multiclass
from autofocus.training.losses.classification import ClassificationObjective
from autofocus.training.memory import DryStep, fitting_batch, largest_batch, safe_batch
from autofocus.training.optim import build_optimizer
from autofocus.training.recipe import Recipe
from support.limited_memory import Hungry

RECIPE = Recipe(num_epochs=2, batch_size=8, early_stopping=False, ema_decay=None, mixup_alpha=0.3)
MakeFit = Callable[..., TrainingLoop]


def a_batch(num_images: int, side: int = 32) -> Batch:
    rng = np.random.default_rng(0)
    images = rng.random((num_images, side, side, 3), np.float32).transpose(0, 3, 1, 2)
    index = np.arange(num_images)
    return Batch(images, index, list(index % 3), [Frame((side, side))] * num_images)


def dry_step(network: nn.Module, recipe: Recipe = RECIPE) -> DryStep:
    classes = Network()
    classes.num_classes = 3
    objective = ClassificationObjective(multiclass, recipe, np.arange(3), classes)
    return DryStep(
        network.train(),
        torch.optim.AdamW(network.parameters()),
        objective,
        make_accelerator(torch.device("cpu")),
    )


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize(("most", "seen"), [(40, [12]), (5, [12, 6, 3]), (0, [12, 6, 3])])
def test_a_gpu_is_asked_for_half_as_many_until_they_fit(
    network: Classifier,
    error: type[RuntimeError],
    most: int,
    seen: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    hungry = Hungry(network, most, error("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with caplog.at_level(logging.WARNING):
        size = largest_batch(dry_step(hungry), a_batch, 12)
    # One image is the least there is: whether it fits, the first step says.
    assert size == {40: 12, 5: 3, 0: 1}[most]
    assert hungry.seen == seen
    said = [record.getMessage() for record in caplog.records]
    if most >= 12:
        assert said == []
    else:
        (line,) = said
        assert line == f"memory: 12 images of the worst batch do not fit: computing {size} at once"


def test_other_errors_are_not_hidden(network: Classifier) -> None:
    with pytest.raises(RuntimeError, match="Kernel size"):
        largest_batch(dry_step(network), lambda n: a_batch(n, side=0), 4)


class Layers(nn.Module):
    """Keeps exactly three activations of 1 MiB an image for backward, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(1, 3)

    def forward(self, images: Tensor) -> Tensor:
        wide = images[:, :1].repeat(1, 256, 1, 1) * self.scale  # keeps its input: 1 MiB
        wide = wide.sigmoid()  # keeps its output: 1 MiB
        wide = wide.exp()  # keeps its output: 1 MiB
        wide = wide * wide  # keeps the same twice
        logits: Tensor = self.head(wide.mean(dim=(1, 2, 3)).unsqueeze(1))
        return logits


@pytest.mark.parametrize("free_mib", [1, 20, 100, 1000])
def test_a_cpu_takes_as_many_as_the_count_of_activations_says(
    free_mib: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: free_mib * MIB)
    made: list[int] = []

    def worst(num_images: int) -> Batch:
        made.append(num_images)
        return a_batch(num_images)

    with caplog.at_level(logging.WARNING):
        size = safe_batch(dry_step(Layers()), worst, 64)
    assert made == [2], "more would take the memory that is asked about"
    # Three MiB an image, twice that for backward, of 60 % of the memory; a little for the rest.
    expected = min(64, max(1, int(0.6 * free_mib / (2 * 3.03))))
    assert size in (expected, expected - 1)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (size < 64)
    assert all(line.endswith(f"computing {size} at once") for line in said)


def test_weights_and_optimiser_take_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 100 * MIB)
    small, large = dry_step(Layers()), dry_step(Layers())
    weights = nn.Parameter(torch.zeros(15 * MIB // 4))
    large.optimizer.add_param_group({"params": [weights]})
    # 15 MiB of gradients and of two means leave 15 of 60.
    assert safe_batch(large, a_batch, 64) <= safe_batch(small, a_batch, 64) / 3


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_is_touched(
    make_fit: MakeFit, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on the way that a GPU goes, for which the CPU stands in here."""
    if device == "cuda":
        monkeypatch.setattr(memory, "safe_batch", largest_batch)
    run = make_fit(recipe=RECIPE)
    network = run.network.train()
    network.dropout = nn.Dropout(0.5)
    network.register_forward_pre_hook(lambda module, given: (module.dropout(given[0]),))
    optimizer = build_optimizer(network, RECIPE)
    start = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    step = DryStep(network, optimizer, run.objective, run.accelerator)
    assert fitting_batch(step, run.training, 8) == 8
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, start[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert optimizer.state_dict()["state"] == {}
    assert network.training


def test_the_loop_keeps_what_fits_and_resumes_with_it(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free memory is another one at each start; the sizes that losses were computed in stay."""
    sizes: list[int] = []

    def run(folder: str, fits: int, **changes: Any) -> list[int]:
        sizes.clear()
        monkeypatch.setattr(memory, "safe_batch", lambda step, worst, num_images: fits)
        given = make_fit(folder, RECIPE, **changes)
        given.network.register_forward_pre_hook(
            lambda module, images: sizes.append(len(images[0])) if module.training else None
        )
        given.run()
        return list(sizes)

    assert run("whole", 8) == [8, 8, 8, 8]
    stop = iter([False, True])
    assert run("stopped", 5, should_stop=lambda: next(stop)) == [5, 3, 5, 3]
    assert run("stopped", 2) == [5, 3, 5, 3]


def test_accumulation_is_measured_by_the_batch(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        memory, "safe_batch", lambda step, worst, num_images: asked.append(num_images) or num_images
    )
    make_fit("summed", replace(RECIPE, batch_size=4, accumulation=3)).run()
    assert asked == [4]
