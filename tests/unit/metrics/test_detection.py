"""The published names together: which detections count for which, and the edges."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.errors import AutofocusError, DataError
from autofocus.metrics.detection import (
    MAX_CONFUSION_CLASSES,
    METRIC_TYPES,
    confusion_matrices,
    detection_metrics,
    image_level_metrics,
    segmentation_metrics,
)
from autofocus.metrics.matching import Matches
from autofocus.structures.predictions import Detections, Instances, Polygon
from autofocus.structures.targets import BoxTarget, OutlineTarget
from support.detection_scenes import LEFT, RIGHT, SIZE, found, match, random_scenes, truth

LABELS = ["cat", "dog"]
TABLES = {"per_label_metrics", "image_level_binary_classifier_metrics"}


def measure(
    predictions: list[Detections], targets: list[BoxTarget], **settings: Any
) -> dict[str, Any]:
    defaults = {"labels": LABELS, "score_threshold": 0.3, "max_detections": 100}
    return detection_metrics(predictions, targets, **{**defaults, **settings})


def scalars(metrics: dict[str, Any]) -> dict[str, float | None]:
    return {
        name: value for name, value in metrics.items() if value is None or isinstance(value, float)
    }


def is_table(name: str) -> bool:
    return name in TABLES or name.startswith(("pr_curve", "confusion_matrix_score_threshold_"))


def test_every_name_is_a_number_or_a_table_and_all_of_it_is_json() -> None:
    metrics = measure(*random_scenes(0, 20, 2))
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert set(metrics) == {name for name in metrics if is_table(name)} | set(scalars(metrics))
    assert {"pr_curve", "pr_curve_cat", "pr_curve_dog", *TABLES} < set(metrics)
    assert sum(name.startswith("confusion_matrix_score_threshold_") for name in metrics) == 10
    assert len([name for name in scalars(metrics) if name.startswith("coco_")]) == 12
    assert set(scalars(metrics)) > {"precision", "recall", "mean_average_precision"}
    assert metrics["mean_average_precision_50_95"] == metrics["coco_AP"]


def test_the_table_has_a_row_a_class_and_its_means_are_the_scalars() -> None:
    metrics = measure(*random_scenes(1, 30, 3), labels=["a", "b", "c", "absent"])
    table = metrics["per_label_metrics"]
    assert [row["class_name"] for row in table] == ["a", "b", "c", "absent"]
    assert list(table[3].values())[1:] == [None, None, None, None]
    for column, name in {
        "average_precision": "mean_average_precision",
        "average_precision_50_95": "mean_average_precision_50_95",
        "precision": "precision",
        "recall": "recall",
    }.items():
        assert metrics[name] == pytest.approx(np.mean([row[column] for row in table[:3]]))
        assert 0 < metrics[name] < 1


def test_settings_of_the_endpoint_move_precision_and_recall_only() -> None:
    scenes = random_scenes(2, 20, 2)
    all_of_it = measure(*scenes, score_threshold=0.0)
    strict = measure(*scenes, score_threshold=0.8)
    short = measure(*scenes, score_threshold=0.0, max_detections=2)
    assert strict["recall"] < all_of_it["recall"]
    assert short["recall"] < all_of_it["recall"]
    assert strict["precision"] > all_of_it["precision"]
    for name in scalars(all_of_it):
        if name not in ("precision", "recall"):
            assert strict[name] == short[name] == all_of_it[name], name


def test_metric_types_choose_the_primary_metric() -> None:
    scenes = random_scenes(3, 20, 2)
    of_type = {name: measure(*scenes, metric_type=name) for name in METRIC_TYPES}
    assert of_type["none"] == {"mean_average_precision": None}
    assert of_type["coco_voc"] == of_type["voc"]
    coco, voc = of_type["coco"], of_type["voc"]
    assert coco["mean_average_precision"] == pytest.approx(coco["coco_AP50"])
    assert voc["mean_average_precision"] != coco["mean_average_precision"]
    of_class = [row["average_precision"] for row in coco["per_label_metrics"]]
    assert np.mean(of_class) == pytest.approx(coco["coco_AP50"])
    assert {name for name in coco if coco[name] != voc[name]} == {
        "mean_average_precision",
        "per_label_metrics",
    }


def test_the_iou_threshold_is_that_of_voc() -> None:
    scenes = random_scenes(3, 20, 2)
    half, strict = measure(*scenes), measure(*scenes, iou_threshold=0.8)
    assert strict["mean_average_precision"] < half["mean_average_precision"]
    assert strict["recall"] < half["recall"]
    assert strict["coco_AP50"] == half["coco_AP50"]


def test_nothing_found() -> None:
    metrics = measure([found()], [truth((LEFT, 0))])
    expected = {"mean_average_precision", "mean_average_precision_50_95", "precision", "recall"}
    assert {name: metrics[name] for name in expected} == dict.fromkeys(expected, 0.0)
    assert metrics["coco_AP50"] == 0.0
    assert metrics["per_label_metrics"][0] == {
        "class_name": "cat",
        "precision": None,
        "recall": 0.0,
        "average_precision": 0.0,
        "average_precision_50_95": 0.0,
    }


def test_found_but_below_the_threshold_of_the_endpoint() -> None:
    metrics = measure([found((LEFT, 0.2, 0))], [truth((LEFT, 0))])
    assert metrics["mean_average_precision"] == 1.0
    assert metrics["coco_AP50"] == pytest.approx(1.0)
    assert metrics["precision"] == metrics["recall"] == 0.0


@pytest.mark.parametrize(
    "target", [truth(), truth((RIGHT, 1), crowds=(0,))], ids=["no objects", "only a crowd"]
)
@pytest.mark.parametrize("prediction", [found(), found((RIGHT, 0.9, 1))], ids=["none", "one"])
def test_nothing_to_find(target: BoxTarget, prediction: Detections) -> None:
    metrics = measure([prediction], [target])
    defined = {name for name, value in scalars(metrics).items() if value is not None}
    wrong = len(prediction) > 0 and not target.is_crowd.any()
    assert defined == ({"precision"} if wrong else set())
    assert metrics["precision"] == (0.0 if wrong else None)


def test_no_labels() -> None:
    metrics = measure([found()], [truth()], labels=[])
    assert set(scalars(metrics).values()) == {None}
    assert metrics["per_label_metrics"] == []


def test_no_images() -> None:
    with pytest.raises(DataError, match="at least 1 image"):
        measure([], [])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_network_that_diverged(bad: float) -> None:
    with pytest.raises(AutofocusError, match="for 1 of 2 images: the network diverged"):
        measure([found((LEFT, bad, 0)), found()], [truth(), truth()])
    with pytest.raises(AutofocusError, match="for 1 of 2 images: the network diverged"):
        measure([found(([0, 0, bad, 1], 0.5, 0)), found()], [truth(), truth()])


def rectangle(box: NDArray[np.float32]) -> Polygon:
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return (np.array(corners, np.float32),)


def test_outlines_that_fill_their_boxes_measure_as_boxes_do() -> None:
    """On whole pixels of a 128 x 128 image, so that masks and boxes are exactly the same areas."""
    size = (128, 128)
    predictions, targets = random_scenes(5, 25, 2)

    def whole(box: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.round(box * 128) / 128, np.float32)

    boxes = [
        Detections(whole(each.xyxy_frac), each.scores, each.classes, size) for each in predictions
    ]
    truths = [
        BoxTarget(whole(each.xyxy_frac), each.classes, each.is_crowd, size) for each in targets
    ]
    instances = [
        Instances(
            each.xyxy_frac, each.scores, each.classes, size, tuple(map(rectangle, each.xyxy_frac))
        )
        for each in boxes
    ]
    outlines = [
        OutlineTarget(
            each.xyxy_frac, each.classes, each.is_crowd, size, tuple(map(rectangle, each.xyxy_frac))
        )
        for each in truths
    ]
    settings = {"labels": LABELS, "score_threshold": 0.3, "max_detections": 100}
    of_masks = segmentation_metrics(instances, outlines, **settings)
    of_boxes = measure(boxes, truths)
    assert of_masks["mean_average_precision"] > 0.2
    for name, value in scalars(of_boxes).items():
        assert of_masks[name] == pytest.approx(value, abs=1e-6), name
    assert of_masks["pr_curve"] == of_boxes["pr_curve"]


def test_masks_are_compared_and_not_their_boxes() -> None:
    """Two triangles that fill one box together: IoU 1 as boxes, none as masks."""
    box, classes = np.array([[0, 0, 1, 1]], np.float32), np.zeros(1, np.int64)
    upper = np.array([(0, 0), (1, 0), (0, 1)], np.float32)
    lower = np.array([(1, 0), (1, 1), (0, 1)], np.float32)
    instances = [Instances(box, np.ones(1, np.float32), classes, SIZE, ((lower,),))]
    outlines = [OutlineTarget(box, classes, np.zeros(1, np.bool_), SIZE, ((upper,),))]
    settings = {"labels": LABELS, "score_threshold": 0.3, "max_detections": 100}
    of_masks = segmentation_metrics(instances, outlines, **settings)
    assert of_masks["mean_average_precision"] == of_masks["coco_AP50"] == 0.0
    of_boxes = detection_metrics(instances, outlines, **settings)
    assert of_boxes["mean_average_precision"] == 1.0
    assert of_boxes["coco_AP50"] == pytest.approx(1.0)
    unmeasured = segmentation_metrics(instances, outlines, **settings, metric_type="none")
    assert unmeasured == {"mean_average_precision": None}


def matrix_at(tables: dict[str, Any], threshold: float) -> list[list[int]]:
    matrix: list[list[int]] = tables[f"confusion_matrix_score_threshold_{threshold}"]["data"][
        "matrix"
    ]
    return matrix


def test_objects_are_counted_by_what_they_were_taken_for() -> None:
    predictions = [found((LEFT, 0.9, 1), (LEFT, 0.6, 0), (RIGHT, 0.4, 1)), found()]
    targets = [truth((LEFT, 0), (RIGHT, 1)), truth((LEFT, 1))]
    tables = confusion_matrices(match(predictions, targets), ["cat", "dog"])
    assert list(tables) == [f"confusion_matrix_score_threshold_0.{i}" for i in range(10)]
    first = tables["confusion_matrix_score_threshold_0.0"]
    assert first["schema_type"] == "confusion_matrix"
    assert first["data"]["class_labels"] == ["cat", "dog", "Missed"]
    # The cat is taken for a dog: of the detections on it that one has the highest score.
    assert matrix_at(tables, 0.0) == [[0, 1, 0], [0, 1, 1]]
    # A score of 0.4 reaches the threshold 0.4.
    assert matrix_at(tables, 0.4) == [[0, 1, 0], [0, 1, 1]]
    assert matrix_at(tables, 0.5) == [[0, 1, 0], [0, 0, 2]]
    assert matrix_at(tables, 0.9) == [[0, 1, 0], [0, 0, 2]]


def test_detections_of_nothing_have_no_row() -> None:
    tables = confusion_matrices(match([found((LEFT, 0.9, 0))], [truth((RIGHT, 1))]), ["a", "b"])
    assert matrix_at(tables, 0.0) == [[0, 0, 0], [0, 0, 1]]


def test_crowds_have_no_row_and_what_lies_on_them_no_column() -> None:
    matches = match(
        [found((LEFT, 0.9, 0), (RIGHT, 0.8, 0))], [truth((LEFT, 0), (RIGHT, 0), crowds=(0,))]
    )
    assert matrix_at(confusion_matrices(matches, ["a", "b"]), 0.0) == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("classes", [(0, 1), (1, 0)])
def test_two_objects_in_one_place_each_get_the_detection_of_their_class(
    classes: tuple[int, int],
) -> None:
    matches = match(
        [found((LEFT, 0.9, classes[0]), (LEFT, 0.8, classes[1]))], [truth((LEFT, 0), (LEFT, 1))]
    )
    assert matrix_at(confusion_matrices(matches, ["a", "b"]), 0.0) == [[1, 0, 0], [0, 1, 0]]


def test_more_classes_than_anybody_can_look_at() -> None:
    labels = [str(i) for i in range(MAX_CONFUSION_CLASSES + 1)]
    matches = match([found((LEFT, 0.9, 0))], [truth((LEFT, 0))], k=len(labels))
    assert confusion_matrices(matches, labels) == {}


def test_matrices_of_no_classes() -> None:
    assert matrix_at(confusion_matrices(match([found()], [truth()], k=0), []), 0.0) == []


def measure_images(matches: Matches, score_threshold: float = 0.0) -> tuple[float | None, ...]:
    metrics = image_level_metrics(matches, matches.kept(score_threshold, 100))
    return metrics["average_precision"], metrics["precision"], metrics["recall"]


def test_an_image_is_found_by_its_best_right_detection() -> None:
    """The wrong detection of higher score on the same image does not count."""
    rows = found((RIGHT, 0.9, 0), (LEFT, 0.6, 0))
    assert measure_images(match([rows], [truth((LEFT, 0))])) == (1.0, 1.0, 1.0)


def test_a_false_alarm_before_the_right_image_halves_the_precision() -> None:
    predictions = [found((LEFT, 0.25, 1)), found((LEFT, 0.75, 1))]
    targets = [truth((LEFT, 1), (RIGHT, 1)), truth((RIGHT, 1))]
    assert measure_images(match(predictions, targets)) == (0.25, 0.5, 0.5)


def test_images_of_one_score_share_a_point() -> None:
    """One of three images found and one false alarm, at one score: 1/3 x 1/2."""
    predictions = [found((LEFT, 0.5, 0)), found((LEFT, 0.5, 1)), found(), found()]
    targets = [truth((LEFT, 0)), truth(), truth((LEFT, 1), (RIGHT, 1)), truth((RIGHT, 0))]
    expected = (1 / 6, 1 / 2, 1 / 3)
    assert measure_images(match(predictions, targets)) == pytest.approx(expected)
    backwards = match(predictions[::-1], targets[::-1])
    assert measure_images(backwards) == pytest.approx(expected)


def test_the_threshold_moves_precision_and_recall_only() -> None:
    predictions = [found((LEFT, 0.9, 0)), found((LEFT, 0.2, 0)), found((LEFT, 0.1, 0))]
    targets = [truth((LEFT, 0)), truth((LEFT, 0)), truth()]
    assert measure_images(match(predictions, targets)) == (1.0, 2 / 3, 1.0)
    assert measure_images(match(predictions, targets), 0.5) == (1.0, 1.0, 0.5)


def test_nothing_to_find_and_nothing_found() -> None:
    assert measure_images(match([found()], [truth()])) == (None, None, None)
    assert measure_images(match([found()], [truth((LEFT, 0))])) == (0.0, None, 0.0)
    assert measure_images(match([found((LEFT, 0.9, 0))], [truth()])) == (None, 0.0, None)


def test_crowds_are_no_objects_of_an_image_and_what_lies_on_them_is_no_alarm() -> None:
    matches = match([found((LEFT, 0.9, 0))], [truth((LEFT, 0), crowds=(0,))])
    assert measure_images(matches) == (None, None, None)
