"""Every head on every kind of backbone passes one suite. A new head is one line in `HEADS`."""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autofocus.models import catalog
from autofocus.models.base import DETECTOR, SEGMENTER
from autofocus.models.box_profile import TYPICAL
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.package.onnx import INPUT_NAME, export_onnx

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 3
SIZE = 64, 96
# Objects that a canvas of this size can show.
PROFILE = replace(TYPICAL, side_frac=(0.1, 0.2, 0.35, 0.6, 0.9), image_size=SIZE)

HEADS = ["fcos", "retinanet", "fasterrcnn", "maskrcnn"]
BACKBONES = ["tf_efficientnet_lite0", "resnet18", "mobilenetv4_conv_small", "test_vit"]


# As few numbers as every head works with.
NARROW = {
    "channels": 32,
    "head_width": 32,
    "num_mask_layers": 1,
    "num_proposals": 40,
    "num_candidates": 100,
    "num_samples": 32,
}


def options_of(name: str) -> dict[str, Any]:
    spec = catalog.resolve(name)
    options = family_of(spec).network_options(spec, PROFILE, SIZE)
    options |= {key: value for key, value in NARROW.items() if key in options}
    return json.loads(json.dumps(options))


def built(name: str, options: dict[str, Any]) -> Network:
    spec = catalog.resolve(name)
    return family_of(spec).build(spec, NUM_CLASSES, None, SIZE, options)


def made(name: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return built(name, options_of(name))


@pytest.fixture(scope="module", params=[f"{h}_{b}_fpn" for h in HEADS for b in BACKBONES])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str) -> Network:
    return made(name)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def target(network: Network, boxes: list[list[float]]) -> dict[str, Tensor]:
    """Boxes and, for a segmenter, the left half of each as its mask, at a stride of 4."""
    values = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "classes": torch.arange(len(boxes)) % NUM_CLASSES,
    }
    if "box_masks" in network.output_names:
        masks = torch.zeros(len(boxes), SIZE[0] // 4, SIZE[1] // 4, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
            middle = (left + right) / 2
            mask[int(top / 4) : int(bottom / 4), int(left / 4) : int(middle / 4)] = 1
        values["masks"] = masks
    return values


def test_candidates_are_as_promised(network: Network, name: str, images: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        outputs = network(images)
        again = network(images)
    assert len(outputs) == len(network.output_names)
    boxes, scores, classes = outputs[:3]
    num = scores.shape[1]
    assert boxes.shape == (2, num, 4)
    assert scores.shape == classes.shape == (2, num)
    assert num >= 100
    assert boxes.dtype == scores.dtype == torch.float32
    assert classes.dtype == torch.int64
    assert 0 <= boxes.min() <= boxes.max() <= 1
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert 0 <= scores.min() <= scores.max() <= 1
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    assert set(classes.unique().tolist()) <= set(range(NUM_CLASSES))
    assert all(torch.equal(one, two) for one, two in zip(outputs, again, strict=True))
    kind = catalog.resolve(name).kind
    assert kind == (SEGMENTER if name.startswith("maskrcnn") else DETECTOR)
    if kind == SEGMENTER:
        assert outputs[3].shape == (2, num, 28, 28)
        assert 0 <= outputs[3].min() <= outputs[3].max() <= 1


def test_images_of_a_batch_do_not_meet(network: Network, images: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        together = network(images)[1]
        alone = network(images[1:])[1]
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-4)


def test_a_few_steps_lower_the_losses(name: str, images: Tensor) -> None:
    network = made(name).train()
    targets = [target(network, [[8, 8, 40, 40], [50, 20, 90, 60]]), target(network, [])]
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4)
    totals = []
    for _ in range(8):
        # The same proposals and anchors are drawn each time.
        torch.manual_seed(5)
        losses: dict[str, Tensor] = network(images, targets)
        total = torch.stack(list(losses.values())).sum()
        assert all(torch.isfinite(loss) and not loss.shape for loss in losses.values()), losses
        optimizer.zero_grad()
        total.backward()
        missing = [key for key, p in network.named_parameters() if p.grad is None]
        assert missing == [], "processes that train together wait for these gradients"
        optimizer.step()
        totals.append(total.item())
    assert max(totals[-2:]) < 0.9 * totals[0], totals


def test_negative_images_alone_teach(network: Network, images: Tensor) -> None:
    network.train()
    losses = network(images, [target(network, []), target(network, [])])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert total > 0
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)
    network.zero_grad()


