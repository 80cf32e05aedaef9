"""Every explainer on every catalog family passes one suite. A new explainer needs no line here."""

import numpy as np
import pytest
import torch

from autofocus.explain.algorithms import attribution_method, names_of
from autofocus.explain.base import Attribution
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.explain.parameters import Parameters
from autofocus.models.catalog import RECOMMENDED, resolve
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 3

# Family -> (its smallest member in timm, input size in pixels, does the textbook rule guide it).
FAMILIES = {
    "resnet": ("test_resnet", 64, True),
    "resnest": ("resnest14d", 64, True),
    "seresnext": ("seresnext26d_32x4d", 64, True),
    "mobilenetv2": ("mobilenetv2_050", 64, True),
    "mobilenetv3": ("mobilenetv3_small_050", 64, True),
    "mobilenetv4": ("mobilenetv4_conv_small_050", 64, True),
    "tf_efficientnet": ("tf_efficientnet_lite0", 64, True),
    "tf_efficientnetv2": ("test_efficientnet", 64, False),
    "convnext": ("test_convnext", 64, False),
    "caformer": ("caformer_s18", 64, True),
    "tiny_vit": ("tiny_vit_5m_224", 64, False),
    "vit": ("test_vit", 64, False),
    "vit_dinov2": ("vit_small_patch14_dinov2", 70, False),
    "deit": ("deit_tiny_patch16_224", 64, False),
    "beit": ("beit_base_patch16_224", 64, False),
    "eva02": ("eva02_tiny_patch14_224", 56, False),
    "swinv2": ("swinv2_tiny_window8_256", 64, False),
}


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def network(request: pytest.FixtureRequest) -> FrozenClassifier:
    name, input_size, _ = FAMILIES[request.param]
    return freeze(_build(name, input_size))


def _build(name: str, input_size: int) -> Classifier:
    """Build random weights under which every branch counts.

    Layer scales and post-norms start at about zero: a fresh network is little but its skips.
    """
    torch.manual_seed(0)
    network = build_classifier(resolve(name), NUM_CLASSES, input_size=input_size)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim == 1 and not key.endswith("bias") and parameter.abs().max() < 1e-2:
                parameter.fill_(1.0)
    return network


@pytest.fixture
def images(network: FrozenClassifier) -> torch.Tensor:
    """Two images with large parts, so that there are regions to rank."""
    size = network.classifier.input_size
    coarse = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def _explain(name: str, network: FrozenClassifier, images: torch.Tensor) -> list[Attribution]:
    """Explain every class of every image."""
    targets = list(range(NUM_CLASSES)) * len(images)
    repeated = images.repeat_interleave(NUM_CLASSES, dim=0)
    return attribution_method(name).attribute(
        network, repeated, targets, Parameters(xai_algorithm=name, n_steps=2)
    )


@pytest.mark.parametrize("name", names_of("classes"))
def test_maps_are_finite_and_of_the_images_shape_and_tell_classes_and_images_apart(
    name: str, network: FrozenClassifier, images: torch.Tensor
) -> None:
    found = _explain(name, network, images)
    assert len(found) == len(images) * NUM_CLASSES
    varied: list[np.ndarray] = []
    for attribution in found:
        assert attribution.algorithm == name
        assert attribution.map.dtype == np.float32
        assert attribution.map.shape == images.shape[1:]
        assert attribution.map.flags.c_contiguous
        assert np.isfinite(attribution.map).all()
        assert attribution.saliency().shape == images.shape[2:]
        varies = np.ptp(attribution.map) > 0
        # Where nothing speaks for the class, Grad-CAM's map is zero, and says so.
        assert varies == attribution.metadata.get("positive_evidence", True)
        if varies:
            varied.append(attribution.map)
    assert varied
    assert not any(np.array_equal(a, b) for i, a in enumerate(varied) for b in varied[:i])


@pytest.mark.parametrize("name", names_of("classes"))
def test_a_batch_gives_what_single_images_give(
    name: str, network: FrozenClassifier, images: torch.Tensor
) -> None:
    explainer, parameters = attribution_method(name), Parameters(xai_algorithm=name, n_steps=2)
    together = explainer.attribute(network, images, [1, 1], parameters)
    alone = explainer.attribute(network, images[1:], [1], parameters)
    scale = max(np.abs(alone[0].map).max(), 1e-12)
    # Rounding flips a ReLU here and there: the maps agree in all but a few quantiles.
    agree = np.abs(together[1].map - alone[0].map) <= 0.02 * scale
    assert agree.mean() > 0.98


def test_what_guided_returns_is_not_the_plain_gradient(
    network: FrozenClassifier, images: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["network"]
    (guided,) = attribution_method("guided_backprop").attribute(
        network, images[:1], [0], Parameters()
    )
    points = images[:1].clone().requires_grad_()
    (plain,) = torch.autograd.grad(network(points)[0, 0], points)
    difference = np.abs(guided.map - plain[0].numpy()).max()
    assert difference > 0.01 * np.abs(plain.numpy()).max()
    # A network that only the extension guides says so.
    assert bool(guided.metadata["guided"]) == FAMILIES[name][2]
    if not FAMILIES[name][2]:
        assert guided.metadata["guided_extension"]
        assert guided.metadata["rule"] == "guided, extended"


def test_freezing_keeps_the_answers(
    network: FrozenClassifier, images: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    name, input_size, _ = FAMILIES[request.node.callspec.params["network"]]
    original = _build(name, input_size)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), original(images), rtol=1e-3, atol=1e-4)
    left = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not left, "a batch norm after a convolution was not folded"
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_every_recommended_model_belongs_to_a_tested_family() -> None:
    names = [spec.name for spec in RECOMMENDED]
    assert [name for name in names if not name.startswith(tuple(FAMILIES))] == []
