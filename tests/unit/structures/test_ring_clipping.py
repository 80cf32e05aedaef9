"""What of an outline lies within the unit square, point by point."""

from collections.abc import Sequence

import numpy as np
import pytest

from autofocus.structures.ring_clipping import clip_rings, ring_area


def covered(rings: Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Return which points [p, 2] an odd number of edges lies to the right of."""
    inside = np.zeros(len(points), bool)
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            beside = (y1 > points[:, 1]) != (y2 > points[:, 1])
            at = x1 + (points[beside, 1] - y1) * (x2 - x1) / (y2 - y1)
            inside[beside] ^= points[beside, 0] < at
    return inside


@pytest.mark.parametrize("seed", range(20))
def test_cut_outline_covers_what_it_did(seed: int) -> None:
    """Stars of any shape, with a hole, partly outside."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 15, endpoint=False)
    way = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = rng.uniform(-0.2, 1.2, 2)
    rings = [
        (centre + way * rng.uniform(low, high, (15, 1))).astype(np.float32)
        for low, high in ((0.3, 0.8), (0.1, 0.2))
    ]
    part = clip_rings(rings)
    points = rng.random((5000, 2))
    assert np.count_nonzero(covered(rings, points) != covered(part, points)) <= 1
    assert all(((ring >= 0) & (ring <= 1)).all() for ring in part)


def test_what_is_inside_stays_and_what_is_outside_goes() -> None:
    inside = np.float32([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]])
    outside = inside + np.float32([2, 0])
    (kept,) = clip_rings([inside, outside])
    np.testing.assert_allclose(kept, inside, atol=1e-6)
    around = np.float32([[-1, -1], [2, -1], [2, 2], [-1, 2]])
    assert ring_area(clip_rings([around])) == pytest.approx(1)


def test_area_counts_every_ring() -> None:
    triangle = np.float32([[0, 0], [1, 0], [0, 0.5]])
    assert ring_area([triangle]) == pytest.approx(0.25)
    assert ring_area([triangle, triangle[::-1]]) == pytest.approx(0.5)
    assert ring_area([]) == 0
