"""Suppression keeps exactly what torchvision's keeps."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms, box_iou

from autofocus.structures import boxes, overlaps


def scattered(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Return small boxes anywhere: few of them go."""
    centres, sides = rng.random((num, 2)) * 1000, rng.uniform(10, 100, (num, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


def clustered(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Return what a detector emits: many boxes around each of a few objects."""
    objects = scattered(rng, 30)[rng.integers(30, size=num)]
    return objects + rng.normal(size=(num, 4), scale=3).astype(np.float32)


def spread(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Return boxes of every size, so that groups of neighbours bound little."""
    corners = np.sort(rng.random((num, 2, 2)) * 1000, axis=1)
    return corners.reshape(num, 4).astype(np.float32)


@pytest.mark.parametrize("num_classes", [1, 7, 80])
@pytest.mark.parametrize("num", [1, 200, 3000])
@pytest.mark.parametrize("make", [scattered, clustered, spread])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_same_boxes_in_the_same_order_as_torchvision(make, num, num_classes, threshold) -> None:
    rng = np.random.default_rng(num + num_classes)
    xyxy, classes = make(rng, num), rng.integers(num_classes, size=num)
    # Rounded, so that many scores are equal.
    scores = np.round(rng.random(num), 2).astype(np.float32)
    ours = boxes.nms(xyxy, scores, classes, threshold)
    theirs = batched_nms(*map(torch.from_numpy, (xyxy, scores, classes)), threshold).numpy()
    # torchvision orders equal scores at random.
    assert sorted(ours) == sorted(theirs)
    assert (np.lexsort((ours, -scores[ours])) == np.arange(len(ours))).all()
    assert boxes.nms(xyxy, scores, classes, threshold, 50).tolist() == ours[:50].tolist()


def test_the_way_by_pairs_is_taken_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []

    def spy(*args):
        pairs = overlaps.overlapping_pairs(*args)
        outcomes.append(pairs is not None)
        return pairs

    monkeypatch.setattr(boxes, "overlapping_pairs", spy)
    rng = np.random.default_rng(0)
    for make, num in ((scattered, 3000), (clustered, 3000), (spread, 6000)):
        xyxy = make(rng, num)
        scores = rng.random(num).astype(np.float32)
        boxes.nms(xyxy, scores, np.zeros(num, np.int64), 0.5)
    assert outcomes == [True, False]


def test_iou_is_torchvisions() -> None:
    rng = np.random.default_rng(0)
    a, b = scattered(rng, 200), spread(rng, 300)
    expected = box_iou(torch.from_numpy(a).double(), torch.from_numpy(b).double()).numpy()
    assert boxes.box_iou(a, b) == pytest.approx(expected, abs=1e-12)
