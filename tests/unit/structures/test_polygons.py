"""Rasterising outlines: pixel centres, holes, windows, any resolution."""

import numpy as np
import pytest

from autofocus.structures.polygons import (
    from_wire,
    outline_box,
    pixel_windows,
    polygon_iou,
    rasterize,
    rasterize_windows,
)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return np.array(corners, np.float32)


def test_flat_lists_become_rings() -> None:
    (ring,) = from_wire([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    assert ring == pytest.approx(np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
    assert outline_box((ring, ring + 0.1)) == pytest.approx([0.1, 0.2, 0.6, 0.7])


def test_a_pixel_belongs_when_its_centre_does() -> None:
    (mask,) = rasterize([(rectangle(0.3, 0.2, 0.78, 0.6),)], (10, 10))
    # Columns 3 to 7 have centres 3.5 to 7.5; rows 2 to 5.
    expected = np.zeros((10, 10))
    expected[2:6, 3:8] = 1
    assert (mask == expected).all()
    assert mask.dtype == np.uint8


def test_a_triangle() -> None:
    (mask,) = rasterize([(np.array([[0, 0], [1, 0], [0, 1]], np.float32),)], (4, 4))
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_overlapping_rings_leave_a_hole_whatever_their_direction() -> None:
    outer, inner = rectangle(0, 0, 1, 1), rectangle(0.25, 0.25, 0.75, 0.75)
    for hole in (inner, inner[::-1]):
        (mask,) = rasterize([(outer, hole)], (8, 8))
        assert mask.sum() == 64 - 16
        assert mask[3, 3] == 0


def test_the_same_outline_at_any_resolution() -> None:
    outline = (rectangle(0.25, 0.5, 0.75, 1.0),)
    for height, width in ((4, 8), (64, 32), (400, 300)):
        assert rasterize([outline], (height, width)).mean() == 0.25


def test_a_window_shows_its_part_of_the_full_mask() -> None:
    rng = np.random.default_rng(0)
    outlines = [(rng.random((9, 2)).astype(np.float32) * 1.4 - 0.2,) for _ in range(20)]
    full = rasterize(outlines, (50, 70))
    corners = np.sort(rng.integers(0, (70, 50), (20, 2, 2)), axis=1)
    windows = corners.reshape(20, 4)
    for mask, window, part in zip(
        full, windows, rasterize_windows(outlines, (50, 70), windows), strict=True
    ):
        left, top, right, bottom = window
        assert (part == mask[top:bottom, left:right]).all()


def test_windows_may_lie_outside_the_image() -> None:
    outline = (rectangle(-0.5, 0, 0.5, 1),)
    (part,) = rasterize_windows([outline], (10, 10), np.array([[-5, -5, 5, 5]]))
    expected = np.zeros((10, 10))
    expected[5:, :] = 1
    assert (part == expected).all()


def test_windows_are_cut_to_the_image() -> None:
    outlines = [(rectangle(-1, 0.11, 0.5, 0.59),), (rectangle(2, 2, 3, 3),)]
    windows = pixel_windows(outlines, (10, 10))
    assert windows[0].tolist() == [0, 1, 5, 6]
    assert (windows[1, 2:] - windows[1, :2]).tolist() == [0, 0]


def test_no_outlines_and_outlines_without_rings() -> None:
    assert rasterize([], (5, 6)).shape == (0, 5, 6)
    assert rasterize([()], (5, 6)).sum() == 0


def test_points_far_outside_are_harmless() -> None:
    (mask,) = rasterize([(rectangle(-1e30, -1e30, 1e30, 1e30),)], (6, 6))
    assert mask.all()


def test_iou_of_outlines() -> None:
    half, whole = (rectangle(0, 0, 0.5, 1),), (rectangle(0, 0, 1, 1),)
    assert polygon_iou(half, half) == 1
    assert polygon_iou(half, whole) == pytest.approx(0.5, abs=0.02)
    assert polygon_iou(half, (rectangle(0.6, 0, 1, 1),)) == 0
    assert polygon_iou((), ()) == 1
    assert polygon_iou(half, ()) == 0


def test_iou_is_as_fine_for_small_outlines() -> None:
    small, moved = (rectangle(0.5, 0.5, 0.501, 0.501),), (rectangle(0.5005, 0.5, 0.5015, 0.501),)
    assert polygon_iou(small, moved) == pytest.approx(1 / 3, abs=0.02)
