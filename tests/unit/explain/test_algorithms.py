"""Maps of a 4 × 4 image by hand; constant, grey, one-pixel-wide and oblong images."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.errors import InputError
from autofocus.explain.algorithms import attribution_method, explain, names_of
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.explain.parameters import Parameters
from autofocus.explain.quadrature import METHODS
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import TimmClassifier, build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

# Filters [2, 3, 1, 1]: the first is red minus green, the second blue minus red.
FILTERS = [[1.0, -1.0, 0.0], [-1.0, 0.0, 1.0]]
HEAD = [[2.0, -1.0], [0.0, 0.0]]

IMAGE = np.zeros((3, 4, 4), np.float32)
IMAGE[0, 0, 0] = 3  # red: filter 1 gives 3, filter 2 gives -3
IMAGE[1, 1, 1] = 2  # green: filter 1 gives -2, filter 2 gives 0
IMAGE[2, 2, 2] = 4  # blue: filter 1 gives 0, filter 2 gives 4
IMAGE[:, 3, 3] = [1, 0, 2]  # filter 1 gives 1, filter 2 gives 1


class Encoder(nn.Module):
    """conv 1 × 1 -> activation -> mean."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor(FILTERS)[:, :, None, None]
        self.activation = activation
        self.num_features = 2

    def forward_features(self, images: Tensor) -> Tensor:
        return self.activation(self.conv(images))

    def forward_head(self, features: Tensor, pre_logits: bool) -> Tensor:
        return features.mean(dim=(2, 3))


def _network(activation: Any = None) -> FrozenClassifier:
    classifier = TimmClassifier(Encoder(activation or nn.ReLU()), nn.Linear(2, 2), input_size=4)
    classifier.set_head(torch.tensor(HEAD), torch.zeros(2))
    return freeze(classifier)


def _map(name: str, network: FrozenClassifier, **options: Any) -> NDArray[np.float32]:
    parameters = Parameters(xai_algorithm=name, **options)
    (found,) = attribution_method(name).attribute(
        network, torch.tensor(IMAGE)[None], [0], parameters
    )
    return found.map


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"riemann_trapezoid"}))
def test_integrated_gradients_by_hand(method: str) -> None:
    # On the way from zero no ReLU changes: the gradient is constant but at zero itself.
    expected = np.zeros((3, 4, 4), np.float32)
    expected[0, 0, 0] = 3 * 2 / 16
    expected[2, 2, 2] = 4 * -1 / 16
    expected[:, 3, 3] = np.array([1 * (2 + 1), 0, 2 * -1]) / 16
    n_steps = 10
    if method == "riemann_left":  # its first point is zero, where ReLU has no slope
        expected *= (n_steps - 1) / n_steps
    got = _map("integrated_gradients", _network(), n_steps=n_steps, approximation_method=method)
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_completeness_error_by_hand() -> None:
    (found,) = attribution_method("integrated_gradients").attribute(
        _network(), torch.tensor(IMAGE)[None], [0], Parameters(n_steps=5)
    )
    # 2 · (3 + 1) / 16 - 1 · (4 + 1) / 16
    assert found.metadata["value"] == pytest.approx(3 / 16)
    assert found.metadata["baseline_value"] == 0
    assert found.metadata["completeness_error"] == pytest.approx(0, abs=1e-7)


def test_guided_backprop_by_hand() -> None:
    # The second filter's gradient, -1 / 16, is negative and stops at the ReLU.
    expected = np.zeros((3, 4, 4), np.float32)
    for place in ((0, 0), (3, 3)):  # where the first filter is positive
        expected[(slice(None), *place)] = np.array([1, -1, 0]) * 2 / 16
    np.testing.assert_allclose(_map("guided_backprop", _network()), expected, atol=1e-7)


def test_guided_gradcam_by_hand() -> None:
    # Map: filter 1 weighs 2 / 16, filter 2 weighs -1 / 16; the map is as fine as the image.
    guided = _map("guided_backprop", _network())
    cam = np.zeros((4, 4), np.float32)
    cam[0, 0] = 3 * 2 / 16
    cam[2, 2] = 0  # 4 · (-1 / 16) is negative
    cam[3, 3] = (2 * 1 - 1) / 16
    np.testing.assert_allclose(_map("guided_gradcam", _network()), guided * cam, atol=1e-7)


def test_xrai_on_an_image_smaller_than_any_region_is_the_mean() -> None:
    got = _map("xrai", _network(), n_steps=4)
    assert got.shape == (3, 4, 4)
    assert np.ptp(got) == 0


def _slope_and_value(activation: nn.Module, x: float) -> float:
    point = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad(activation(point), point)
    return float(slope)


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU6(), nn.LeakyReLU(0.1), nn.SiLU(), nn.GELU(), nn.Mish(), nn.ELU(), nn.PReLU()],
    ids=lambda a: type(a).__name__,
)
def test_guided_rule_cuts_slope_and_gradient_at_zero(activation: nn.Module) -> None:
    expected = np.zeros((3, 4, 4), np.float32)
    values = np.einsum("fc,chw->fhw", FILTERS, IMAGE)
    for y, x in np.ndindex(4, 4):
        slope = _slope_and_value(activation, float(values[0, y, x]))
        expected[:, y, x] = np.array(FILTERS[0]) * max(slope, 0) * 2 / 16
    np.testing.assert_allclose(_map("guided_backprop", _network(activation)), expected, atol=1e-6)


def _hardswish_of_parts(x: Tensor) -> Tensor:
    return x * nn.functional.relu6(x + 3) / 6


@pytest.mark.parametrize("activation", [nn.Hardswish(), nn.Hardswish(inplace=True)])
def test_hardswish_is_guided_as_its_relu6_is(activation: nn.Module) -> None:
    whole = _map("guided_backprop", _network(activation))
    parts = _map("guided_backprop", _network(_Wrapped(_hardswish_of_parts)))
    np.testing.assert_allclose(whole, parts, atol=1e-7)
    # By hand at (0, 0): filter 1 gives 3: 2 / 16 · 6 / 6. Filter 2 gives -3, outside the ReLU6.
    np.testing.assert_allclose(whole[:, 0, 0], np.array([1, -1, 0]) * 2 / 16, atol=1e-7)


class _Wrapped(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    "function",
    [nn.functional.relu, torch.relu, lambda x: x.relu(), lambda x: x.clone().relu_()],
    ids=["functional", "torch", "method", "in-place"],
)
def test_functional_rectifiers_are_guided_like_modules(function: Any) -> None:
    got = _map("guided_backprop", _network(_Wrapped(function)))
    np.testing.assert_array_equal(got, _map("guided_backprop", _network()))


@pytest.fixture(scope="module")
def network() -> FrozenClassifier:
    torch.manual_seed(0)
    return freeze(build_classifier(resolve("test_resnet"), 3, input_size=64))


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
@pytest.mark.parametrize("name", names_of("classes"))
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
    frozen = freeze(build_classifier(resolve(name), 3, input_size=size))
    (found,) = explain(frozen, _noise(size, size), [0], Parameters("guided_gradcam"))
    assert found.metadata["grid"] == grid


def test_the_grid_of_a_wide_image_is_wide(network: FrozenClassifier) -> None:
    (found,) = explain(network, _noise(64, 160), [0], Parameters("guided_gradcam"))
    assert found.metadata["grid"] == (2, 5)


def test_a_network_without_places_is_refused() -> None:
    torch.manual_seed(0)
    frozen = freeze(build_classifier(resolve("test_resnet"), 3, input_size=64))
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
