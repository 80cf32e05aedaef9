"""Images with objects and imperfect detections of them, by hand and random, to test metrics."""

import numpy as np
from numpy.typing import NDArray

from autofocus.metrics.matching import Matches, match_detections
from autofocus.structures.boxes import box_iou
from autofocus.structures.predictions import Detections, Instances, Polygon
from autofocus.structures.targets import BoxTarget, OutlineTarget

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
SIZE = (100, 100)
SIZES = ((480, 640), (375, 500), (97, 61))


def found(*rows: tuple[list[float], float, int]) -> Detections:
    """Return detections from (box, score, class), the highest score first."""
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int64),
        SIZE,
    )


def truth(*rows: tuple[list[float], int], crowds: tuple[int, ...] = ()) -> BoxTarget:
    boxes, classes = zip(*rows, strict=True) if rows else ((), ())
    return BoxTarget(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.isin(np.arange(len(rows)), crowds),
        SIZE,
    )


def match(
    predictions: list[Detections], targets: list[BoxTarget], k: int = 2, iou: float = 0.5
) -> Matches:
    overlaps = [
        box_iou(prediction.xyxy_frac, target.xyxy_frac)
        for prediction, target in zip(predictions, targets, strict=True)
    ]
    return match_detections(predictions, targets, overlaps, k, iou)


def random_boxes(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Return float32 [num, 4] within [0, 1]; extents from tiny to half of the image."""
    extent = rng.uniform(0.01, 0.5, (num, 2)) ** rng.uniform(1, 2, (num, 1))
    corner = rng.random((num, 2)) * (1 - extent)
    return np.concatenate([corner, corner + extent], axis=1).astype(np.float32)


def random_scene(
    rng: np.random.Generator, num_classes: int, max_objects: int, max_spurious: int
) -> tuple[Detections, BoxTarget]:
    """Return what was found and what is there: doubles, wrong classes, crowds, tied scores."""
    size = SIZES[rng.integers(len(SIZES))]
    num = int(rng.integers(0, max_objects + 1))
    boxes, classes = random_boxes(rng, num), rng.integers(0, num_classes, num)
    target = BoxTarget(boxes, classes, rng.random(num) < 0.15, size)
    # Most objects are found, some twice, some as another class.
    again = rng.integers(0, num, int(num * 1.3)) if num else np.zeros(0, np.int64)
    extent = np.tile(boxes[again, 2:] - boxes[again, :2], 2)
    near = boxes[again] + extent * rng.normal(0, 0.08, (len(again), 4))
    guessed = np.where(
        rng.random(len(again)) < 0.8, classes[again], rng.integers(0, num_classes, len(again))
    )
    num_spurious = int(rng.integers(0, max_spurious + 1))
    found = np.concatenate([near, random_boxes(rng, num_spurious)])
    found = np.sort(found.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    found_classes = np.concatenate([guessed, rng.integers(0, num_classes, num_spurious)])
    luck = np.where(np.arange(len(found)) < len(near), 0.3, 0.0)
    scores = np.round(rng.uniform(0.01, 0.7, len(found)) + luck, 2).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    prediction = Detections(
        np.clip(found, 0, 1).astype(np.float32)[order], scores[order], found_classes[order], size
    )
    return prediction, target


def random_scenes(
    seed: int, num_images: int, num_classes: int, max_objects: int = 9, max_spurious: int = 12
) -> tuple[list[Detections], list[BoxTarget]]:
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, num_classes, max_objects, max_spurious) for _ in range(num_images)]
    return [found for found, _ in scenes], [target for _, target in scenes]


def outlined(
    predictions: list[Detections], targets: list[BoxTarget]
) -> tuple[list[Instances], list[OutlineTarget]]:
    """Return the same scenes with an outline in each box: by class whole, holed or in parts."""
    instances = [
        Instances(each.xyxy_frac, each.scores, each.classes, each.size, _outlines(each))
        for each in predictions
    ]
    outlines = [
        OutlineTarget(each.xyxy_frac, each.classes, each.is_crowd, each.size, _outlines(each))
        for each in targets
    ]
    return instances, outlines


def _outlines(objects: Detections | BoxTarget) -> tuple[Polygon, ...]:
    return tuple(map(_outline, objects.xyxy_frac, objects.classes))


def _outline(box: NDArray[np.float32], kind: int) -> Polygon:
    left, top, right, bottom = box
    if kind % 3 == 0:
        return (_ring(box),)
    if kind % 3 == 1:
        # A hole.
        quarter = (box[2:] - box[:2]) / 4
        return _ring(box), _ring(np.concatenate([box[:2] + quarter, box[2:] - quarter]))
    # Two parts that share a strip, which is a hole.
    middle, width = (left + right) / 2, (right - left) / 10
    halves = (left, top, middle + width, bottom), (middle - width, top, right, bottom)
    return _ring(np.array(halves[0])), _ring(np.array(halves[1]))


def _ring(box: NDArray[np.floating], num_points: int = 24) -> NDArray[np.float32]:
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    # Fuller than an ellipse, so that outlines overlap about as much as their boxes.
    direction = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    direction = np.sign(direction) * np.abs(direction) ** 0.5
    center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return np.asarray(center + direction * half, np.float32)
