"""Tiny fixtures: photos drawn in the test, a model folder of a tiny random network."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest_plugins = ["support.serving", "support.threads"]

# Test processes share the cores: a thread that spins while it waits keeps another from its work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
COLOURS = {"blue": (30, 60, 220), "green": (40, 190, 60), "red": (220, 50, 40)}


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["AUTOFOCUS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def draw_photo(colour: tuple[int, int, int], seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return RGB uint8 [h, w, 3]: a coloured disc on noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
    centre = (int(rng.integers(width // 3, 2 * width // 3)), height // 2)
    return cv2.circle(image, centre, min(height, width) // 3, colour, -1)


def write_photo(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder each for three colours, 8 photos of 48×64 pixels in each."""
    root = tmp_path_factory.mktemp("photos")
    for k, (name, colour) in enumerate(COLOURS.items()):
        for i in range(8):
            write_photo(root / name / f"{i}.png", draw_photo(colour, 100 * k + i, (48, 64)))
    return root


@pytest.fixture(scope="session")
def fridge_photos() -> Path:
    folder = SHARED_DATA / "fridge-multiclass"
    if not folder.is_dir():
        pytest.skip(f"the real photos are not here: {folder}")
    return folder


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
