"""What a batch's targets become."""

from dataclasses import replace

import numpy as np
import pytest

from autofocus.models import catalog
from autofocus.models.timm.classifiers import build
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.training.losses import OBJECTIVES
from autofocus.training.recipe import Recipe

RECIPE = Recipe()


def weights_of(weighted_loss: int, targets: np.ndarray):
    network = build(catalog.resolve("test_resnet"), 3, None, 32)
    recipe = replace(RECIPE, weighted_loss=weighted_loss)
    objective = OBJECTIVES[MulticlassClassification.name](recipe, targets, network)
    return objective.class_weights


@pytest.mark.parametrize(
    ("weighted_loss", "ratio"), [(0, None), (1, 8.0**0.5), (2, 8.0)], ids=["none", "sqrt", "full"]
)
def test_class_weights(weighted_loss: int, ratio: float | None) -> None:
    targets = np.array([0] * 8 + [1] * 1 + [2] * 8 + [0])
    weights = weights_of(weighted_loss, targets)
    if ratio is None:
        assert weights is None
        return
    assert weights is not None
    assert float(weights[1] / weights[2]) == pytest.approx(ratio)
    assert float(weights[targets].mean()) == pytest.approx(1.0)


def test_balanced_classes_are_not_weighted() -> None:
    targets = np.array([0] * 8 + [1] * 4 + [2] * 6)
    assert weights_of(2, targets) is None
