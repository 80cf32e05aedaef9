"""Outlines and run lengths against pycocotools; masks placed in boxes against torchvision."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from autofocus.structures.contours import mask_rings
from autofocus.structures.masks import decode_rle
from autofocus.structures.polygons import rasterize
from autofocus.tasks.instance_segmentation import outline_in_box

NUCLEI = Path(__file__).parents[2] / "../shared/data/nuclei-masks/masks"

# pycocotools 2.0.11 under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def drawn_by_coco(rings, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Rasterise rings in pixels; where they overlap is a hole."""
    drawn = np.zeros(size, np.uint8)
    for ring in rings:
        points = np.asarray(ring, np.float64).ravel().tolist()
        drawn ^= coco_mask.decode(coco_mask.frPyObjects([points], *map(int, size)))[:, :, 0]
    return drawn


def star(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a ring in fractions around the middle, with 3 to 40 points."""
    num = rng.integers(3, 40)
    angles, radii = np.sort(rng.random(num)) * 2 * np.pi, rng.uniform(0.2, 0.48, num)
    points = np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], axis=1)
    return points.astype(np.float32)


def blob(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask of several parts with smooth edges and holes."""
    noise = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), size[0] / 12)
    return noise > np.quantile(noise, rng.uniform(0.4, 0.8))


def test_run_lengths_are_those_of_pycocotools(rng) -> None:
    for density in np.linspace(0, 1, 60):
        mask = rng.random(tuple(rng.integers(1, 40, 2))) < density
        theirs = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        assert (decode_rle(theirs) == mask).all()


def test_run_lengths_of_many_thousands() -> None:
    mask = np.zeros((2000, 1500), np.bool_)
    mask[3:1998, 2:1400] = True
    mask[500, 700:] = False
    assert (decode_rle(coco_mask.encode(np.asfortranarray(mask, np.uint8))) == mask).all()


def test_pixels_differ_from_coco_only_within_a_fifth_of_a_pixel_of_the_outline(rng) -> None:
    # frPyObjects rounds points to fifths of a pixel.
    for _ in range(100):
        ring, (height, width) = star(rng), tuple(rng.integers(10, 150, 2))
        pixels = ring * np.array([width, height], np.float32)
        (ours,) = rasterize([(ring,)], (height, width))
        for y, x in np.argwhere(ours != drawn_by_coco([pixels], (height, width))):
            assert abs(cv2.pointPolygonTest(pixels, (x + 0.5, y + 0.5), True)) < 0.2


def test_outlines_along_pixel_edges_are_drawn_alike(rng) -> None:
    for (left, top), (right, bottom) in np.sort(rng.integers(0, 33, (50, 2, 2)), axis=1):
        ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        (ours,) = rasterize([(ring / 32,)], (32, 32))
        assert (ours == drawn_by_coco([ring], (32, 32))).all()


def test_polygons_of_blobs_keep_their_masks(rng) -> None:
    overlaps = []
    for _ in range(40):
        mask = blob(rng, (rng.integers(30, 200), rng.integers(30, 200)))
        drawn = drawn_by_coco(mask_rings(mask, 100), mask.shape) > 0
        overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
    assert np.median(overlaps) >= 0.97
    assert np.percentile(overlaps, 5) >= 0.95


def test_polygons_of_nuclei_keep_their_masks() -> None:
    paths = sorted(NUCLEI.glob("*.png"))[:4]
    if not paths:
        pytest.skip(f"no masks in {NUCLEI}")
    overlaps = []
    for path in paths:
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for number in np.unique(ids)[1:]:
            mask = ids == number
            if mask.sum() >= 100:
                drawn = drawn_by_coco(mask_rings(mask, 100), mask.shape) > 0
                overlaps.append((drawn & mask).sum() / (drawn | mask).sum())
    assert np.median(overlaps) >= 0.97
    assert np.percentile(overlaps, 5) >= 0.95


@pytest.mark.parametrize("box", [(20.3, 10.2, 80.7, 60.9), (-15, -5, 50, 45), (60, 30, 140, 110)])
def test_masks_in_boxes_lie_where_torchvision_pastes_them(box) -> None:
    probs = cv2.GaussianBlur(np.pad(np.ones((16, 12), np.float32), ((6, 6), (8, 8))), (0, 0), 3)
    size = (90, 120)
    pasted = paste_masks_in_image(
        torch.from_numpy(probs)[None, None], torch.tensor([box], dtype=torch.float32), size
    )
    expected = pasted[0, 0].numpy() > 0.5
    fractions = np.array(box) / (120, 90, 120, 90)
    outline = outline_in_box(probs, fractions, size, 0.5, 100)
    drawn = rasterize([outline], size)[0] > 0
    # torchvision rounds boxes to whole pixels.
    assert (drawn & expected).sum() / (drawn | expected).sum() > 0.93
    assert np.abs(np.argwhere(drawn).mean(axis=0) - np.argwhere(expected).mean(axis=0)).max() < 0.6