def test_boxes_without_area_are_left_out(network: Network, images: Tensor) -> None:
    network.train()
    flat = target(network, [[8, 8, 8, 40], [50, 20, 90, 60]])
    losses = network(images, [flat, target(network, [])])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_state_dict_fits_what_the_manifest_rebuilds(
    network: Network, name: str, images: Tensor
) -> None:
    again = made(name, seed=7)
    again.load_state_dict(network.state_dict())
    network.eval()
    with torch.inference_mode():
        pairs = zip(again(images), network(images), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)


def test_encoder_learns_as_optimizers_expect(network: Network) -> None:
    from autofocus.training.optim import freeze_layers

    num_groups = freeze_layers(network, 1)
    frozen = [key for key, p in network.named_parameters() if not p.requires_grad]
    assert num_groups > 1
    assert frozen
    assert all(key.startswith("encoder.") for key in frozen)
    freeze_layers(network, 0)


def assert_exported_agrees(name: str, path: Path) -> None:
    """Export a network and compare the outputs of its ONNX graph with torch's."""
    import onnxruntime

    torch.manual_seed(0)
    options = options_of(name)
    if "nms_iou" in options:
        # Not the default, at which none of these boxes goes: the graph must suppress as asked.
        options["nms_iou"] = 0.1
    network = built(name, options)
    export_onnx(network, path, SIZE)
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), session_options, providers=["CPUExecutionProvider"]
    )
    images = torch.randn(
        3 if network.dynamic_batch else 1, 3, *SIZE, generator=torch.Generator().manual_seed(2)
    )
    with torch.inference_mode():
        expected = [output.numpy() for output in network(images)]
    outputs = session.run(None, {INPUT_NAME: images.numpy()})
    assert [output.shape for output in outputs] == [output.shape for output in expected]
    np.testing.assert_allclose(outputs[1], expected[1], atol=1e-4)
    # Candidates of equal scores may change quantiles: each must be among torch's with its score.
    for position in np.ndindex(outputs[1].shape):
        image, _ = position
        same = np.abs(expected[1][image] - outputs[1][position]) < 1e-4
        distance = np.abs(expected[0][image] - outputs[0][position]).max(axis=1)
        assert (same & (distance < 1e-3)).any(), position
    if len(outputs) == 4:
        assert 0 < (expected[1] > 0).sum() < expected[1].size, "some are suppressed"
        np.testing.assert_allclose(outputs[3], expected[3], atol=1e-3)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


# Mask R-CNN's graph has all of Faster R-CNN's in it.
@pytest.mark.parametrize("head", ["fcos", "maskrcnn"])
def test_onnx_agrees(head: str, tmp_path: Path) -> None:
    with quiet():
        assert_exported_agrees(f"{head}_test_resnet_fpn", tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("parameters", "nms_iou", "num_kept"),
    [({}, 0.6, 2), ({"nms_iou_threshold": 0.4}, 0.6, 2), ({"nms_iou_threshold": 0.8}, 0.8, 3)],
)
def test_boxes_that_overlap_as_the_job_allows_get_masks(
    parameters: dict[str, Any], nms_iou: float, num_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "maskrcnn_test_resnet_fpn"
    spec = catalog.resolve(name)
    wanted = family_of(spec).network_options(spec, PROFILE, SIZE, parameters)["nms_iou"]
    assert wanted == nms_iou
    network = built(name, options_of(name) | {"nms_iou": wanted})
    # Of one class the first two overlap by 0.7; the third is another class's.
    boxes = torch.tensor([[[0.0, 0, 34, 20], [6.0, 0, 40, 20], [0.0, 0, 34, 20]]])
    found = boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0, 0, 1]])
    monkeypatch.setattr(network, "_found", lambda named, size: found)
    with torch.inference_mode():
        _, scores, classes, _ = network(torch.zeros(1, 3, *SIZE))
    assert (scores > 0).sum() == num_kept
    assert classes[0][scores[0] > 0].tolist() == [0, 0, 1][3 - num_kept :]


def test_manifests_from_before_suppression_was_an_option_load() -> None:
    name = "maskrcnn_test_resnet_fpn"
    options = options_of(name)
    del options["nms_iou"]
    network: Any = built(name, options)
    assert network.nms_iou == 0.6


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_onnx_agrees_on_every_backbone(head: str, backbone: str, tmp_path: Path) -> None:
    with quiet():
        assert_exported_agrees(f"{head}_{backbone}_fpn", tmp_path / "model.onnx")
