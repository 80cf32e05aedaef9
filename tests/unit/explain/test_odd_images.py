"""Constant, grey and one-pixel-wide images, and crops that are not square: right or refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from autofocus.errors import InputError
from autofocus.explain.algorithms import CLASS_ALGORITHMS, explain
from autofocus.explain.base import Parameters
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> FrozenClassifier:
    torch.manual_seed(0)
    return freeze(build(resolve("test_resnet"), 3, input_size=64))


def _noise(*shape: int) -> Tensor:
    return torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("fast", [True, False])
def test_xrai_of_a_constant_image_is_zero_and_says_so(
    network: FrozenClassifier, fast: bool
) -> None:
    images = torch.full((1, 3, 64, 64), 0.7)
    (found,) = explain(network, images, [1], Parameters(n_steps=3, xrai_fast=fast))
    assert not found.map.any()
    assert found.metadata["constant_image"]
    assert found.metadata["num_masks"] == 1


def test_xrai_of_one_colour_is_no_constant_image(network: FrozenClassifier) -> None:
    """Its channels differ, and with them the image from both baselines."""
    images = torch.tensor([0.1, 0.5, -0.3])[None, :, None, None].expand(1, 3, 64, 64)
    (found,) = explain(network, images, [1], Parameters(n_steps=3))
    assert np.isfinite(found.map).all()
    assert found.map.any()
    assert not found.metadata["constant_image"]


def test_integrated_gradients_of_the_baseline_is_zero(network: FrozenClassifier) -> None:
    parameters = Parameters("integrated_gradients", n_steps=3)
    (found,) = explain(network, torch.zeros(1, 3, 64, 64), [1], parameters)
    assert not found.map.any()
    assert found.metadata["completeness_error"] == 0


@pytest.mark.parametrize("shape", [(64, 1), (1, 64), (1, 1), (48, 96), (97, 41)])
@pytest.mark.parametrize("name", CLASS_ALGORITHMS)
def test_any_shape_that_the_network_takes_is_explained(
    name: str, shape: tuple[int, int], network: FrozenClassifier
) -> None:
    images = _noise(*shape)
    (found,) = explain(network, images, [1], Parameters(name, n_steps=3))
    assert found.map.shape == (3, *shape)
    assert np.isfinite(found.map).all()
    assert found.map.any() == found.metadata.get("positive_evidence", True)


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("test_vit", 64, (4, 4)),
        ("deit_tiny_patch16_224", 32, (2, 2)),
        ("test_convnext", 96, (3, 3)),
    ],
)
def test_the_grid_is_the_networks(name: str, size: int, grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    frozen = freeze(build(resolve(name), 3, input_size=size))
    (found,) = explain(frozen, _noise(size, size), [0], Parameters("guided_gradcam"))
    assert found.metadata["grid"] == grid


def test_the_grid_of_a_wide_image_is_wide(network: FrozenClassifier) -> None:
    (found,) = explain(network, _noise(64, 160), [0], Parameters("guided_gradcam"))
    assert found.metadata["grid"] == (2, 5)


def test_a_network_without_places_is_refused() -> None:
    torch.manual_seed(0)
    frozen = freeze(build(resolve("test_resnet"), 3, input_size=64))
    encoder = frozen.classifier.encoder
    features = encoder.forward_features
    encoder.forward_features = lambda images: features(images).mean(dim=(2, 3))[:, None]
    encoder.forward_head = lambda features, pre_logits: features[:, 0]
    with pytest.raises(InputError, match=r"guided_gradcam: ResNet ends in .* no map of places"):
        explain(frozen, _noise(64, 64), [0], Parameters("guided_gradcam"))


def test_classes_of_one_image_share_its_regions(
    network: FrozenClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autofocus.explain import xrai

    calls = []
    real = xrai.xrai_masks
    monkeypatch.setattr(xrai, "xrai_masks", lambda image: calls.append(1) or real(image))
    first, second = _noise(64, 64), _noise(64, 64) * 2 + 1
    images = torch.cat([first, first, second])
    found = explain(network, images, [0, 1, 1], Parameters(n_steps=2))
    alone = explain(network, second, [1], Parameters(n_steps=2))
    assert len(calls) == 3
    assert np.ptp(found[0].map - found[1].map) > 0
    np.testing.assert_allclose(found[2].map, alone[0].map, rtol=0.05, atol=1e-5)
