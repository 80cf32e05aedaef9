"""Our detectors are torchvision's: same weights, same losses, same detections."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import MultiScaleRoIAlign, batched_nms

from autofocus.models.catalog import resolve
from autofocus.models.torchvision.build import build_torchvision
from autofocus.models.torchvision.detector import Detector
from autofocus.models.torchvision.mask_rcnn import target_masks

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 3
# Sides at which torchvision's strides, rounded down, are the true ones.
SIZE = 128, 192
# No resize, no normalisation.
PLAIN = {
    "min_size": min(SIZE),
    "max_size": max(SIZE),
    "image_mean": [0.0] * 3,
    "image_std": [1.0] * 3,
}
STRIDES = [8, 16, 32, 64]
SIZES = [[12.0, 16.0, 24.0], [32.0, 40.0, 48.0], [64.0, 80.0, 96.0], [112.0, 128.0, 160.0]]
RATIOS = [0.5, 1.0, 2.0]


class Backbone(nn.Module):
    """Our encoder and pyramid, as torchvision's detectors take them."""

    def __init__(self, network: Detector, channels: int, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.out_channels = channels
        self.names = names

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return OrderedDict(zip(self.names, self.network.feature_maps(images), strict=True))


def made(name: str, options: dict[str, Any]) -> Any:
    """A network whose scores and boxes vary, as those of a trained one do."""
    torch.manual_seed(0)
    network = build_torchvision(resolve(name), NUM_CLASSES, None, SIZE, {"channels": 32, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if not key.startswith("encoder.") and parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.5 / fan**0.5)
    return network


def batch() -> tuple[Tensor, list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, *SIZE, generator=generator)
    height, width = SIZE
    targets = []
    for num in (7, 0):
        centres = torch.rand(num, 2, generator=generator) * torch.tensor([width, height])
        sides = 10 + 70 * torch.rand(num, 2, generator=generator)
        corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
        limits = torch.tensor([width, height, width, height])
        boxes = torch.minimum(corners.clamp(min=0), limits)
        classes = torch.randint(NUM_CLASSES, (num,), generator=generator)
        targets.append({"boxes": boxes, "classes": classes})
    return images, targets


def theirs(targets: list[dict[str, Tensor]], first: int) -> list[dict[str, Tensor]]:
    return [{"boxes": t["boxes"], "labels": t["classes"] + first} for t in targets]


def assert_same_losses(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Same losses in the same order; their names differ."""
    torch.testing.assert_close(
        torch.stack(list(ours.values())), torch.stack(list(expected.values()))
    )


def assert_same_detections(
    ours: tuple[Tensor, ...], expected: list[dict[str, Tensor]], iou: float, first: int
) -> None:
    """Suppress our candidates as torchvision does its own, and compare."""
    height, width = SIZE
    scale = torch.tensor([width, height, width, height])
    for boxes, scores, classes, theirs in zip(*ours[:3], expected, strict=True):
        pixels, found = boxes * scale, scores > 0.05
        pixels, scores, classes = pixels[found], scores[found], classes[found]
        kept = batched_nms(pixels, scores, classes, iou)[:100]
        assert len(kept) > 20
        torch.testing.assert_close(scores[kept], theirs["scores"])
        assert torch.equal(classes[kept] + first, theirs["labels"])
        torch.testing.assert_close(pixels[kept], theirs["boxes"], atol=1e-2, rtol=1e-4)


def anchors(sizes: list[list[float]]) -> AnchorGenerator:
    return AnchorGenerator(tuple(map(tuple, sizes)), (tuple(RATIOS),) * len(sizes))


def test_fcos() -> None:
    options = {"strides": STRIDES, "range_ends": [64.0, 128.0, 256.0], "num_candidates": 10_000}
    network = made("fcos_test_resnet_fpn", options)
    model = FCOS(
        Backbone(network, 32, ["0", "1", "2", "p6"]),
        NUM_CLASSES,
        anchor_generator=AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * 4),
        score_thresh=0.05,
        topk_candidates=10_000,
        **PLAIN,
    )
    model.head = network.head
    images, targets = batch()
    expected = model.train()(list(images), theirs(targets, 0))
    assert_same_losses(network.train()(images, targets), expected)
    with torch.no_grad():
        assert_same_detections(network.eval()(images), model.eval()(list(images)), 0.6, 0)


@pytest.mark.parametrize("group_norm", [True, False])
def test_retinanet(group_norm: bool) -> None:
    options = {
        "strides": STRIDES,
        "anchor_sizes": SIZES,
        "aspect_ratios": RATIOS,
        "num_candidates": 10_000,
        "group_norm": group_norm,
    }
    network = made("retinanet_test_resnet_fpn", options)
    model = RetinaNet(
        Backbone(network, 32, ["0", "1", "2", "p6"]),
        NUM_CLASSES,
        anchor_generator=anchors(SIZES),
        head=RetinaNetHead(32, 9, NUM_CLASSES),
        topk_candidates=10_000,
        detections_per_img=100,
        **PLAIN,
    )
    model.head = network.head
    images, targets = batch()
    expected = model.train()(list(images), theirs(targets, 0))
    assert_same_losses(network.train()(images, targets), expected)
    with torch.no_grad():
        assert_same_detections(network.eval()(images), model.eval()(list(images)), 0.5, 0)


RCNN = {
    "strides": STRIDES,
    "anchor_sizes": [[size[0]] for size in SIZES],
    "aspect_ratios": RATIOS,
    "num_proposals": 50,
    "num_candidates": 10_000,
    "num_masks": 100,
    "num_samples": 64,
    "head_width": 64,
    "num_mask_layers": 2,
}


def rcnn(kind: Any, network: Any, **options: Any) -> Any:
    model = kind(
        Backbone(network, 32, ["0", "1", "2", "pool"]),
        NUM_CLASSES + 1,
        rpn_anchor_generator=anchors(RCNN["anchor_sizes"]),
        rpn_pre_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=50,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
        box_batch_size_per_image=64,
        **options,
        **PLAIN,
    )
    model.rpn.head = network.rpn.head
    model.roi_heads.box_head = network.roi_heads.box_head
    model.roi_heads.box_predictor = network.roi_heads.box_predictor
    return model


def test_faster_rcnn() -> None:
    network = made("fasterrcnn_test_resnet_fpn", RCNN)
    model = rcnn(FasterRCNN, network)
    images, targets = batch()
    torch.manual_seed(3)
    expected = model.train()(list(images), theirs(targets, 1))
    torch.manual_seed(3)
    # torchvision draws one of its one sizes for each image.
    for _ in images:
        torch.empty(1).uniform_()
    losses = network.train()(images, targets)
    names = ["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"]
    assert_same_losses(losses, {name: expected[name] for name in names})
    with torch.no_grad():
        assert_same_detections(network.eval()(images), model.eval()(list(images)), 0.5, 1)


def test_mask_rcnn() -> None:
    network = made("maskrcnn_test_resnet_fpn", RCNN)
    network.num_masks = 300
    model = rcnn(
        MaskRCNN,
        network,
        box_nms_thresh=0.6,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 14, 2),
    )
    model.roi_heads.mask_head = network.roi_heads.mask_head
    model.roi_heads.mask_predictor = network.roi_heads.mask_predictor
    # Without torchvision's pasting into the image: the mask of each box is what we compare.
    model.transform.postprocess = lambda result, *_: result
    images, _ = batch()
    with torch.no_grad():
        boxes, scores, classes, masks = network.eval()(images)
        expected = model.eval()(list(images))
    assert_same_detections((boxes, scores, classes), expected, 0.6, 1)
    for ours, result in zip(masks, expected, strict=True):
        torch.testing.assert_close(ours[: len(result["masks"])], result["masks"][:, 0])


def test_masks_within_proposals() -> None:
    generator = torch.Generator().manual_seed(4)
    masks = (torch.rand(3, *SIZE, generator=generator) > 0.5).to(torch.uint8)
    corner = 100 * torch.rand(9, 2, generator=generator)
    boxes = torch.cat([corner, corner + 5 + 50 * torch.rand(9, 2, generator=generator)], dim=1)
    objects = torch.tensor([0, 2, 2, 0, 2, 2, 0, 0, 2])
    ours = target_masks({"masks": masks}, boxes, objects, SIZE)
    # torchvision's pixels have their centres on whole numbers, ours at halves.
    expected = project_masks_on_boxes(masks, boxes - 0.5, objects, 28)
    torch.testing.assert_close(ours, expected)
    coarse = masks.reshape(3, SIZE[0] // 4, 4, SIZE[1] // 4, 4)[:, :, 0, :, 0]
    repeated = coarse.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    difference = target_masks({"masks": coarse}, boxes, objects, SIZE) - target_masks(
        {"masks": repeated}, boxes, objects, SIZE
    )
    assert difference.mean().abs() < 0.01
