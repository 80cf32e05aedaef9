"""What a batch's targets become."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autofocus.models import catalog
from autofocus.models.timm.classifiers import build_classifier
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.training.losses import OBJECTIVES
from autofocus.training.losses.classification import mixup
from autofocus.training.recipe import Recipe

RECIPE = Recipe()


def weights_of(weighted_loss: int, targets: np.ndarray):
    network = build_classifier(catalog.resolve("test_resnet"), 3, None, 32)
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


def test_images_and_targets_are_blended_alike() -> None:
    torch.manual_seed(0)
    # Image i is i everywhere and its target says so: the blend of one tells that of the other.
    levels = torch.arange(8.0)
    images = levels.view(8, 1, 1, 1).expand(8, 3, 2, 2)
    shares = torch.eye(8)
    mixed, mixed_shares = mixup(images, shares, alpha=0.4)
    assert torch.allclose(mixed_shares.sum(1), torch.ones(8))
    assert torch.allclose(mixed[:, 0, 0, 0], mixed_shares @ levels, atol=1e-5)
    assert not torch.equal(mixed, images)


def test_same_seed_same_blend() -> None:
    images, shares = torch.randn(4, 3, 2, 2), torch.eye(4)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(mixup(images, shares, 0.2))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_share_is_beta_distributed(alpha: float) -> None:
    torch.manual_seed(0)
    images, shares = torch.zeros(2, 1, 1, 1), torch.eye(2)
    largest = [float(mixup(images, shares, alpha)[1].max()) for _ in range(400)]
    # Small alphas hardly mix, alpha 1 mixes evenly.
    near_whole = sum(value > 0.9 for value in largest) / len(largest)
    assert near_whole > 0.7 if alpha == 0.1 else near_whole < 0.75
