"""Frozen networks in ONNX Runtime say what torch says."""

import numpy as np
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from torch import Tensor, nn

from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build_classifier
from autofocus.training import frozen as frozen_module
from autofocus.training.frozen import BATCH_SIZE, MIN_ONNX_IMAGES, Frozen

CPU = torch.device("cpu")
SIDE = 64


@pytest.fixture
def images() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((BATCH_SIZE + 3, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_resnet", "test_convnext"])
def test_onnx_runtime_agrees_with_torch_for_any_number_of_images(
    name: str, images: np.ndarray
) -> None:
    network = build_classifier(resolve(name), 3, input_size=SIDE)
    many, few = Frozen(network, CPU, MIN_ONNX_IMAGES), Frozen(network, CPU, MIN_ONNX_IMAGES - 1)
    assert (many.backend, few.backend) == ("onnx", "torch")
    (ours,), (theirs,) = many(images), few(images)
    assert ours.shape == (len(images), 3)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    assert not np.array_equal(ours, theirs), "another engine rounds differently"
    # A batch is filled up: what is beside an image changes no bit of it.
    assert np.array_equal(many(images[-3:])[0], ours[-3:])


class Unwritable(nn.Module):
    """A layer whose operator no exporter knows."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.eigvals(images).abs()


def test_what_cannot_be_written_as_onnx_is_computed_by_torch(images: np.ndarray) -> None:
    (found,) = Frozen(Unwritable(), CPU, MIN_ONNX_IMAGES)(images)
    expected = torch.linalg.eigvals(torch.from_numpy(images)).abs().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_engine_that_refuses_a_graph_is_not_the_end(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(module: nn.Module, shape: tuple[int, ...]) -> None:
        # Not a RuntimeError: ONNX Runtime's errors have no common base.
        raise Fail("no kernel for this node")

    monkeypatch.setattr(frozen_module, "_session", refused)
    (found,) = Frozen(nn.Identity(), CPU, MIN_ONNX_IMAGES)(images)
    assert np.array_equal(found, images)


def test_a_graph_that_says_something_else_is_not_used(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong:
        def get_inputs(self) -> list[nn.Module]:
            named = nn.Module()
            named.name = "images"
            return [named]

        def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [inputs["images"] + 1]

    monkeypatch.setattr(frozen_module, "_session", lambda module, shape: Wrong())
    (found,) = Frozen(nn.Identity(), CPU, MIN_ONNX_IMAGES)(images)
    assert np.array_equal(found, images)
    assert "computes other numbers" in caplog.text
