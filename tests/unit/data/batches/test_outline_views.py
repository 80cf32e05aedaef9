"""Masks stay on the pixels of their objects, and take no more memory than the loss needs."""

import dataclasses
import tracemalloc

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import OUTLINE_PRESETS, BoxAugmentation
from autofocus.data.batches.order import view_rng
from autofocus.data.batches.outline_views import OutlineViews
from autofocus.manifest import ResizeFit
from autofocus.structures.predictions import Polygon
from autofocus.structures.targets import MaskTarget, OutlineTarget
from support.drawn_objects import assert_shows, read_of

RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SPEC = ResizeFit(height=128, width=160, **RAW)
STRICT = {"keep_frac": 0.0, "brightness": 0.0, "contrast": 0.0}
DRAWN = {name: params for name, params in OUTLINE_PRESETS.items() if params is not None}
# A pixel of the file is never much larger than one of the canvas.
SIZES = [(240, 300), (300, 220), (256, 256), (700, 900)]


def rng(index: int = 0) -> np.random.Generator:
    return view_rng(0, 0, index)


def star(number: int) -> Polygon:
    """Return a concave outline with a hole, in fractions."""
    chance = np.random.default_rng(number)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False) + chance.uniform(0, 1)
    radii = np.where(np.arange(16) % 2, 0.2, 0.34)
    middle = chance.uniform(0.35, 0.65, 2)
    outer = middle + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    hole = middle + 0.07 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return outer.astype(np.float32), hole.astype(np.float32)


def outline_target(
    polygons: list[Polygon], classes: list[int], size: tuple[int, int], crowd: tuple = ()
) -> OutlineTarget:
    points = [np.concatenate(rings) if rings else np.zeros((1, 2)) for rings in polygons]
    boxes = [np.concatenate([each.min(axis=0), each.max(axis=0)]) for each in points]
    return OutlineTarget(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array([i in crowd for i in range(len(classes))], np.bool_),
        size,
        tuple(polygons),
    )


def one_object(size: tuple[int, int], number: int) -> tuple[NDArray[np.uint8], OutlineTarget]:
    height, width = size
    polygon = star(number)
    image = np.zeros((*size, 3), np.uint8)
    rings = [np.rint((ring * (width, height) - 0.5) * 16).astype(np.int32) for ring in polygon]
    color = [0, 0, 0]
    color[number % 3] = 255
    cv2.fillPoly(image, rings, color, shift=4)
    return image, outline_target([polygon], [number % 3], size)


