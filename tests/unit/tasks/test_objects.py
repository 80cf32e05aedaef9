"""What tasks of objects share: predictions of tiles as predictions of images, what is reported."""

from dataclasses import replace

import numpy as np
import pytest

from autofocus.data.batches.tiles import evaluation_entries
from autofocus.manifest import Tiling
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import ClassScores, Detections
from autofocus.structures.targets import BoxTarget
from autofocus.tasks import TASKS
from autofocus.tasks.detection import ObjectDetection

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
    merged = TASK.merge_images(predictions, entries, {})
    assert [len(prediction) for prediction in merged] == [1, 0, 2]
    boxes = merged[2].xyxy_frac[np.argsort(merged[2].xyxy_frac[:, 0])]
    np.testing.assert_allclose(boxes, [third, second], atol=1e-6)


def test_settings_say_how_many_and_how_alike() -> None:
    entries = evaluation_entries(1, Tiling(2, 1, 0.0))
    many = [[x / 10, 0.1, x / 10 + 0.05, 0.2] for x in range(4)]
    predictions = [found(*many), found(score=0.5), found()]
    (merged,) = TASK.merge_images(predictions, entries, {"box_detections_per_image": 3})
    assert len(merged) == 3
    predictions = [found([0.1, 0.1, 0.3, 0.3]), found([0.2, 0.1, 0.4, 0.3]), found()]
    for threshold, number in ((0.25, 1), (0.5, 2)):
        settings = {"tile_predictions_nms_threshold": threshold}
        (merged,) = TASK.merge_images(predictions, entries, settings)
        assert len(merged) == number


@pytest.mark.parametrize("name", TASKS)
def test_what_finds_objects_can_be_tiled(name: str) -> None:
    assert TASKS[name].finds_objects == ("boxes" in TASKS[name].response_columns)


def test_what_is_reported_are_the_first_objects_above_the_threshold() -> None:
    boxes = [[x / 10, 0.1, x / 10 + 0.05, 0.2] for x in range(4)]
    measured = replace(found(*boxes), scores=np.float32([0.9, 0.6, 0.3, 0.29]))
    assert len(TASK.reported(measured, {})) == 3, "0.3 in single precision is at the threshold"
    capped = TASK.reported(measured, {"box_detections_per_image": 2})
    np.testing.assert_array_equal(capped.xyxy_frac, measured.xyxy_frac[:2])


def test_each_class_may_have_a_threshold_of_its_own() -> None:
    boxes = [[x / 10, 0.1, x / 10 + 0.05, 0.2] for x in range(4)]
    classes = np.array([0, 1, 0, 1])
    measured = replace(found(*boxes), scores=np.float32([0.9, 0.8, 0.6, 0.3]), classes=classes)
    settings = {"score_thresholds": [0.7, 0.3], "box_score_threshold": 0.95}
    reported = TASK.reported(measured, settings)
    np.testing.assert_array_equal(reported.scores, np.float32([0.9, 0.8, 0.3]))
    outputs = {
        "boxes": measured.xyxy_frac[None],
        "scores": measured.scores[None],
        "classes": classes[None],
    }
    frames = [Frame((100, 200))]
    (served,) = TASK.postprocess(outputs, frames, settings)
    np.testing.assert_array_equal(served.scores, reported.scores)
    (all_,) = TASK.postprocess(outputs, frames, TASK.evaluation_settings(settings))
    assert len(all_) == 4, "what is measured knows no threshold"
    truth = BoxTarget(measured.xyxy_frac, np.array([0, 1, 1, 1]), np.zeros(4, bool), (100, 200))
    metrics = TASK.evaluate([measured], [truth], ["a", "b"], settings)
    assert (metrics["precision"], metrics["recall"]) == (1.0, (1 + 2 / 3) / 2)
    decisions = TASK.decisions([measured], [truth], ["a", "b"], settings)
    np.testing.assert_array_equal(decisions.is_right, [True, True, False, True])
    np.testing.assert_array_equal(decisions.true_classes, [0, 1, 1, 1])


def test_a_whole_image_is_reported_as_it_is_and_has_no_views() -> None:
    task, scores = TASKS["image_classification"], ClassScores(np.float32([0.2, 0.8]))
    assert task.reported(scores, {"box_score_threshold": 0.9}) is scores
    with pytest.raises(NotImplementedError, match="image_classification says what a whole image"):
        task.merge_views([scores], [(0.0, 0.0, 1.0, 1.0)], {})
