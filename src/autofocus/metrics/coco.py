"""COCO's 12 numbers, from hotcoco's tables of precisions and recalls.

`tests/parity/test_coco_metrics.py` holds them against pycocotools, whose own summary is wrong for
caps other than 100.

Notation for array shapes:
    - t: 10 IoU thresholds, .50 to .95
    - r: 101 recall thresholds
    - k: number of classes
    - a: 4 ranges of area: all, small, medium, large
    - c: 3 caps on detections an image
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.metrics.rle import Rle, mask_areas
from autofocus.structures.predictions import Detections
from autofocus.structures.targets import BoxTarget

Floats = NDArray[np.float64]

# COCO's own cap; a model that may return more is measured with its own.
MAX_DETECTIONS = 100
_AREAS = ("", "_small", "_medium", "_large")


@dataclass(frozen=True)
class Outlines:
    """Masks of n images, objects in the order of the predictions and of the targets."""

    found: list[list[Rle]]
    truth: list[list[Rle]]


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's numbers; None where there was nothing to find.

    Attributes:
        scalars: The 12 numbers by name.
        average_precisions: Average precision of each class, over IoU .50 to .95.
        average_precisions_50: Average precision of each class, at IoU .50.
    """

    scalars: dict[str, float | None]
    average_precisions: list[float | None]
    average_precisions_50: list[float | None]


def coco_metrics(
    predictions: Sequence[Detections],
    targets: Sequence[BoxTarget],
    num_classes: int,
    max_detections: int,
    outlines: Outlines | None = None,
) -> CocoMetrics:
    """Return COCO's evaluation of boxes, or of masks where outlines are given.

    Args:
        predictions: n predictions, each with descending scores.
        targets: n targets.
        num_classes: k.
        max_detections: Cap on detections of a class in an image; at least 100 count.
        outlines: Masks of n images. Sizes are then those of the masks, never of their boxes.
    """
    is_crowd = np.concatenate([target.is_crowd for target in targets])
    if is_crowd.all():
        return _summarize(
            np.full((10, 1, num_classes, 4, 3), -1.0), np.full((10, num_classes, 4, 3), -1.0)
        )
    truth = _columns(targets, outlines.truth if outlines else None)
    found = _columns(predictions, outlines.found if outlines else None)
    precision, recall = _tables(
        _Evaluation(
            truth=truth,
            is_crowd=is_crowd,
            found=found,
            scores=np.concatenate([prediction.scores for prediction in predictions]),
            images=[
                {"id": i + 1, "height": target.size[0], "width": target.size[1]}
                for i, target in enumerate(targets)
            ],
            categories=[{"id": i + 1, "name": str(i)} for i in range(num_classes)],
            kind="bbox" if outlines is None else "segm",
            caps=[1, 10, max(MAX_DETECTIONS, max_detections)],
        )
    )
    return _summarize(precision, recall)


@dataclass(frozen=True)
class _Columns:
    """The objects of all images, one row each; ids count from 1."""

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    xywh: Floats
    areas: Floats
    masks: list[Any] | None


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation in hotcoco's terms."""

    truth: _Columns
    is_crowd: NDArray[np.bool_]
    found: _Columns
    scores: NDArray[np.float32]
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    kind: str
    caps: list[int]


def _columns(
    objects: Sequence[Detections] | Sequence[BoxTarget], masks: list[list[Rle]] | None
) -> _Columns:
    lengths = [len(each.classes) for each in objects]
    sizes = np.array([each.size for each in objects], np.float64)[:, ::-1]
    corners = np.concatenate([each.xyxy_frac for each in objects], dtype=np.float64)
    xywh = corners.reshape(-1, 2, 2) * np.repeat(sizes, lengths, axis=0)[:, None]
    xywh[:, 1] -= xywh[:, 0]
    flat: list[Any] | None = None if masks is None else [mask for each in masks for mask in each]
    return _Columns(
        image_ids=np.repeat(np.arange(1, len(objects) + 1), lengths),
        category_ids=np.concatenate([each.classes for each in objects]) + 1,
        xywh=xywh.reshape(-1, 4),
        areas=xywh[:, 1, 0] * xywh[:, 1, 1] if flat is None else mask_areas(flat),
        masks=flat,
    )


def _tables(given: _Evaluation) -> tuple[Floats, Floats]:
    """Return precisions [t, r, k, a, c] and recalls [t, k, a, c]; -1 is undefined."""
    import hotcoco

    truth, found = given.truth, given.found
    actual = hotcoco.COCO.from_arrays(
        given.images,
        given.categories,
        truth.image_ids,
        truth.category_ids,
        truth.xywh,
        area=truth.areas,
        iscrowd=given.is_crowd,
        segmentation=truth.masks,
    )
    rows = np.column_stack([found.image_ids, found.xywh, given.scores, found.category_ids])
    predicted = actual.load_res(rows, segmentation=found.masks)
    if found.masks is not None:
        # A row always has a box; its area decides on small, medium and large if left.
        predicted.update_anns(ids=np.arange(1, len(rows) + 1), area=found.areas)
    evaluation = hotcoco.COCOeval(actual, predicted, given.kind)
    evaluation.params.max_dets = given.caps
    evaluation.evaluate()
    evaluation.accumulate()
    tables = evaluation.eval
    assert tables is not None
    return tables["precision"], tables["recall"]


def _summarize(precision: Floats, recall: Floats) -> CocoMetrics:
    """Read the numbers off the tables of `_tables`."""
    scalars = {"coco_AP": _mean(precision[..., 0, -1])}
    scalars["coco_AP50"] = _mean(precision[0, ..., 0, -1])
    scalars["coco_AP75"] = _mean(precision[5, ..., 0, -1])
    for i, area in enumerate(_AREAS[1:], start=1):
        scalars[f"coco_AP{area}"] = _mean(precision[..., i, -1])
    scalars["coco_AR1"] = _mean(recall[..., 0, 0])
    scalars["coco_AR10"] = _mean(recall[..., 0, 1])
    for i, area in enumerate(_AREAS):
        scalars[f"coco_AR{area}"] = _mean(recall[..., i, -1])
    classes = range(precision.shape[2])
    return CocoMetrics(
        scalars,
        average_precisions=[_mean(precision[:, :, i, 0, -1]) for i in classes],
        average_precisions_50=[_mean(precision[0, :, i, 0, -1]) for i in classes],
    )


def _mean(values: Floats) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
