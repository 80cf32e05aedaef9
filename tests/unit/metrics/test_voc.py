"""Pascal VOC's rule: hand-computed cases, and a naive reading of the definition on random data.

`naive_average_precision` was written from the published definition alone, one detection at a
time over the whole set, before and apart from the code under test.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.voc import (
    average_precision,
    average_precisions,
    precision_and_recall,
    precision_recall_curves,
)
from autofocus.structures.boxes import box_iou
from autofocus.structures.predictions import Detections
from autofocus.structures.targets import BoxTarget
from support.detection_scenes import LEFT, RIGHT, found, match, random_scenes, truth


def scalar_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    ax, ay, au, av = (float(each) for each in a)
    bx, by, bu, bv = (float(each) for each in b)
    width, height = min(au, bu) - max(ax, bx), min(av, bv) - max(ay, by)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((au - ax) * (av - ay) + (bu - bx) * (bv - by) - width * height)


def naive_average_precision(
    predictions: list[Detections], targets: list[BoxTarget], label: int, threshold: float
) -> float | None:
    num_objects = sum(
        int(((target.classes == label) & ~target.is_crowd).sum()) for target in targets
    )
    if num_objects == 0:
        return None
    rows = [
        (float(prediction.scores[j]), i, j)
        for i, prediction in enumerate(predictions)
        for j in range(len(prediction))
        if prediction.classes[j] == label
    ]
    taken: set[tuple[int, int]] = set()
    hits = misses = 0
    points: dict[float, tuple[float, float]] = {}
    for score, i, j in sorted(rows, key=lambda row: -row[0]):
        target = targets[i]
        own = [g for g in range(len(target)) if target.classes[g] == label]
        overlaps = [scalar_iou(predictions[i].xyxy_frac[j], target.xyxy_frac[g]) for g in own]
        best = own[overlaps.index(max(overlaps))] if own else -1
        if own and max(overlaps) >= threshold:
            if target.is_crowd[best]:
                continue
            if (i, best) not in taken:
                taken.add((i, best))
                hits += 1
            else:
                misses += 1
        else:
            misses += 1
        points[score] = (hits / num_objects, hits / (hits + misses))
    area = reached = 0.0
    for recall in sorted({recall for recall, _ in points.values()}):
        area += (recall - reached) * max(p for r, p in points.values() if r >= recall)
        reached = recall
    return area


@pytest.mark.parametrize("iou", [0.5, 0.75])
@pytest.mark.parametrize(("seed", "k"), [(0, 1), (1, 3), (2, 12)])
def test_average_precision_equals_a_naive_reading(seed: int, k: int, iou: float) -> None:
    predictions, targets = random_scenes(seed, 40, k)
    each = average_precisions(match(predictions, targets, k + 1, iou))
    for label in range(k + 1):
        expected = naive_average_precision(predictions, targets, label, iou)
        assert each[label] == (None if expected is None else pytest.approx(expected, abs=1e-12))
    assert each[k] is None
    assert 0.05 < np.mean([ap for ap in each if ap is not None]) < 0.95


def test_a_curve_by_hand() -> None:
    """Right, wrong, right, of 4 objects: 1/4 x 1 + 1/4 x 2/3."""
    scores = np.array([0.2, 0.9, 0.5])
    is_hit = np.array([True, True, False])
    assert average_precision(scores, is_hit, 4) == pytest.approx(0.25 + 0.25 * 2 / 3)


def test_precision_is_the_best_at_that_recall_or_a_higher_one() -> None:
    """Wrong, right, right: 2/3 holds for both halves of the recall."""
    is_hit = np.array([False, True, True])
    assert average_precision(np.array([0.9, 0.8, 0.7]), is_hit, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("is_hit", [(True, False), (False, True)])
def test_equal_scores_are_one_point_whatever_their_order(is_hit: tuple[bool, bool]) -> None:
    assert average_precision(np.array([0.5, 0.5]), np.array(is_hit), 1) == pytest.approx(0.5)


def test_no_detections_and_nothing_to_find() -> None:
    nothing = np.zeros(0), np.zeros(0, np.bool_)
    assert average_precision(*nothing, 3) == 0.0
    assert average_precision(*nothing, 0) is None


def test_a_second_detection_of_an_object_is_wrong() -> None:
    matches = match([found((LEFT, 0.9, 0), (LEFT, 0.8, 0))], [truth((LEFT, 0))])
    assert matches.is_hit.tolist() == [True, False]


def test_the_higher_score_takes_the_object_though_the_lower_lies_better() -> None:
    loose = [0.0, 0.0, 0.5, 0.6]
    matches = match([found((loose, 0.9, 0), (LEFT, 0.8, 0))], [truth((LEFT, 0))])
    assert matches.is_hit.tolist() == [True, False]


def test_a_detection_never_takes_its_second_choice() -> None:
    """Both detections overlap the first object most; COCO's rule would give one the other."""
    objects = truth(([0.0, 0.0, 0.5, 1.0], 0), ([0.05, 0.0, 0.55, 1.0], 0))
    near = [0.02, 0.0, 0.52, 1.0]
    matches = match([found((LEFT, 0.9, 0), (near, 0.8, 0))], [objects])
    assert box_iou(np.array([near]), objects.xyxy_frac).min() > 0.8
    assert matches.is_hit.tolist() == [True, False]


