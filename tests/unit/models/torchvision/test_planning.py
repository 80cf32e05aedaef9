"""Anchors, ranges and levels fit the boxes that they were made from."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from autofocus.errors import ModelFolderError
from autofocus.models.box_profile import TYPICAL, BoxProfile, profile_boxes
from autofocus.models.catalog import AZURE_DETECTORS, resolve
from autofocus.models.torchvision.detector import LevelAnchors
from autofocus.models.torchvision.fcos import match_points
from autofocus.models.torchvision.options import FcosOptions, RcnnOptions, read_options
from autofocus.models.torchvision.planning import (
    canvas_spec,
    fcos_options,
    fit_scale,
    max_detections,
    rcnn_options,
    retinanet_options,
    stride_unit,
)
from autofocus.structures.targets import BoxTarget

SIZE = 320, 448
FCOS, RETINANET, RCNN = (
    resolve(f"{head}_tf_efficientnet_lite0_fpn") for head in ("fcos", "retinanet", "fasterrcnn")
)
LITE0 = resolve("fcos_tf_efficientnet_lite0_fpn")


def boxes_of(width: float, height: float, num: int = 300) -> torch.Tensor:
    """Boxes of one size, anywhere on the canvas."""
    rng = np.random.default_rng(0)
    corner = rng.random((num, 2)) * (SIZE[1] - width, SIZE[0] - height)
    boxes = np.concatenate([corner, corner + np.array([width, height])], axis=1)
    return torch.from_numpy(boxes.astype(np.float32))


def profile_of(boxes: torch.Tensor) -> BoxProfile:
    fractions = boxes.numpy() / np.array([SIZE[1], SIZE[0]] * 2, np.float32)
    num = len(boxes)
    zeros = np.zeros(num, np.int64)
    return profile_boxes([BoxTarget(fractions, zeros, zeros.astype(bool), SIZE)])


def anchors_of(options: Any) -> torch.Tensor:
    generator = LevelAnchors(options.anchor_sizes, options.aspect_ratios, options.strides)
    maps = [torch.zeros(1, 1, SIZE[0] // s, SIZE[1] // s) for s in options.strides]
    return torch.cat(generator.of_levels(maps))


@pytest.mark.parametrize("shape", [1.0, 0.4, 2.5], ids=["square", "wide", "tall"])
@pytest.mark.parametrize("side", [14, 20, 32, 60, 100, 200])
@pytest.mark.parametrize(
    ("spec", "make"), [(RETINANET, retinanet_options), (RCNN, rcnn_options)], ids=["retina", "rcnn"]
)
def test_boxes_of_one_size_have_anchors(spec: Any, make: Any, side: float, shape: float) -> None:
    width, height = side / shape**0.5, side * shape**0.5
    boxes = boxes_of(min(width, SIZE[1]), min(height, SIZE[0]))
    anchors = anchors_of(make(spec, profile_of(boxes), SIZE))
    best = box_iou(boxes, anchors).amax(dim=1)
    assert (best >= 0.5).float().mean() >= 0.99


@pytest.mark.parametrize(
    ("spec", "make"), [(RETINANET, retinanet_options), (RCNN, rcnn_options)], ids=["retina", "rcnn"]
)
def test_boxes_of_many_sizes_have_anchors(spec: Any, make: Any) -> None:
    boxes = torch.cat([boxes_of(side, side * 1.2, 60) for side in (16, 24, 40, 70, 120, 220)])
    options = make(spec, profile_of(boxes), SIZE)
    best = box_iou(boxes, anchors_of(options)).amax(dim=1)
    assert (best >= 0.5).float().mean() >= 0.95
    assert [min(row) for row in options.anchor_sizes] == sorted(map(min, options.anchor_sizes))


@pytest.mark.parametrize("side", [6, 10, 16, 32, 64, 128, 300])
def test_every_box_has_points_that_learn_it(side: float) -> None:
    boxes = boxes_of(side, side, 40)
    options = fcos_options(FCOS, profile_of(boxes), SIZE)
    generator = LevelAnchors([[s] for s in options.strides], [1.0], options.strides)
    maps = [torch.zeros(1, 1, SIZE[0] // s, SIZE[1] // s) for s in options.strides]
    levels = generator.of_levels(maps)
    ends = [0.0, *options.range_ends, np.inf]
    lowest = torch.cat([torch.full((len(p),), end) for p, end in zip(levels, ends, strict=False)])
    highest = torch.cat(
        [torch.full((len(p),), end) for p, end in zip(levels, ends[1:], strict=True)]
    )
    points = torch.cat(levels)
    learnt = [int((match_points(points, box[None], lowest, highest) == 0).sum()) for box in boxes]
    assert min(learnt) >= 1
    assert np.median(learnt) >= 4 or side < 8


def test_points_without_boxes_learn_nothing() -> None:
    points = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    ends = torch.tensor([0.0]), torch.tensor([64.0])
    assert match_points(points, torch.zeros(0, 4), *ends).tolist() == [-1]


def scaled(side: float) -> BoxProfile:
    """Objects around `side` of the canvas' side."""
    return replace(
        TYPICAL, side_frac=(side * 0.8, side * 0.9, side, side * 1.1, side * 1.2), image_size=SIZE
    )