def by_class(target: MaskTarget, size: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    masks: dict[int, NDArray[np.bool_]] = {}
    for mask, label in zip(target.masks, target.classes.tolist(), strict=True):
        masks[label] = masks.get(label, np.zeros(size, np.bool_)) | (mask > 0)
    return masks


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("mosaic_prob", [0.0, 1.0])
def test_masks_and_boxes_are_where_the_pixels_are(name: str, mosaic_prob: float) -> None:
    params = dataclasses.replace(DRAWN[name], **STRICT, mosaic_prob=mosaic_prob, size_jitter=0.0)
    images, targets = zip(*[one_object(SIZES[i % 4], i) for i in range(8)], strict=True)
    views = OutlineViews(SPEC, targets, params, stride=1)
    read = read_of(list(images), views)
    num_found = 0
    for number in range(32):
        out = np.full((128, 160, 3), np.nan, np.float32)
        target, _ = views.draw(number % 8, read, rng(number), out)
        assert np.isfinite(out).all()
        assert_shows(out, by_class(target, (128, 160)))
        for mask, box in zip(target.masks, target.xyxy_frac, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            # A thin point of a star may hold no pixel's centre.
            assert np.abs(box * (160, 128, 160, 128) - drawn).max() < 3
        num_found += len(target)
    assert num_found > 28


def test_a_cut_object_has_the_box_of_its_visible_part() -> None:
    """An L whose foot leaves the canvas: its box becomes that of the upright."""
    size = (100, 100)
    corner = np.array([(10, 10), (30, 10), (30, 60), (150, 60), (150, 70), (10, 70)]) / 200
    target = outline_target([(corner.astype(np.float32),)], [1], size)
    params = BoxAugmentation(
        whole_prob=0, zoom_range=(2.0, 2.0), min_shown_fracs=(1.0,), flip_prob=0
    )
    views = OutlineViews(ResizeFit(height=100, width=100, **RAW), [target], params, stride=1)
    image = np.zeros((*size, 3), np.uint8)
    cuts = 0
    for number in range(20):
        out = np.empty((100, 100, 3), np.float32)
        found, _ = views.draw(0, read_of([image], views), rng(number), out)
        if not len(found):
            continue
        (mask,), (box,) = found.masks, found.xyxy_frac * 100
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        np.testing.assert_allclose(
            box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1
        )
        cuts += bool((box[[0, 1]] == 0).any() or (box[[2, 3]] == 100).any())
    assert cuts > 5


def test_evaluation_masks_are_the_outlines_of_the_image() -> None:
    size = (200, 300)
    image, target = one_object(size, 1)
    views = OutlineViews(SPEC, [target])
    out = np.empty((128, 160, 3), np.float32)
    found, frame = views.draw(0, read_of([image], views), rng(), out)
    assert found.size == (128, 160)
    assert found.masks.shape == (1, 32, 40)
    assert found.masks.dtype == np.uint8
    np.testing.assert_allclose(frame.boxes_to_image(found.xyxy_frac), target.xyxy_frac, atol=1e-6)
    # 300 x 200 fills 160 x 106.67 pixels: of each cell's centre, what the image shows there.
    rows, columns = np.nonzero(found.masks[0])
    cells = np.stack([columns + 0.5, rows + 0.5], axis=1) / (40, 32)
    points = frame.points_to_image(cells) * (300, 200)
    assert (image[points[:, 1].astype(int), points[:, 0].astype(int), 1] == 255).mean() > 0.97
    share = found.masks.sum() * 16 / (160 * 107)
    assert share == pytest.approx((image[:, :, 1] > 0).mean(), rel=0.05)


def test_crowds_and_objects_without_outline_are_left_out() -> None:
    polygons = [star(0), star(1), (), star(2)]
    target = outline_target(polygons, [0, 1, 2, 2], (100, 100), crowd=(1,))
    image = np.zeros((100, 100, 3), np.uint8)
    for params in (None, BoxAugmentation(whole_prob=1)):
        views = OutlineViews(SPEC, [target], params)
        out = np.empty((128, 160, 3), np.float32)
        found, _ = views.draw(0, read_of([image], views), rng(), out)
        assert found.classes.tolist() == [0, 2]
        assert found.masks.any(axis=(1, 2)).all()


def test_a_negative_image_has_no_masks() -> None:
    views = OutlineViews(SPEC, [outline_target([], [], (100, 100))], DRAWN["strong"])
    out = np.empty((128, 160, 3), np.float32)
    found, _ = views.draw(0, read_of([np.zeros((100, 100, 3), np.uint8)], views), rng(), out)
    assert found.masks.shape == (0, 32, 40)
    assert found.xyxy_frac.shape == (0, 4)


def test_an_object_smaller_than_a_cell_has_one() -> None:
    dot = np.array([(0.5, 0.5), (0.515, 0.5), (0.515, 0.515), (0.5, 0.515)], np.float32)
    corner = np.array([(0.99, 0.985), (1, 0.985), (1, 1), (0.99, 1)], np.float32)
    target = outline_target([(dot,), (corner,)], [0, 1], (128, 160))
    views = OutlineViews(SPEC, [target], stride=8)
    out = np.empty((128, 160, 3), np.float32)
    image = np.zeros((128, 160, 3), np.uint8)
    found, _ = views.draw(0, read_of([image], views), rng(), out)
    assert found.masks.sum(axis=(1, 2)).tolist() == [1, 1]
    assert np.argwhere(found.masks).tolist() == [[0, 8, 10], [1, 15, 19]]


def test_three_hundred_objects_take_memory_for_their_masks_and_little_more() -> None:
    chance = np.random.default_rng(0)
    around = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(around), np.sin(around)], axis=1) * 0.03
    polygons = [
        ((middle + circle).astype(np.float32),) for middle in chance.uniform(0, 1, (300, 2))
    ]
    polygons = [(ring.clip(0, 1),) for (ring,) in polygons]
    target = outline_target(polygons, [0] * 300, (480, 640))
    spec = ResizeFit(height=640, width=640)
    image = np.zeros((480, 640, 3), np.uint8)
    for params in (None, dataclasses.replace(DRAWN["strong"], mosaic_prob=1.0)):
        views = OutlineViews(spec, [target], params)
        read, out = read_of([image], views), np.empty((640, 640, 3), np.float32)
        tracemalloc.start()
        try:
            found, _ = views.draw(0, read, rng(), out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(found) > 250
        assert found.masks.nbytes == len(found) * 160 * 160
        # OpenCV's images, three of the canvas at most, are not traced by Python.
        assert peak < 2.5 * found.masks.nbytes
        assert peak < 0.2 * len(found) * 640 * 640


def test_masks_of_several_canvas_sizes_follow_the_canvas() -> None:
    images, targets = zip(*[one_object((100, 130), i) for i in range(3)], strict=True)
    views = OutlineViews(SPEC, targets, dataclasses.replace(DRAWN["medium"], whole_prob=1))
    read = read_of(list(images), views)
    for size in ((96, 128), (160, 192)):
        out = np.empty((*size, 3), np.float32)
        found, _ = views.draw(1, read, rng(), out)
        assert found.size == size
        assert found.masks.shape == (1, size[0] // 4, size[1] // 4)
