"""Predictions of tiles as predictions of images."""

import numpy as np
import pytest

from autofocus.data.batches.tiles import evaluation_entries
from autofocus.manifest import Tiling
from autofocus.structures.predictions import Detections
from autofocus.tasks import TASKS
from autofocus.tasks.detection import ObjectDetection
from autofocus.tasks.tiles import can_tile, merge_images

TASK = ObjectDetection()


def found(*boxes: list[float], score: float = 0.9) -> Detections:
    num = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(num, score, np.float32),
        np.zeros(num, np.int64),
        (100, 200),
    )


def test_views_of_an_image_become_one_prediction_in_order() -> None:
    entries = evaluation_entries(3, Tiling(2, 1, 0.0))
    first, second, third = [0.1, 0.1, 0.2, 0.2], [0.7, 0.1, 0.8, 0.2], [0.45, 0.5, 0.55, 0.6]
    halves = [0.45, 0.5, 0.5, 0.6], [0.5, 0.5, 0.55, 0.6]
    predictions = [
        *(found(first), found(first), found()),
        *(found(), found(), found()),
        *(found(), found(halves[0]), found(second, halves[1])),
    ]
    merged = merge_images(TASK, predictions, entries, {})
    assert [len(prediction) for prediction in merged] == [1, 0, 2]
    boxes = merged[2].xyxy_frac[np.argsort(merged[2].xyxy_frac[:, 0])]
    np.testing.assert_allclose(boxes, [third, second], atol=1e-6)


def test_settings_say_how_many_and_how_alike() -> None:
    entries = evaluation_entries(1, Tiling(2, 1, 0.0))
    many = [[x / 10, 0.1, x / 10 + 0.05, 0.2] for x in range(4)]
    predictions = [found(*many), found(score=0.5), found()]
    (merged,) = merge_images(TASK, predictions, entries, {"box_detections_per_image": 3})
    assert len(merged) == 3
    predictions = [found([0.1, 0.1, 0.3, 0.3]), found([0.2, 0.1, 0.4, 0.3]), found()]
    for threshold, number in ((0.25, 1), (0.5, 2)):
        settings = {"tile_predictions_nms_threshold": threshold}
        (merged,) = merge_images(TASK, predictions, entries, settings)
        assert len(merged) == number


@pytest.mark.parametrize("name", TASKS)
def test_what_finds_objects_can_be_tiled(name: str) -> None:
    assert can_tile(TASKS[name]) == ("boxes" in TASKS[name].response_columns)
