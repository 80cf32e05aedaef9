"""Detection: rows to targets, candidates to objects, settings, replies."""

import logging

import numpy as np
import pytest

from autofocus.data.rows.records import BoxLabel, DetectionRecord, ImageDetails
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import Detections
from autofocus.tasks.detection import ObjectDetection

TASK = ObjectDetection()
LABELS = ["can", "jar"]
SIZE = (100, 200)
EVERYTHING = {"box_score_threshold": 0.0, "nms_iou_threshold": 1.0}


def outputs(*candidates: tuple[list[float], float, int]) -> dict[str, np.ndarray]:
    """Return what a network emits for one image: boxes, scores, classes."""
    boxes, scores, classes = zip(*candidates, strict=True)
    return {
        "boxes": np.array([boxes], np.float32),
        "scores": np.array([scores], np.float32),
        "classes": np.array([classes], np.int64),
    }


def found(frame: Frame, settings: dict[str, float], *candidates) -> Detections:
    (prediction,) = TASK.postprocess(outputs(*candidates), [frame], settings)
    return prediction


def box(label: str, *corners: float, is_crowd: bool = False) -> BoxLabel:
    left, top, right, bottom = corners
    return BoxLabel(
        label=label, top_x=left, top_y=top, bottom_x=right, bottom_y=bottom, is_crowd=is_crowd
    )


