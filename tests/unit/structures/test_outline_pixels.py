"""Outlines as pixels: compared, and united into one."""

import numpy as np
import pytest

from autofocus.structures.outline_pixels import outline_iou, union_outline
from autofocus.structures.polygons import rasterize

UNIT = np.array([0.0, 0.0, 1.0, 1.0])


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.float32(
        [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    )


def test_overlap_of_squares() -> None:
    a, b = (square(0, 0, 0.5),), (square(0.25, 0, 0.5),)
    assert outline_iou(a, b, UNIT) == pytest.approx(1 / 3, abs=0.03)
    assert outline_iou(a, a, UNIT) == 1
    assert outline_iou(a, (), UNIT) == 0
    assert outline_iou((), (), UNIT) == 0


def test_overlap_counts_holes_and_only_the_window() -> None:
    frame = (square(0, 0, 1), square(0.25, 0.25, 0.5))
    inner = (square(0.25, 0.25, 0.5),)
    assert outline_iou(frame, inner, UNIT) < 0.15
    assert outline_iou(frame, (square(0, 0, 1),), UNIT) == pytest.approx(0.75, abs=0.03)
    assert outline_iou(frame, (square(0, 0, 1),), np.array([0, 0, 0.25, 1])) > 0.95


def test_union_of_touching_squares_is_one_ring_of_the_right_size() -> None:
    window = np.array([0.1, 0.1, 0.5, 0.3])
    (ring,) = union_outline(
        [(square(0.1, 0.1, 0.2),), (square(0.3, 0.1, 0.2),)], window, (100, 200), 100
    )
    np.testing.assert_allclose([*ring.min(axis=0), *ring.max(axis=0)], window, atol=1e-6)
    assert len(ring) <= 8


def test_union_keeps_holes_and_parts() -> None:
    ring_with_hole = (square(0, 0, 0.4), square(0.1, 0.1, 0.2))
    far_away = (square(0.7, 0.7, 0.2),)
    rings = union_outline([ring_with_hole, far_away], UNIT, (200, 200), 100)
    assert len(rings) == 3
    drawn = rasterize([rings], (400, 400))
    assert drawn.mean() == pytest.approx(0.16 - 0.04 + 0.04, abs=0.001)


def test_union_has_no_more_points_than_allowed() -> None:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = (0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)
    (ring,) = union_outline([(circle,)], UNIT, (500, 500), 12)
    assert 6 <= len(ring) <= 12


def test_union_of_what_is_larger_than_any_canvas_is_bounded() -> None:
    (ring,) = union_outline([(square(0, 0, 1),)], UNIT, (40_000, 30_000), 100)
    np.testing.assert_allclose([*ring.min(axis=0), *ring.max(axis=0)], UNIT, atol=1e-6)
