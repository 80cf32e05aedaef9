"""Every catalog family passes one suite. A new family of timm's is one line in `FAMILIES`.

Classifiers of other distributions are models by themselves (docs/extending.md).
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from autofocus.models.base import CLASSIFIER, ModelSpec
from autofocus.models.catalog import RECOMMENDED, known_models, resolve
from autofocus.models.families import family_of
from autofocus.models.network import Classifier
from autofocus.package.onnx import INPUT_NAME, export_onnx

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 5

# Family -> (its smallest member in timm, input size in pixels).
FAMILIES = {
    "resnet": ("test_resnet", 64),
    "resnest": ("resnest14d", 64),
    "seresnext": ("seresnext26d_32x4d", 64),
    "mobilenetv2": ("mobilenetv2_050", 64),
    "mobilenetv3": ("mobilenetv3_small_050", 64),
    "mobilenetv4": ("mobilenetv4_conv_small_050", 64),
    "tf_efficientnet": ("tf_efficientnet_lite0", 64),
    "tf_efficientnetv2": ("test_efficientnet", 64),
    "convnext": ("test_convnext", 64),
    "caformer": ("caformer_s18", 64),
    "tiny_vit": ("tiny_vit_5m_224", 64),
    "vit": ("test_vit", 64),
    "vit_dinov2": ("vit_small_patch14_dinov2", 70),
    "deit": ("deit_tiny_patch16_224", 64),
    "beit": ("beit_base_patch16_224", 64),
    "eva02": ("eva02_tiny_patch14_224", 56),
    "swinv2": ("swinv2_tiny_window8_256", 64),
}
FROM_OUTSIDE = {
    name: (name, spec.preprocess.size[0])
    for name, spec in known_models().items()
    if spec.kind == CLASSIFIER and spec.family != "timm"
}


@pytest.fixture(scope="module", params=[*FAMILIES, *FROM_OUTSIDE], ids=str)
def family(request: pytest.FixtureRequest) -> tuple[ModelSpec, Classifier]:
    return built(request.param)


def built(name: str) -> tuple[ModelSpec, Classifier]:
    """Build a random classifier of one of the families above."""
    name, side = (FAMILIES | FROM_OUTSIDE)[name]
    torch.manual_seed(0)
    spec = resolve(name)
    network = family_of(spec).build(spec, NUM_CLASSES, None, (side, side), {})
    assert isinstance(network, Classifier)
    return spec, network


@pytest.fixture
def network(family: tuple[ModelSpec, Classifier]) -> Classifier:
    return family[1]


@pytest.fixture
def images(network: Classifier) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, network.input_size, network.input_size, generator=generator)


def test_features_and_logits_have_their_shapes(network: Classifier, images: torch.Tensor) -> None:
    with torch.inference_mode():
        features, logits = network.features(images), network(images)
    assert features.shape == (2, network.num_features)
    assert logits.shape == (2, NUM_CLASSES)
    assert features.dtype == logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert not torch.equal(features[0], features[1])


def test_head_is_linear_on_the_features(network: Classifier, images: torch.Tensor) -> None:
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(NUM_CLASSES, network.num_features))
    bias = rng.normal(size=NUM_CLASSES)
    network.set_head(weight, bias)
    with torch.inference_mode():
        features = network.features(images).double().numpy()
        logits = network(images).numpy()
    np.testing.assert_allclose(logits, features @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_evaluation_is_deterministic_and_leaves_no_trace(
    network: Classifier, images: torch.Tensor
) -> None:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.inference_mode():
        first, second = network(images), network(images)
        alone = network(images[:1])
    assert torch.equal(first, second)
    # Batch statistics would couple the images of one batch.
    torch.testing.assert_close(alone, first[:1], rtol=1e-3, atol=1e-4)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


def test_state_dict_goes_through_safetensors(
    network: Classifier, images: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    again = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1)
    again.load_state_dict(safetensors.torch.load_file(path))
    with torch.inference_mode():
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize("name", ["vit", *FROM_OUTSIDE])
def test_exports_to_onnx_with_dynamic_batch(name: str, tmp_path: Path) -> None:
    import onnxruntime

    network = built(name)[1]
    side = network.input_size
    export_onnx(network, tmp_path / "model.onnx", (side, side))
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(3, 3, side, side)
    (logits,) = session.run(None, {INPUT_NAME: images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, network(images).numpy(), rtol=1e-3, atol=1e-4)


def test_every_recommended_model_belongs_to_a_tested_family() -> None:
    names = [spec.name for spec in RECOMMENDED]
    assert [name for name in names if not name.startswith(tuple(FAMILIES))] == []
