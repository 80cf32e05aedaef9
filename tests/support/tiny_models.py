"""Model folders for tests: one linear layer, without torch, and a packaged random network."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.onnx_folder import write_onnx_folder
from support.photos import COLOURS

LABELS = ["can", "carton", "milk_bottle", "water_bottle"]


def write_tiny_model(
    folder: Path, labels: list[str], task: str = "image_classification", crop: int = 32
) -> Path:
    """Write a model folder whose network is: mean colour, then one linear layer."""
    from onnx import TensorProto, helper, numpy_helper

    from autofocus.manifest import ResizeCrop

    weight = np.random.default_rng(7).normal(size=(3, len(labels))).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, crop, crop])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(labels)])],
        [numpy_helper.from_array(weight, "weight")],
    )
    preprocess = ResizeCrop(resize_size=crop, crop_size=crop)
    return write_onnx_folder(
        folder, graph, opset=17, task=task, labels=labels, preprocess=preprocess
    )


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """Write model folders: `make_model(folder, labels, task)`."""
    return write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", LABELS)


@pytest.fixture(scope="session")
def tiny_multilabel_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny_multilabel"
    return write_tiny_model(folder, LABELS, "image_classification_multilabel")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged multi-class model of a tiny random network at 64 pixels."""
    import torch

    from autofocus.manifest import DataInfo, Manifest, ResizeCrop, WeightsInfo
    from autofocus.models import catalog
    from autofocus.models.timm.classifiers import build_classifier
    from autofocus.package.mlflow_model import write_package
    from autofocus.tasks.multiclass import MulticlassClassification

    torch.manual_seed(0)
    network = build_classifier(catalog.resolve("test_resnet"), 3, None, 64)
    manifest = Manifest(
        task=MulticlassClassification.name,
        labels=sorted(COLOURS),
        model_name="test_resnet",
        preprocess=ResizeCrop(72, 64),
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 24, 6),
    )
    folder = tmp_path_factory.mktemp("model") / "1"
    write_package(folder, network, manifest)
    return folder


@pytest.fixture(scope="session")
def multilabel_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as a multi-label model."""
    import msgspec

    from autofocus.manifest import MANIFEST_NAME, encode_manifest, read_manifest
    from autofocus.tasks.multilabel import MultilabelClassification

    folder = tmp_path_factory.mktemp("model") / "multilabel"
    shutil.copytree(model_folder, folder)
    manifest = read_manifest(folder)
    changed = msgspec.structs.replace(manifest, task=MultilabelClassification.name)
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(changed))
    return folder
