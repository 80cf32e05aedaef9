from typing import Any

import pytest

from autofocus.metrics.confusion import MAX_CLASSES, confusion_matrices
from support.detection_scenes import LEFT, RIGHT, found, match, truth


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
    labels = [str(i) for i in range(MAX_CLASSES + 1)]
    matches = match([found((LEFT, 0.9, 0))], [truth((LEFT, 0))], k=len(labels))
    assert confusion_matrices(matches, labels) == {}


def test_no_classes() -> None:
    assert matrix_at(confusion_matrices(match([found()], [truth()], k=0), []), 0.0) == []