def test_rows_become_targets() -> None:
    record = DetectionRecord(
        image_url="a.jpg",
        image_details=ImageDetails(width=200, height=100),
        label=[box("jar", 0.1, 0.2, 0.3, 0.4), box("can", 0, 0, 1, 1, is_crowd=True)],
    )
    target, negative = TASK.encode_targets(
        [record, DetectionRecord(image_url="b", label=[])], LABELS
    )
    assert target.xyxy_frac == pytest.approx(np.array([[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]))
    assert target.classes.tolist() == [1, 0]
    assert target.is_crowd.tolist() == [False, True]
    assert target.size == (100, 200)
    assert len(negative) == 0
    assert negative.size == (0, 0)


def test_the_classes_of_a_row_are_named_once_those_of_crowds_too() -> None:
    boxes = [box("jar", 0, 0, 1, 1), box("can", 0, 0, 1, 1, is_crowd=True), box("jar", 0, 0, 1, 1)]
    assert TASK.record_labels(DetectionRecord(image_url="a", label=boxes)) == ("jar", "can")


def test_low_scores_doubles_and_what_exceeds_the_cap_go() -> None:
    candidates = [
        ([0.1, 0.1, 0.4, 0.4], 0.6, 0),
        ([0.1, 0.1, 0.4, 0.41], 0.9, 0),  # a better double of the first
        ([0.1, 0.1, 0.4, 0.4], 0.5, 1),  # another class
        ([0.6, 0.6, 0.9, 0.9], 0.299, 0),
        ([0.6, 0.1, 0.9, 0.4], 0.3, 0),
    ]
    prediction = found(Frame(SIZE), {}, *candidates)
    assert prediction.scores == pytest.approx([0.9, 0.5, 0.3])
    assert prediction.classes.tolist() == [0, 1, 0]
    assert prediction.size == SIZE
    capped = found(Frame(SIZE), {"box_detections_per_image": 2}, *candidates)
    assert capped.scores == pytest.approx([0.9, 0.5])


def test_no_suppression_at_a_threshold_of_one() -> None:
    twice = [([0.1, 0.1, 0.4, 0.4], 0.6, 0)] * 2
    assert len(found(Frame(SIZE), {}, *twice)) == 1
    assert len(found(Frame(SIZE), {"nms_iou_threshold": 1}, *twice)) == 2


def test_boxes_are_placed_in_the_image_and_cut_to_it() -> None:
    candidates = [([0.0, 0.25, 0.5, 0.5], 0.9, 0), ([0.5, 0.5, 1.0, 1.0], 0.8, 0)]
    padded = found(Frame(SIZE, (0, 0, 1, 2)), {}, *candidates)
    assert padded.xyxy_frac == pytest.approx(np.array([[0, 0.5, 0.5, 1.0]]))
    tile = found(Frame(SIZE, (0.5, 0.5, 1.0, 1.0)), {}, *candidates)
    expected = np.array([[0.5, 0.625, 0.75, 0.75], [0.75, 0.75, 1.0, 1.0]])
    assert tile.xyxy_frac == pytest.approx(expected)


def test_boxes_that_are_none_go() -> None:
    candidates = [
        ([0.4, 0.4, 0.4, 0.8], 0.9, 0),
        ([0.8, 0.4, 0.4, 0.8], 0.9, 0),
        ([1.2, 0.1, 1.5, 0.4], 0.9, 0),
        ([np.nan, 0.1, 0.5, 0.4], 0.9, 0),
        ([0.1, 0.1, 0.5, 0.4], np.nan, 0),
    ]
    assert len(found(Frame(SIZE), EVERYTHING, *candidates)) == 0


def test_equal_scores_keep_the_networks_order() -> None:
    candidates = [([0.1 * i, 0.1, 0.1 * i + 0.1, 0.2], 0.5, 0) for i in range(8)]
    prediction = found(Frame(SIZE), {}, *candidates)
    assert prediction.xyxy_frac[:, 0] == pytest.approx(np.arange(8) / 10)


def test_a_reply_has_short_numbers_and_the_published_names() -> None:
    prediction = found(Frame(SIZE), {}, ([0.1, 0.2, 0.3, 0.4], 0.7, 1))
    corners = {"topX": 0.1, "topY": 0.2, "bottomX": 0.3, "bottomY": 0.4}
    assert TASK.encode(prediction, LABELS) == {
        "boxes": [{"box": corners, "label": "jar", "score": 0.7}]
    }


def test_one_line_for_people() -> None:
    def line(*scores: float) -> str:
        boxes = [{"label": "can", "score": score, "box": {}} for score in scores]
        return TASK.summarize({"boxes": boxes})

    assert line() == "no objects"
    assert line(0.981) == "1 object: can 0.98"
    assert line(0.9, 0.8) == "2 objects: can 0.90 · can 0.80"
    assert line(*[0.5] * 30).startswith("30 objects: can 0.50")
    assert line(*[0.5] * 30).endswith("can 0.50 · 22 more")


def test_a_class_without_a_label_is_refused() -> None:
    prediction = found(Frame(SIZE), {}, ([0.1, 0.2, 0.3, 0.4], 0.7, 2))
    with pytest.raises(ValueError, match="class 2 for 2 labels"):
        TASK.check_prediction(prediction, LABELS)
    TASK.check_prediction(prediction, [*LABELS, "lid"])


def test_a_new_model_finds_half_as_many_objects_again_as_the_data_has() -> None:
    assert TASK.default_settings(20, False, {})["box_detections_per_image"] == 100
    assert TASK.default_settings(301, False, {})["box_detections_per_image"] == 452
    assert TASK.default_settings(301, True, {})["box_detections_per_image"] == 100


def test_the_jobs_own_values_win_and_a_cap_that_cuts_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parameters = {"box_detections_per_image": 50, "nms_iou_threshold": 0.4, "learning_rate": 0.1}
    with caplog.at_level(logging.WARNING):
        settings = TASK.default_settings(301, False, parameters)
    assert settings["box_detections_per_image"] == 50
    assert settings["nms_iou_threshold"] == 0.4
    assert "learning_rate" not in settings
    assert "Set box_detections_per_image: 452" in caplog.text


def test_measuring_looks_at_scores_that_the_endpoint_does_not_return() -> None:
    settings = TASK.evaluation_settings({"box_score_threshold": 0.6, "nms_iou_threshold": 0.4})
    assert settings["box_score_threshold"] == 0.01
    assert settings["nms_iou_threshold"] == 0.4
    assert settings["box_detections_per_image"] == 100
    assert (
        TASK.evaluation_settings({"box_detections_per_image": 450})["box_detections_per_image"]
        == 450
    )


def test_metrics_take_the_decoded_size_and_the_endpoints_cut_offs() -> None:
    record = DetectionRecord(image_url="a", label=[box("can", 0.1, 0.1, 0.4, 0.4)])
    targets = TASK.encode_targets([record], LABELS)
    prediction = found(
        Frame(SIZE),
        TASK.evaluation_settings({}),
        ([0.1, 0.1, 0.4, 0.4], 0.8, 0),
        ([0.6, 0.6, 0.9, 0.9], 0.2, 0),
    )
    metrics = TASK.evaluate([prediction], targets, LABELS, {"validation_iou_threshold": 0.0})
    assert metrics["mean_average_precision"] == 1
    assert metrics["precision"] == 1
    low = TASK.evaluate([prediction], targets, LABELS, {"box_score_threshold": 0.1})
    assert low["precision"] == 0.5


@pytest.mark.parametrize(("asked", "used"), [(0.0, 0.1), (0.7, 0.7), (3.0, 1.0)])
def test_the_validation_overlap_is_clamped_as_published(asked: float, used: float) -> None:
    assert TASK.metric_options({"validation_iou_threshold": asked})["iou_threshold"] == used
