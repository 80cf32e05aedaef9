"""Outlines as pixels: compared, and united into one."""

import numpy as np
import pytest

from autofocus.structures.outline_pixels import draw_outline, outline_iou, united

UNIT = np.array([0.0, 0.0, 1.0, 1.0])


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.float32(
        [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    )


def test_rings_are_exclusive() -> None:
    pixels = draw_outline((square(0, 0, 1), square(0.25, 0.25, 0.5)), UNIT, (100, 100))
    assert pixels[10, 10] == 1
    assert pixels[50, 50] == 0
    assert pixels.mean() == pytest.approx(0.75, abs=0.02)


def test_overlap_of_squares() -> None:
    a, b = (square(0, 0, 0.5),), (square(0.25, 0, 0.5),)
    assert outline_iou(a, b, UNIT, (400, 400)) == pytest.approx(1 / 3, abs=0.01)
    assert outline_iou(a, a, UNIT) == 1
    assert outline_iou(a, (), UNIT) == 0
    assert outline_iou((), (), UNIT) == 0


def test_union_of_touching_squares_is_one_ring_of_the_right_size() -> None:
    window = np.array([0.1, 0.1, 0.5, 0.3])
    (ring,) = united([(square(0.1, 0.1, 0.2),), (square(0.3, 0.1, 0.2),)], window, (100, 200))
    np.testing.assert_allclose([*ring.min(axis=0), *ring.max(axis=0)], window, atol=0.001)
    assert len(ring) <= 8


def test_union_keeps_holes_and_parts() -> None:
    ring_with_hole = (square(0, 0, 0.4), square(0.1, 0.1, 0.2))
    far_away = (square(0.7, 0.7, 0.2),)
    rings = united([ring_with_hole, far_away], UNIT, (200, 200))
    assert len(rings) == 3
    drawn = draw_outline(rings, UNIT, (400, 400))
    assert drawn.mean() == pytest.approx(0.16 - 0.04 + 0.04, abs=0.006)


def test_union_of_what_is_larger_than_any_canvas_is_bounded() -> None:
    (ring,) = united([(square(0, 0, 1),)], UNIT, (40_000, 30_000))
    np.testing.assert_allclose([*ring.min(axis=0), *ring.max(axis=0)], UNIT, atol=0.001)
