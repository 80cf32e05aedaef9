"""Overlap, clipping and suppression on boxes small enough to check by hand."""

import numpy as np
import pytest

from autofocus.structures.boxes import box_iou, clip_boxes, nms

SQUARES = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6]], np.float32)


def test_iou_of_known_pairs() -> None:
    iou = box_iou(SQUARES[:2], SQUARES)
    assert iou.dtype == np.float64
    assert iou == pytest.approx(np.array([[1, 1 / 3, 1, 0], [1 / 3, 1, 1 / 3, 0]]))


def test_iou_of_empty_boxes_and_of_no_boxes_is_defined() -> None:
    point = np.array([[1, 1, 1, 1]], np.float32)
    assert box_iou(point, point).tolist() == [[0]]
    assert box_iou(SQUARES[:0], SQUARES).shape == (0, 4)
    assert box_iou(SQUARES, SQUARES[:0]).shape == (4, 0)


def test_clip_cuts_to_fractions_or_pixels() -> None:
    boxes = np.array([[-0.5, 0.2, 1.5, 0.9]], np.float32)
    assert clip_boxes(boxes)[0].tolist() == pytest.approx([0, 0.2, 1, 0.9])
    assert clip_boxes(boxes * 100, (50, 80))[0].tolist() == pytest.approx([0, 20, 80, 50])


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], np.float32)
    kept = nms(chain, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64), 0.5)
    assert kept.tolist() == [0, 2]


def test_classes_do_not_suppress_each_other() -> None:
    scores, classes = np.array([0.5, 0.6, 0.7, 0.8], np.float32), np.array([0, 0, 1, 1])
    assert nms(SQUARES, scores, classes, 0.3).tolist() == [3, 2, 1]


def test_of_equal_scores_the_first_wins_and_comes_first() -> None:
    scores, classes = np.full(4, 0.5, np.float32), np.zeros(4, np.int64)
    assert nms(SQUARES, scores, classes, 0.5).tolist() == [0, 1, 3]


@pytest.mark.parametrize("num", [0, 1, 2])
def test_at_most_max_kept(num: int) -> None:
    scores, classes = np.array([0.5, 0.6, 0.7, 0.8], np.float32), np.zeros(4, np.int64)
    assert nms(SQUARES, scores, classes, 0.5, num).tolist() == [3, 2][:num]


def test_no_boxes() -> None:
    none = np.empty(0, np.float32)
    assert nms(np.empty((0, 4), np.float32), none, none.astype(int), 0.5).shape == (0,)


def test_a_threshold_of_one_keeps_every_box() -> None:
    scores, classes = np.full(4, 0.5, np.float32), np.zeros(4, np.int64)
    assert nms(SQUARES, scores, classes, 1).tolist() == [0, 1, 2, 3]
