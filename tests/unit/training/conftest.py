"""A tiny network, 24 photos of three colours, and a run that takes a second."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autofocus.data.batches.augment.presets import PRESETS
from autofocus.data.batches.loader import Loader
from autofocus.data.batches.views import ClassificationViews
from autofocus.manifest import ResizeCrop
from autofocus.models import catalog
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.training.device import make_accelerator
from autofocus.training.evaluate import EvaluationSet
from autofocus.training.loop import TrainingLoop
from autofocus.training.losses import OBJECTIVES
from autofocus.training.recipe import Recipe

SIDE = 32
SPEC = ResizeCrop(36, SIDE)
RECIPE = Recipe(num_epochs=3, batch_size=4, early_stopping=False, ema_decay=0.9)


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """Every file of this folder asks for it."""


def tiny_network(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return build_classifier(catalog.resolve("test_resnet"), 3, None, SIDE)


@pytest.fixture
def network() -> Classifier:
    return tiny_network()


@pytest.fixture(scope="session")
def photos(photo_folder: Path) -> list[Path]:
    return sorted(photo_folder.rglob("*.png"))


@pytest.fixture
def make_fit(photos: list[Path], tmp_path: Path) -> Iterator[Callable[..., TrainingLoop]]:
    """Return a function that makes a run of 18 photos to learn from and 6 to judge by."""
    loaders: list[Loader] = []
    names = sorted({photo.parent.name for photo in photos})
    classes = np.array([names.index(photo.parent.name) for photo in photos])
    held_out = np.arange(len(photos)) % 4 == 0

    def loader(chosen: np.ndarray, recipe: Recipe, augmentation: str, **options: Any) -> Loader:
        locations = [str(photos[i]) for i in np.flatnonzero(chosen)]
        views = ClassificationViews(SPEC, classes[chosen], PRESETS[augmentation])
        loaders.append(Loader(locations, views, batch_size=recipe.batch_size, **options))
        return loaders[-1]

    def make(folder: str = "trial", recipe: Recipe = RECIPE, **changes: Any) -> TrainingLoop:
        training = loader(~held_out, recipe, "light", seed=7, shuffle=True, drop_last=True)
        judged = EvaluationSet(loader(held_out, recipe, "none"), classes[held_out], names)
        task = MulticlassClassification()
        run = TrainingLoop(
            network=tiny_network().to(memory_format=torch.channels_last),
            task=task,
            objective=OBJECTIVES[task.name](recipe, classes[~held_out], tiny_network()),
            recipe=recipe,
            training=training,
            validation=judged,
            score=lambda metrics: -float(metrics["log_loss"]),
            folder=tmp_path / folder,
            seed=7,
            accelerator=make_accelerator(torch.device("cpu")),
        )
        return dataclasses.replace(run, **changes)

    yield make
    for each in loaders:
        each.close()
