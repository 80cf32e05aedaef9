"""Every published metric of object detection and instance segmentation, by its name.

Definitions are in docs/reference/metrics.md. No torch, so that `autofocus evaluate` works in the
small install. Values are unrounded floats, and None where a metric is undefined.

Notation for array shapes:
    - n: number of images
    - k: number of classes
    - m, p: number of detections and of objects in one image
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import AutofocusError, DataError
from autofocus.metrics.coco import CocoMetrics, Outlines, coco_metrics
from autofocus.metrics.matching import Matches, match_detections
from autofocus.metrics.rle import encode_outlines, mask_iou
from autofocus.metrics.voc import (
    average_precision,
    average_precisions,
    mean,
    precision_and_recall,
    precision_recall_curves,
)
from autofocus.structures.boxes import box_iou
from autofocus.structures.predictions import Detections, Instances
from autofocus.structures.targets import BoxTarget, OutlineTarget

# The published `validation_metric_type`: the source of the primary mean average precision.
METRIC_TYPES = ("voc", "coco", "coco_voc", "none")
_UNMEASURED = {"mean_average_precision": None}
CONFUSION_THRESHOLDS = tuple(i / 10 for i in range(10))
MISSED = "Missed"
# Ten tables of 300 x 301 are a million numbers: more than anybody can look at.
MAX_CONFUSION_CLASSES = 300


def detection_metrics(
    predictions: Sequence[Detections],
    targets: Sequence[BoxTarget],
    labels: Sequence[str],
    *,
    score_threshold: float | NDArray[np.float32],
    max_detections: int,
    metric_type: str = "voc",
    iou_threshold: float = 0.5,
) -> dict[str, Any]:
    """Return the published metrics of boxes.

    Average precisions, curves, confusion matrices and the image-level average precision are over
    all detections given; `precision` and `recall` are over what the endpoint would return.

    Args:
        predictions: n predictions, with every detection worth ranking: score >= 0.01.
        targets: n targets.
        labels: k class names.
        score_threshold: Least score of a detection that the endpoint returns, of all classes or
            of each, [k].
        max_detections: Most detections that the endpoint returns for an image.
        metric_type: One of `METRIC_TYPES`. "none" measures nothing: the primary metric is
            undefined. "coco" takes `mean_average_precision` and the table's average precision from
            COCO's at IoU .50, the others take them from VOC's.
        iou_threshold: Least IoU of a correct detection; COCO's numbers have their own.

    Returns:
        Scalars by name, and tables: `per_label_metrics`, `pr_curve`, `pr_curve_<label>`,
        `confusion_matrix_score_threshold_<0.0 to 0.9>`, `image_level_binary_classifier_metrics`.

    Raises:
        DataError: If there are no images.
        AutofocusError: If a score or a box is not finite.
    """
    if metric_type == "none":
        return dict(_UNMEASURED)
    _check(predictions, targets, metric_type)
    matches = match_boxes(predictions, targets, len(labels), iou_threshold)
    coco = coco_metrics(predictions, targets, len(labels), max_detections)
    kept = matches.kept(score_threshold, max_detections)
    return _assemble(matches, kept, coco, labels, coco_first=metric_type == "coco")


def segmentation_metrics(
    predictions: Sequence[Instances],
    targets: Sequence[OutlineTarget],
    labels: Sequence[str],
    *,
    score_threshold: float | NDArray[np.float32],
    max_detections: int,
    metric_type: str = "voc",
    iou_threshold: float = 0.5,
) -> dict[str, Any]:
    """Return the published metrics of outlines: those of `detection_metrics`, over masks.

    Arguments, result and errors are those of `detection_metrics`.
    """
    if metric_type == "none":
        return dict(_UNMEASURED)
    _check(predictions, targets, metric_type)
    outlines = outlines_of(predictions, targets)
    matches = match_outlines(predictions, targets, outlines, len(labels), iou_threshold)
    coco = coco_metrics(predictions, targets, len(labels), max_detections, outlines)
    kept = matches.kept(score_threshold, max_detections)
    return _assemble(matches, kept, coco, labels, coco_first=metric_type == "coco")


def match_boxes(
    predictions: Sequence[Detections],
    targets: Sequence[BoxTarget],
    num_classes: int,
    iou_threshold: float,
) -> Matches:
    """Match objects by the overlap of their boxes; see `match_detections`."""
    overlaps = (
        box_iou(prediction.xyxy_frac, target.xyxy_frac)
        for prediction, target in zip(predictions, targets, strict=True)
    )
    return match_detections(predictions, targets, overlaps, num_classes, iou_threshold)


def match_outlines(
    predictions: Sequence[Instances],
    targets: Sequence[OutlineTarget],
    outlines: Outlines,
    num_classes: int,
    iou_threshold: float,
) -> Matches:
    """Match objects by the overlap of their masks; see `match_detections`."""
    overlaps = (
        mask_iou(found, truth) for found, truth in zip(outlines.found, outlines.truth, strict=True)
    )
    return match_detections(predictions, targets, overlaps, num_classes, iou_threshold)


def outlines_of(predictions: Sequence[Instances], targets: Sequence[OutlineTarget]) -> Outlines:
    """Return the masks of predictions and targets, which have the images' sizes."""
    return Outlines(
        found=[encode_outlines(each.polygons, each.size) for each in predictions],
        truth=[encode_outlines(each.polygons, each.size) for each in targets],
    )


