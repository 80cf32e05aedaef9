import math

import numpy as np
import pytest

from autofocus.errors import AutofocusError, DataError
from autofocus.metrics import classification
from autofocus.metrics.classification import (
    multiclass_metrics,
    multilabel_metrics,
)
from autofocus.runtime import plain
from autofocus.tasks import TASKS

LABELS = ["can", "carton", "jug"]
TARGETS = np.array([0, 0, 1, 2])
PROBS = np.array(
    [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=np.float32
)
SETS = np.array([[1, 0], [1, 1], [0, 0]])
SET_PROBS = np.array([[0.9, 0.6], [0.4, 0.7], [0.2, 0.1]], dtype=np.float32)


def has_only_finite_values(value: object) -> bool:
    if isinstance(value, dict):
        return all(has_only_finite_values(item) for item in value.values())
    if isinstance(value, list):
        return all(has_only_finite_values(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def test_multiclass_by_hand() -> None:
    metrics = multiclass_metrics(TARGETS, PROBS, LABELS)
    assert metrics["accuracy"] == 0.75
    assert metrics["recall_score_classwise"] == {"can": 0.5, "carton": 1.0, "jug": 1.0}
    assert metrics["precision_score_classwise"] == {"can": 1.0, "carton": 0.5, "jug": 1.0}
    assert metrics["recall_score_macro"] == pytest.approx(5 / 6)
    assert metrics["norm_macro_recall"] == pytest.approx((5 / 6 - 1 / 3) / (2 / 3))
    assert metrics["log_loss"] == pytest.approx(-np.log([0.7, 0.3, 0.5, 0.8]).mean(), abs=1e-6)
    # Carton: positive at 0.5, negatives at 0.2, 0.6, 0.1, so two of three pairs are in order.
    assert metrics["AUC_classwise"] == pytest.approx({"can": 1.0, "carton": 2 / 3, "jug": 1.0})
    assert metrics["average_precision_score_classwise"]["carton"] == 0.5
    assert metrics["confusion_matrix"] == {
        "schema_type": "confusion_matrix",
        "schema_version": "1.0.0",
        "data": {"class_labels": LABELS, "matrix": [[1, 1, 0], [0, 1, 0], [0, 0, 1]]},
    }


def test_multilabel_by_hand() -> None:
    metrics = multilabel_metrics(SETS, SET_PROBS, ["a", "b"])
    # Predicted sets: {a, b} for {a}, {b} for {a, b}, {} for {}.
    assert metrics["iou"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["iou_classwise"] == {"a": 0.5, "b": 0.5}
    assert metrics["recall_score_classwise"] == {"a": 0.5, "b": 1.0}
    assert metrics["norm_macro_recall"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert metrics["AUC_classwise"] == {"a": 1.0, "b": 1.0}
    probs_of_truth = [0.9, 0.4, 0.4, 0.7, 0.8, 0.9]
    assert metrics["log_loss"] == pytest.approx(-np.log(probs_of_truth).mean(), abs=1e-6)


def test_exactly_half_is_not_predicted() -> None:
    metrics = multilabel_metrics(np.array([[0], [1]]), np.array([[0.5], [0.50001]]), ["a"])
    assert metrics["accuracy"] == 1.0


def test_binary_names_exist_for_two_classes_of_multiclass_only() -> None:
    two = multiclass_metrics(TARGETS[:3], PROBS[:3, :2], LABELS[:2])
    stems = ("AUC", "average_precision_score", "f1_score", "precision_score", "recall_score")
    assert [name for name in two if name.endswith("_binary")] == [
        name for name in two if name.removesuffix("_binary") in stems
    ]
    assert {f"{stem}_binary" for stem in stems} <= set(two)
    assert not any("binary" in name for name in multiclass_metrics(TARGETS, PROBS, LABELS))
    assert not any("binary" in name for name in multilabel_metrics(SETS, SET_PROBS, ["a", "b"]))


@pytest.mark.parametrize("name", ["image_classification", "image_classification_multilabel"])
def test_every_primary_metric_of_the_task_is_there(name: str) -> None:
    if name == "image_classification":
        metrics = multiclass_metrics(TARGETS, PROBS, LABELS)
    else:
        metrics = multilabel_metrics(SETS, SET_PROBS, ["a", "b"])
    values = [metrics[primary] for primary in TASKS[name].primary_metrics]
    assert all(isinstance(value, float) for value in values)


def test_targets_of_one_class_only_leave_ranking_undefined() -> None:
    metrics = multiclass_metrics(np.zeros(4, dtype=np.int64), PROBS, LABELS)
    assert metrics["AUC_macro"] is None
    assert metrics["AUC_weighted"] is None
    assert metrics["average_precision_score_macro"] is None
    assert set(metrics["AUC_classwise"].values()) == {None}
    assert metrics["undefined_classes"] == LABELS
    assert isinstance(metrics["AUC_micro"], float)
    assert metrics["accuracy"] == 0.25
    assert has_only_finite_values(metrics)


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_one_image(prob: float) -> None:
    single = multiclass_metrics(np.array([1]), np.array([[1 - prob, prob]]), ["a", "b"])
    assert single["accuracy"] == float(prob > 0.5)
    several = multilabel_metrics(np.array([[0, 1]]), np.array([[1 - prob, prob]]), ["a", "b"])
    assert several["iou"] == float(prob > 0.5)
    assert has_only_finite_values([single, several])


def test_one_class_has_no_room_above_chance() -> None:
    metrics = multiclass_metrics(np.array([0, 0]), np.ones((2, 1), dtype=np.float32), ["a"])
    assert metrics["accuracy"] == 1.0
    assert metrics["log_loss"] == pytest.approx(0, abs=1e-6)
    assert metrics["norm_macro_recall"] is None
    assert metrics["AUC_micro"] is None
    assert metrics["confusion_matrix"]["data"]["matrix"] == [[2]]
    assert has_only_finite_values(metrics)


def test_label_that_never_occurs_is_none_where_nothing_was_predicted() -> None:
    probs = np.hstack([PROBS * 0.9, np.full((4, 1), 0.1, dtype=np.float32)])
    metrics = multiclass_metrics(TARGETS, probs, [*LABELS, "ghost"])
    assert metrics["recall_score_classwise"]["ghost"] is None
    assert metrics["recall_score_macro"] == pytest.approx(5 / 6)
    assert metrics["undefined_classes"] == ["ghost"]


def test_multilabel_without_any_positive() -> None:
    nothing = np.zeros((3, 2), dtype=np.int64)
    metrics = multilabel_metrics(nothing, np.full((3, 2), 0.2), ["a", "b"])
    assert metrics["iou"] == 1.0
    assert metrics["accuracy"] == 1.0
    assert metrics["AUC_weighted"] is None
    assert metrics["undefined_classes"] == ["a", "b"]
    assert has_only_finite_values(metrics)


def test_no_images_is_an_input_error() -> None:
    for metrics, targets in (
        (multiclass_metrics, np.zeros(0, dtype=np.int64)),
        (multilabel_metrics, np.zeros((0, 3), dtype=np.int64)),
    ):
        with pytest.raises(DataError, match="at least 1 image, got 0"):
            metrics(targets, np.zeros((0, 3), dtype=np.float32), LABELS)


def test_diverged_network_is_named() -> None:
    probs = PROBS.copy()
    probs[1, 2] = np.nan
    with pytest.raises(AutofocusError, match="1 of 4 images: the network diverged"):
        multiclass_metrics(TARGETS, probs, LABELS)


def test_values_are_plain_python_for_json() -> None:
    for metrics in (
        multiclass_metrics(TARGETS, PROBS, LABELS),
        multilabel_metrics(SETS, SET_PROBS, ["a", "b"]),
    ):
        assert all(type(v) in {float, dict, list, type(None)} for v in metrics.values())
        assert plain(metrics) == metrics


def test_confusion_matrix_is_left_out_of_very_many_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classification, "MAX_CONFUSION_CLASSES", 2)
    assert multiclass_metrics(TARGETS, PROBS, LABELS)["confusion_matrix"] is None


def test_ten_thousand_classes_are_fast_enough_to_use() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((100, 10_000), dtype=np.float32)
    metrics = multiclass_metrics(np.arange(100), probs, [str(i) for i in range(10_000)])
    assert len(metrics["undefined_classes"]) == 9_900
    assert metrics["confusion_matrix"] is None