def test_overlap_of_exactly_the_threshold_is_right() -> None:
    half = [0.0, 0.0, 0.5, 0.5]
    assert match([found((half, 0.9, 0))], [truth((LEFT, 0))]).is_hit.tolist() == [True]
    less = [0.0, 0.0, 0.5, math.nextafter(0.5, 0) - 1e-6]
    assert match([found((less, 0.9, 0))], [truth((LEFT, 0))]).is_hit.tolist() == [False]


def test_crowds_are_neither_found_nor_wrong() -> None:
    rows = found((LEFT, 0.9, 0), (LEFT, 0.8, 0), (RIGHT, 0.7, 0))
    matches = match([rows], [truth((LEFT, 0), (RIGHT, 0), crowds=(0,))])
    assert matches.is_crowd.tolist() == [True, True, False]
    assert matches.is_hit.tolist() == [False, False, True]
    assert matches.num_objects.tolist() == [1, 0]
    assert average_precisions(matches) == [1.0, None]


def test_other_classes_and_other_images_are_not_matched() -> None:
    matches = match(
        [found((LEFT, 0.9, 1)), found((LEFT, 0.8, 0))], [truth((LEFT, 0)), truth((RIGHT, 0))]
    )
    assert not matches.is_hit.any()
    assert average_precisions(matches) == [0.0, None]


def test_images_without_objects_or_detections() -> None:
    matches = match([found(), found((LEFT, 0.9, 0)), found()], [truth(), truth(), truth((LEFT, 1))])
    assert matches.image.tolist() == [1]
    assert matches.is_hit.tolist() == [False]
    assert matches.has_objects.tolist() == [False, False, True]
    assert average_precisions(matches) == [None, 0.0]
    assert precision_and_recall(matches, matches.kept(0.5, 100)) == ([0.0, None], [None, 0.0])


def test_no_classes_at_all() -> None:
    matches = match([found()], [truth()], k=0)
    assert average_precisions(matches) == []
    curve, each = precision_recall_curves(matches)
    assert each == []
    assert set(curve["precision"]) == set(curve["recall"]) == {None}


def test_precision_and_recall_are_over_what_the_endpoint_returns() -> None:
    rows = found((LEFT, 0.9, 0), (LEFT, 0.6, 0), (RIGHT, 0.3, 0), (RIGHT, 0.2, 1))
    matches = match([rows], [truth((LEFT, 0), (RIGHT, 0))])
    assert precision_and_recall(matches, matches.kept(0.3, 100)) == ([2 / 3, None], [1.0, None])
    assert precision_and_recall(matches, matches.kept(0.3, 2)) == ([1 / 2, None], [1 / 2, None])
    assert precision_and_recall(matches, matches.kept(0.0, 100))[0] == [2 / 3, 0.0]


def test_curves_step_at_the_scores() -> None:
    rows = found((LEFT, 0.9, 0), (LEFT, 0.3, 0), (RIGHT, 0.3, 1))
    curve, each = precision_recall_curves(match([rows], [truth((LEFT, 0), (RIGHT, 1))]))
    assert curve["score_threshold"] == [i / 100 for i in range(100)]
    # 0.3 and 0.9 reach the thresholds 0.3 and 0.9, though neither is a binary fraction.
    assert curve["precision"] == pytest.approx([2 / 3] * 31 + [1.0] * 60 + [None] * 9)
    assert curve["recall"] == [1.0] * 31 + [0.5] * 60 + [0.0] * 9
    assert each[1]["precision"] == [1.0] * 31 + [None] * 69
    assert each[0]["recall"] == [1.0] * 91 + [0.0] * 9


def test_curves_agree_with_precision_and_recall_at_every_threshold() -> None:
    matches = match(*random_scenes(4, 30, 3), k=3)
    _, each = precision_recall_curves(matches)
    for i in (0, 1, 30, 57, 99):
        precisions, recalls = precision_and_recall(matches, matches.kept(i / 100, 10**6))
        assert [table["precision"][i] for table in each] == precisions
        assert [table["recall"][i] for table in each] == recalls