def confusion_matrices(matches: Matches, labels: Sequence[str]) -> dict[str, Any]:
    """Return `confusion_matrix_score_threshold_0.0` to `_0.9` in the published JSON form.

    A row is a true class, a column the class of the detection with the highest score on the
    object; an object without a detection of at least the threshold is "Missed". Crowds have no row.

    Returns:
        Tables of k rows and k + 1 columns; nothing above `MAX_CONFUSION_CLASSES` classes.
    """
    k = len(labels)
    if k > MAX_CONFUSION_CLASSES:
        return {}
    tables = {}
    for threshold in CONFUSION_THRESHOLDS:
        is_found = matches.found_scores >= np.float32(threshold)
        columns = np.where(is_found, matches.found_classes, k)
        cells = matches.true_classes * (k + 1) + columns
        matrix = np.bincount(cells, minlength=k * (k + 1)).reshape(k, k + 1)
        tables[f"confusion_matrix_score_threshold_{threshold}"] = {
            "schema_type": "confusion_matrix",
            "schema_version": "1.0.0",
            "data": {"class_labels": [*labels, MISSED], "matrix": matrix.tolist()},
        }
    return tables


def image_level_metrics(matches: Matches, kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Return average precision, precision and recall of the detector as a classifier of images.

    An image with objects is a true positive at the highest score of a correct detection on it. An
    image with incorrect detections only is a false positive at the highest of their scores, with
    or without objects.

    Args:
        matches: Matches of the data set, d detections.
        kept: bool [d], detections that count for `precision` and `recall`; the average precision
            is over all.

    Returns:
        Values are None where there is no image with objects, or (precision) no detection.
    """
    num_images = int(matches.has_objects.sum())
    scores, is_found = _score_images(matches, np.ones_like(kept))
    _, is_found_kept = _score_images(matches, kept)
    hits, num = int(is_found_kept.sum()), len(is_found_kept)
    return {
        "average_precision": average_precision(scores, is_found, num_images),
        "precision": hits / num if num else None,
        "recall": hits / num_images if num_images else None,
    }


def _score_images(
    matches: Matches, rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return score and correctness of every image with a detection that counts."""
    counted = np.flatnonzero(rows & ~matches.is_crowd)
    image, is_hit = matches.image[counted], matches.is_hit[counted]
    scores = matches.scores[counted]
    # Within an image: correct ones first, then by score.
    order = np.lexsort((-scores, ~is_hit, image))
    _, first = np.unique(image[order], return_index=True)
    return scores[order][first], is_hit[order][first]


def _assemble(
    matches: Matches,
    kept: NDArray[np.bool_],
    coco: CocoMetrics,
    labels: Sequence[str],
    *,
    coco_first: bool,
) -> dict[str, Any]:
    each_ap = coco.average_precisions_50 if coco_first else average_precisions(matches)
    precisions, recalls = precision_and_recall(matches, kept)
    curve, curves = precision_recall_curves(matches)
    precision = mean(precisions)
    if precision is None and matches.has_objects.any():
        # There was something to find, and the endpoint would return nothing.
        precision = 0.0
    columns = zip(labels, precisions, recalls, each_ap, coco.average_precisions, strict=True)
    names = ("class_name", "precision", "recall", "average_precision", "average_precision_50_95")
    return {
        "mean_average_precision": mean(each_ap),
        "mean_average_precision_50_95": coco.scalars["coco_AP"],
        "precision": precision,
        "recall": mean(recalls),
        **coco.scalars,
        "per_label_metrics": [dict(zip(names, row, strict=True)) for row in columns],
        "image_level_binary_classifier_metrics": image_level_metrics(matches, kept),
        "pr_curve": curve,
        **{f"pr_curve_{label}": each for label, each in zip(labels, curves, strict=True)},
        **confusion_matrices(matches, labels),
    }


def _check(
    predictions: Sequence[Detections], targets: Sequence[BoxTarget], metric_type: str
) -> None:
    assert metric_type in METRIC_TYPES, metric_type
    assert len(predictions) == len(targets), "one prediction an image"
    if len(targets) == 0:
        raise DataError("metrics need at least 1 image, got 0. Give data with valid rows.")
    bad = [
        not (np.isfinite(p.scores).all() and np.isfinite(p.xyxy_frac).all()) for p in predictions
    ]
    if any(bad):
        raise AutofocusError(
            "scores and boxes must be finite, got NaN or infinity for "
            f"{sum(bad)} of {len(bad)} images: the network diverged. Lower learning_rate."
        )
    for prediction, target in zip(predictions, targets, strict=True):
        assert (np.diff(prediction.scores) <= 0).all(), "scores must descend"
        assert prediction.size == target.size, f"{prediction.size} != {target.size}"