def test_small_objects_get_finer_levels_and_large_ones_coarser() -> None:
    for spec, make in [(FCOS, fcos_options), (RETINANET, retinanet_options), (RCNN, rcnn_options)]:
        strides = [make(spec, scaled(side), SIZE).strides for side in (0.02, 0.1, 0.3, 0.9)]
        assert strides[0][0] == 4
        assert [row[0] for row in strides] == sorted(row[0] for row in strides)
        assert strides[-1][-1] > strides[0][-1]
        assert all(len(row) >= 2 for row in strides)


def test_pyramid_is_half_as_wide_on_small_encoders() -> None:
    widths = {
        name: fcos_options(resolve(name), TYPICAL, SIZE).channels
        for name in [
            "fcos_tf_efficientnet_lite0_fpn",
            "fcos_mobilenetv4_conv_small_fpn",
            "fcos_resnet18_fpn",
            "fcos_resnet50.a1_in1k_fpn",
            "fcos_convnext_tiny_fpn",
        ]
    }
    assert list(widths.values()) == [128, 128, 128, 256, 256]


def test_odd_patches_have_odd_strides() -> None:
    spec = resolve("fcos_vit_small_patch14_dinov2_fpn")
    assert fcos_options(spec, scaled(0.02), (308, 448)).strides[0] == 7
    assert fcos_options(spec, scaled(0.1), (308, 448)).strides == [7, 14]


def test_full_images_get_more_candidates_proposals_and_masks() -> None:
    few = rcnn_options(RCNN, replace(TYPICAL, objects_p99=3.0), SIZE)
    many = rcnn_options(RCNN, replace(TYPICAL, objects_p99=317.0), SIZE)
    assert few.num_masks == 100
    assert many.num_masks == 476
    assert many.num_proposals >= 3 * many.num_masks
    assert many.num_candidates > few.num_candidates
    assert many.num_samples > few.num_samples
    assert max_detections(replace(TYPICAL, objects_p99=100_000.0)) <= 3000


def test_masks_are_drawn_finer_for_small_objects_while_there_is_memory() -> None:
    def stride(side: float, objects: float) -> int:
        profile = replace(scaled(side), objects_p99=objects)
        return rcnn_options(RCNN, profile, SIZE).mask_stride

    assert [stride(side, 10.0) for side in (0.05, 0.2, 0.5)] == [1, 2, 4]
    assert stride(0.05, 300.0) == 2


def test_coco_weights_keep_the_layout_that_they_were_trained_with() -> None:
    options = rcnn_options(resolve("fasterrcnn_resnet50_fpn"), TYPICAL, SIZE)
    assert options.channels == 256
    assert options.head_width == 1024
    assert all(len(sizes) == 1 for sizes in options.anchor_sizes)
    assert not retinanet_options(resolve("retinanet_resnet50_fpn"), TYPICAL, SIZE).group_norm


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"strides": [8, 16, 64]}, "twice"),
        ({"strides": []}, "strides"),
        ({"channels": 10**9}, "channels"),
        ({"num_candidates": 0}, "num_candidates"),
        ({"surprise": 1}, "surprise"),
        ({"range_ends": "far"}, "range_ends"),
        ({"range_ends": [1.0]}, "range_ends"),
    ],
)
def test_options_of_a_changed_manifest_are_refused(change: Any, expected: str) -> None:
    values = {"strides": [8, 16, 32], "channels": 128, "range_ends": [64.0, 128.0]}
    good = {**values, "num_candidates": 300}
    assert read_options(good, FcosOptions).channels == 128
    with pytest.raises(ModelFolderError, match=expected):
        read_options({**good, **change}, FcosOptions)


