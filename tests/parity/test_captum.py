"""Attributions against captum and, end to end, XRAI against PAIR saliency."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from autofocus.explain.algorithms import attribution_method
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.explain.guided_gradcam import forward_with_map, gradcam
from autofocus.explain.parameters import Parameters
from autofocus.explain.quadrature import METHODS
from autofocus.models.catalog import resolve
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

captum = pytest.importorskip("captum.attr", reason="the reference is a development dependency")

TARGETS = [2, 0]

# Networks whose only activation is the module that captum hooks: nn.ReLU.
RELU_NETWORKS = {"test_resnet": 64, "mobilenetv4_conv_small_050": 64, "resnet18": 64}


def _build(name: str, size: int = 64) -> Classifier:
    """Random weights; statistics of batch norms that are not those of a fresh network."""
    torch.manual_seed(0)
    network = build_classifier(resolve(name), 4, input_size=size)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def _images(size: int = 64, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def _ours(name: str, network: FrozenClassifier, images: Tensor, **options: Any) -> Tensor:
    parameters = Parameters(xai_algorithm=name, **options)
    found = attribution_method(name).attribute(network, images, TARGETS, parameters)
    return torch.from_numpy(np.stack([attribution.map for attribution in found]))


def _quietly(call: Callable[[], Tensor]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its own hooks
        return call().detach().float()


def _assert_close(got: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    """Compare to a share of the largest value: single values may be zero."""
    torch.testing.assert_close(got, expected, rtol=0, atol=relative * float(expected.abs().max()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "tf_efficientnet_lite0"])
def test_integrated_gradients(name: str, method: str) -> None:
    # captum computes the points of the path in single precision, which has these exactly: between
    # two points that differ by rounding, a unit of the network may begin or cease to pass on.
    n_steps = 9 if method == "riemann_trapezoid" else 8
    network, images = freeze(_build(name).double()), _images(dtype=torch.float64)
    expected = _quietly(
        lambda: captum.IntegratedGradients(network).attribute(
            images, target=TARGETS, n_steps=n_steps, method=method
        )
    )
    options = {"n_steps": n_steps, "approximation_method": method}
    got = _ours("integrated_gradients", network, images, **options)
    _assert_close(got, expected)


def test_integrated_gradients_in_single_precision_on_the_unfolded_network() -> None:
    network, images = _build("test_vit"), _images()
    expected = _quietly(
        lambda: captum.IntegratedGradients(network).attribute(
            images, target=TARGETS, n_steps=50, method="riemann_middle", internal_batch_size=5
        )
    )
    got = _ours("integrated_gradients", freeze(network), images, n_steps=50)
    _assert_close(got, expected)


def test_completeness_error_is_captums_convergence_delta() -> None:
    network, images = freeze(_build("test_resnet").double()), _images(dtype=torch.float64)
    _, deltas = captum.IntegratedGradients(network).attribute(
        images,
        target=TARGETS,
        n_steps=8,
        method="riemann_middle",
        return_convergence_delta=True,
    )
    found = attribution_method("integrated_gradients").attribute(
        network, images, TARGETS, Parameters(n_steps=8)
    )
    errors = [attribution.metadata["completeness_error"] for attribution in found]
    np.testing.assert_allclose(errors, deltas.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", RELU_NETWORKS)
def test_guided_backprop_on_relu_networks(name: str) -> None:
    # Double precision, so that folding flips no ReLU: captum sees the network as it was trained.
    original, images = _build(name).double(), _images(dtype=torch.float64)
    expected = _quietly(lambda: captum.GuidedBackprop(original).attribute(images, target=TARGETS))
    _assert_close(_ours("guided_backprop", freeze(original), images), expected)


@pytest.mark.parametrize("name", ["test_resnet", "resnet18"])
def test_gradcam_at_the_last_residual_block(name: str) -> None:
    original, images = _build(name).double(), _images(128, torch.float64)
    network = freeze(original)
    layer = original.encoder.layer4[-1]
    expected = _quietly(
        lambda: captum.LayerGradCam(original, layer).attribute(
            images, target=TARGETS, relu_attributions=True
        )
    )
    points = images.clone().requires_grad_()
    run = forward_with_map(network, points)
    scores = run.logits.gather(1, torch.tensor(TARGETS)[:, None])
    got = gradcam(*run.map_and_gradient(scores))
    assert expected.shape[2:] == (4, 4)
    _assert_close(got.float(), expected)


@pytest.mark.parametrize("name", ["test_resnet", "resnet18"])
def test_guided_gradcam_on_relu_networks(name: str) -> None:
    original, images = _build(name).double(), _images(128, torch.float64)
    layer = original.encoder.layer4[-1]
    expected = _quietly(
        lambda: captum.GuidedGradCam(original, layer).attribute(
            images, target=TARGETS, interpolate_mode="bilinear"
        )
    )
    assert expected.abs().max() > 0
    _assert_close(_ours("guided_gradcam", freeze(original), images), expected)


@pytest.mark.parametrize("fast", [True, False])
def test_xrai_end_to_end_ranks_pixels_as_pair_saliency_does(fast: bool) -> None:
    base = pytest.importorskip("saliency.core.base", reason="a development dependency")
    from saliency.core import xrai as reference
    from skimage import data

    original = _build("test_resnet", 160)
    photo = torch.from_numpy(data.coffee()[:160, 200:360].copy()).permute(2, 0, 1)
    images = photo[None].float() / 127.5 - 1
    plain = copy.deepcopy(original)

    def gradients(points: Any, call_model_args: Any, expected_keys: Any) -> dict[str, Any]:
        batch = torch.from_numpy(points).permute(0, 3, 1, 2).float().requires_grad_()
        score = plain(batch).softmax(1)[:, 2].sum()
        (gradient,) = torch.autograd.grad(score, batch)
        return {base.INPUT_OUTPUT_GRADIENTS: gradient.permute(0, 2, 3, 1).numpy()}

    expected = reference.XRAI().GetMask(
        images[0].permute(1, 2, 0).numpy(),
        gradients,
        batch_size=10,
        extra_parameters=reference.XRAIParameters(steps=50, algorithm="fast" if fast else "full"),
    )
    parameters = Parameters(n_steps=50, xrai_fast=fast)
    (got,) = attribution_method("xrai").attribute(freeze(original), images, [2], parameters)
    # The reference weighs both ends of the path like any other step; we take middles.
    assert spearmanr(got.map[0].ravel(), expected.ravel()).statistic > 0.98
