"""Insertion and deletion of boxes, on a detector that looks at one place."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.explain.base import FoundBoxes
from autofocus.explain.measures import NUM_STEPS, box_insertion_deletion
from autofocus.structures.frames import Frame

BOX = FoundBoxes(np.array([[0.25, 0.25, 0.5, 0.5]], np.float32), np.array([1]))
SIZE = 32, 48
# Of the canvas, the rest of which is padding.
SHOWN = 32, 40
PLACE = np.s_[8:16, 12:20]


def detect(images: NDArray[np.float32]) -> dict[str, Any]:
    """Find the box as surely as the place is bright, and something else always."""
    seen = images[..., *PLACE].mean(axis=(1, 2, 3))
    num = len(images)
    boxes = np.repeat(np.array([[[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1]]], np.float32), num, 0)
    scores = np.stack([seen.clip(0, 1), np.ones(num)], axis=1).astype(np.float32)
    return {"boxes": boxes, "scores": scores, "classes": np.repeat([[1, 0]], num, 0)}


@pytest.fixture
def canvas() -> NDArray[np.float32]:
    canvas = np.zeros((3, *SIZE), np.float32)
    canvas[:, *PLACE] = 1
    return canvas


def areas(canvas: NDArray[np.float32], saliency: NDArray[np.float32]) -> tuple[float, float]:
    return box_insertion_deletion(detect, canvas, Frame(SIZE), BOX, saliency, seed=3)


def test_the_map_of_what_is_looked_at_is_better_than_any_other(
    canvas: NDArray[np.float32],
) -> None:
    truth = np.zeros(SHOWN, np.float32)
    truth[PLACE] = 1
    flat = np.zeros(SHOWN, np.float32)
    best, none, worst = areas(canvas, truth), areas(canvas, flat), areas(canvas, -truth)
    assert best[0] > none[0] > worst[0]
    assert best[1] < none[1] < worst[1]
    assert all(0 <= area <= 1 for pair in (best, none, worst) for area in pair)
    # The place is a twentieth of the image: all of it goes in the first two steps.
    assert best[1] < 2 / NUM_STEPS
    assert worst[1] > 1 - 2 / NUM_STEPS


def test_it_is_the_box_that_is_followed(canvas: NDArray[np.float32]) -> None:
    flat = np.zeros(SHOWN, np.float32)
    elsewhere = FoundBoxes(np.array([[0.6, 0.6, 0.9, 0.9]], np.float32), np.array([1]))
    assert box_insertion_deletion(detect, canvas, Frame(SIZE), elsewhere, flat) == (0, 0)
    # The whole canvas is half of this image, and finding it depends on no pixel.
    always = FoundBoxes(np.array([[0, 0, 0.5, 1]], np.float32), np.array([0]))
    frame = Frame((32, 96), (0.0, 0.0, 0.5, 1.0))
    assert box_insertion_deletion(detect, canvas, frame, always, flat) == (1, 1)