def test_anchor_sizes_are_one_row_a_level() -> None:
    good = msgspec.to_builtins(rcnn_options(RCNN, TYPICAL, SIZE))
    assert read_options(good, RcnnOptions) == rcnn_options(RCNN, TYPICAL, SIZE)
    with pytest.raises(ModelFolderError, match="anchor_sizes"):
        read_options({**good, "anchor_sizes": [[8.0]]}, RcnnOptions)
    ragged = [[8.0, 9.0], *good["anchor_sizes"][1:]]
    ragged[1] = [8.0]
    with pytest.raises(ModelFolderError, match="anchor_sizes"):
        read_options({**good, "anchor_sizes": ragged}, RcnnOptions)


def profile(
    size: tuple[int, int] = (480, 640),
    side: float = 0.2,
    aspects: tuple[float, float] | None = None,
) -> BoxProfile:
    aspect = size[0] / size[1]
    low, high = aspects or (aspect, aspect)
    return replace(
        TYPICAL,
        image_size=size,
        image_aspect=(low, low, aspect, high, high),
        side_frac=(side / 3, side / 2, side, 1.5 * side, 2 * side),
    )


def test_default_on_a_cpu_keeps_the_images_shape() -> None:
    spec = canvas_spec(LITE0, profile(), {}, is_cpu=True)
    assert spec.size == (320, 416)
    assert spec.keep_aspect
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)


def test_tall_images_get_tall_input() -> None:
    assert canvas_spec(LITE0, profile((640, 480)), {}, is_cpu=True).size == (416, 320)


def test_images_of_many_shapes_get_square_input() -> None:
    mixed = profile(aspects=(0.6, 1.6))
    assert canvas_spec(LITE0, mixed, {}, is_cpu=True).size == (416, 416)


def test_accelerator_takes_larger_input() -> None:
    assert canvas_spec(LITE0, profile(), {}, is_cpu=False).size == (480, 640)


@pytest.mark.parametrize(("is_cpu", "largest"), [(True, 640), (False, 1024)])
def test_small_objects_enlarge_the_input_up_to_a_limit(is_cpu: bool, largest: int) -> None:
    sides = [
        canvas_spec(LITE0, profile((1000, 1000), side), {}, is_cpu).width
        for side in (0.2, 0.055, 0.045, 0.035, 0.02, 0.001)
    ]
    assert sides == sorted(sides)
    assert sides[0] < sides[3]
    assert sides[-1] == largest


def test_image_size_is_the_longer_side() -> None:
    assert canvas_spec(LITE0, profile(), {"image_size": 640}, is_cpu=True).size == (480, 640)
    assert canvas_spec(LITE0, profile(), {"image_size": 250}, is_cpu=True).size == (192, 256)


@pytest.mark.parametrize("name", AZURE_DETECTORS)
def test_published_names_have_published_sizes(name: str) -> None:
    # 480 x 640 scaled by 600 / 480.
    assert canvas_spec(resolve(name), profile(), {}, is_cpu=True).size == (608, 800)


def test_min_and_max_size_bound_both_sides() -> None:
    wide = profile((200, 1000))
    assert canvas_spec(LITE0, wide, {"min_size": 300}, is_cpu=True).size == (288, 1344)
    assert canvas_spec(LITE0, wide, {"min_size": 300, "max_size": 640}, True).size == (128, 640)
    assert canvas_spec(LITE0, profile(), {"max_size": 320}, is_cpu=True).size == (256, 320)


def test_patches_decide_the_multiple() -> None:
    dinov2 = resolve("fcos_vit_small_patch14_dinov2_fpn")
    height, width = canvas_spec(dinov2, profile(), {}, is_cpu=True).size
    assert height % 28 == width % 28 == 0
    assert stride_unit(dinov2) == 0.875
    assert stride_unit(resolve("fcos_swinv2_base_window12_192_fpn")) == 1
    assert stride_unit(LITE0) == 1


def test_extreme_shapes_stay_inside_the_limits_of_a_manifest() -> None:
    for size in [(1, 10_000), (10_000, 1), (1, 1)]:
        height, width = canvas_spec(LITE0, profile(size, 0.0001), {}, is_cpu=False).size
        assert 64 <= height <= 1024
        assert 64 <= width <= 1024


def test_scale_into_the_canvas() -> None:
    assert fit_scale(profile(), (320, 416)) == pytest.approx(0.65)
