"""The two loaders of a trial share one budget for the images that they keep."""

from pathlib import Path

import numpy as np
import pytest

from autofocus.data.batches.cache.budget import MIB, CacheBudget
from autofocus.manifest import ResizeCrop
from autofocus.models.network import Network
from autofocus.training import loaders
from autofocus.training.candidate import Samples
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.losses import multiclass
from autofocus.training.losses.classification import ClassificationObjective
from autofocus.training.recipe import Recipe


@pytest.fixture(autouse=True)
def _free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "free_budget", lambda: CacheBudget(100 * MIB))


@pytest.mark.parametrize(
    ("num_training", "num_validation", "share"),
    [(90, 10, 0.9), (50, 50, 0.5), (10, 990, 0.5), (7, 0, 1.0)],
)
def test_training_gets_the_larger_part_of_one_budget(
    num_training: int, num_validation: int, share: float
) -> None:
    training, validation = shared_budgets(num_training, num_validation, 1)
    assert training.ram_bytes == pytest.approx(share * 100 * MIB, abs=2)
    assert training.ram_bytes + validation.ram_bytes <= 100 * MIB
    assert training.ram_bytes >= validation.ram_bytes


def test_processes_share_the_memory_of_their_machine() -> None:
    budgets = shared_budgets(9, 1, 4)
    assert sum(budget.ram_bytes for budget in budgets) <= 25 * MIB


def test_loaders_keep_no_more_than_they_were_given(photos: list[Path]) -> None:
    targets, names = np.zeros(len(photos), np.int64), [str(photo) for photo in photos]
    samples = Samples([None] * len(photos), names, targets, names, names, "photos")
    recipe, spec = Recipe(batch_size=4), ResizeCrop(36, 32)
    network = Network()
    network.num_classes = 2
    objective = ClassificationObjective(multiclass, recipe, targets, network)
    file_bytes = sum(photo.stat().st_size for photo in photos)
    # Enough for the files, not for their pixels (48 x 64 x 3 each).
    budget = CacheBudget(file_bytes + 1000)
    with (
        training_loader(samples, objective, spec, recipe, 0, budget) as one,
        evaluation_loader(samples, objective, spec, recipe, CacheBudget()) as other,
    ):
        assert (one.cache.storage.form, other.cache.storage.form) == ("bytes", "none")
        assert one.cache.storage.max_bytes == budget.ram_bytes
