"""Sizes of batches, and the loss on images that are not learnt from."""

import cv2
import numpy as np
import pytest
import torch

from autofocus.data.batches.loader import Loader
from autofocus.data.batches.preprocess import fitted_size
from autofocus.manifest import ResizeFit
from autofocus.models import catalog
from autofocus.models.box_profile import TYPICAL
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.structures.targets import OutlineTarget
from autofocus.training.device import make_accelerator
from autofocus.training.evaluate import mean_loss
from autofocus.training.losses.detection import DetectionObjective, OutlineObjective
from support.tiny_transformers import SIDES, TINY, build_tiny

SPEC = ResizeFit(128, 96)
NUM_IMAGES = 6


class AnySize(Network):
    takes_any_size = True


class OddSteps(AnySize):
    size_multiple = 56


@pytest.fixture(scope="module")
def locations(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{number}.png") for number in range(NUM_IMAGES)]
    for path in paths:
        assert cv2.imwrite(path, rng.integers(0, 255, (80, 60, 3), dtype=np.uint8))
    return paths


RING = np.array([[0.1, 0.2], [0.6, 0.2], [0.6, 0.9], [0.1, 0.9]], np.float32)
TARGETS = [
    OutlineTarget(
        np.array([[0.1, 0.2, 0.6, 0.9]] * (i % 3), np.float32).reshape(-1, 4),
        np.zeros(i % 3, np.int64),
        np.zeros(i % 3, np.bool_),
        (80, 60),
        polygons=((RING,),) * (i % 3),
    )
    for i in range(NUM_IMAGES)
]


def sizes_of(
    locations: list[str], network: Network, multi_scale: bool | None, augmentation: str | None
) -> list[tuple[int, ...]]:
    views = DetectionObjective(network, multi_scale).views(SPEC, TARGETS, augmentation)
    assert views.largest_size >= views.size
    with Loader(locations, views, batch_size=1, seed=3, num_threads=1) as loader:
        batches = [batch for epoch in range(10) for batch in loader.epoch(epoch)]
    sizes = [batch.images.shape[2:] for batch in batches]
    assert all(size <= views.largest_size for size in sizes)
    return sizes


@pytest.mark.parametrize("augmentation", ["none", "light", "medium"])
def test_multi_scale_draws_half_to_one_and_a_half_times_the_size(
    locations: list[str], augmentation: str
) -> None:
    sizes = sizes_of(locations, AnySize(), True, augmentation)
    assert sizes == sizes_of(locations, AnySize(), True, augmentation)
    heights = {height for height, _ in sizes}
    assert {64, 192} <= heights <= {64, 96, 128, 160, 192}
    assert len(set(sizes[:NUM_IMAGES])) > 1


@pytest.mark.parametrize(
    ("network", "multi_scale", "augmentation"),
    [
        (AnySize(), False, "medium"),
        (AnySize(), None, "light"),
        (AnySize(), True, None),
        (Network(), True, "medium"),
        (OddSteps(), True, "medium"),
    ],
    ids=["not wanted", "not asked for", "evaluation", "one size", "steps of 56"],
)
def test_otherwise_there_is_one_size(
    locations: list[str], network: Network, multi_scale: bool | None, augmentation: str | None
) -> None:
    assert set(sizes_of(locations, network, multi_scale, augmentation)) == {SPEC.size}


def test_without_a_word_the_augmentation_decides(locations: list[str]) -> None:
    heights = {height for height, _ in sizes_of(locations, AnySize(), None, "medium")}
    assert len(heights) > 1
    assert heights <= {96, 128, 160}


def test_sizes_alone_vary_where_there_is_no_augmentation(locations: list[str]) -> None:
    views = DetectionObjective(AnySize(), True).views(SPEC, TARGETS, "none")
    with Loader(locations, views, batch_size=1, num_threads=1) as loader:
        for batch in (batch for epoch in range(3) for batch in loader.epoch(epoch)):
            (target,), (index,) = batch.targets, batch.index
            height, width = batch.images.shape[2:]
            placed = fitted_size(ResizeFit(height, width), TARGETS[index].size)
            scale = np.tile([placed[1] / width, placed[0] / height], 2)
            np.testing.assert_allclose(target.xyxy_frac, TARGETS[index].xyxy_frac * scale, 1e-5)


def untrained(name: str) -> Network:
    torch.manual_seed(0)
    if name in TINY:
        return build_tiny(name, num_classes=2)
    spec = catalog.resolve(f"{name}_resnet18_fpn")
    family = family_of(spec)
    options = family.network_options(spec, TYPICAL, SPEC.size)
    return family.build(spec, 2, None, SPEC.size, options)


@pytest.mark.parametrize("name", ["fcos", "fasterrcnn", "maskrcnn", *TINY])
def test_the_loss_of_validation_images_is_repeatable_and_changes_nothing(
    locations: list[str], name: str
) -> None:
    network = untrained(name)
    spec = ResizeFit(SIDES[name], SIDES[name]) if name in TINY else SPEC
    has_masks = len(network.output_names) > 3
    objective = (OutlineObjective if has_masks else DetectionObjective)(network)
    views = objective.views(spec, TARGETS, None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    accelerator = make_accelerator(torch.device("cpu"))
    with Loader(locations, views, batch_size=4, num_threads=1) as loader:
        losses = [mean_loss(network, objective, loader, accelerator, seed=5) for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses[0] is not None
    assert 0 < losses[0] < 100
    assert not any(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_loss_that_is_no_number_is_none(locations: list[str]) -> None:
    network = untrained("fcos")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    objective = DetectionObjective(network)
    views = objective.views(SPEC, TARGETS, None)
    with Loader(locations, views, batch_size=4, num_threads=1) as loader:
        accelerator = make_accelerator(torch.device("cpu"))
        assert mean_loss(network, objective, loader, accelerator, seed=5) is None
