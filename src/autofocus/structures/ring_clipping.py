"""Outlines cut to the unit square. A ring is float [p, 2], (x, y), closed by itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Polygon


def clip_rings(rings: Sequence[NDArray[np.floating]]) -> Polygon:
    """Return the part of an outline within the unit square, without rings that left it.

    Each ring is cut by one side after the other (Sutherland and Hodgman). Where a ring leaves and
    returns, its parts stay joined along the side, without any area: what the rings enclose by
    exclusive or is exactly what they enclosed there before.
    """
    parts = []
    for ring in rings:
        part = np.asarray(ring, np.float64)
        for axis in (0, 1):
            part = _keep_above(part, axis)
            part = 1 - _keep_above(1 - part, axis)
        if len(part) >= 3:
            parts.append(part.clip(0, 1).astype(np.float32))
    return tuple(parts)


def ring_area(rings: Sequence[NDArray[np.floating]]) -> float:
    """Return the areas of all rings together; holes count too, which is enough for shares."""
    return float(sum(abs(_signed_area(np.asarray(ring, np.float64))) for ring in rings))


def _keep_above(ring: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Cut away what is below 0 on an axis."""
    if len(ring) == 0 or (ring[:, axis] >= 0).all():
        return ring
    following = np.roll(ring, -1, axis=0)
    here, there = ring[:, axis], following[:, axis]
    crosses = (here >= 0) != (there >= 0)
    # Where neighbours are on one side there is no crossing to compute, whatever is divided.
    share = np.where(crosses, here / np.where(crosses, here - there, 1), 0)
    crossing = ring + share[:, None] * (following - ring)
    # Each point that is kept, then the crossing on the way to the next point.
    both = np.stack([ring, crossing], axis=1).reshape(-1, 2)
    kept = np.stack([here >= 0, crosses], axis=1).reshape(-1)
    return np.asarray(both[kept])


def _signed_area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y)) / 2
