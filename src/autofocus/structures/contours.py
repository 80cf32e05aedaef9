"""Outlines of masks as rings, in area convention (see `structures/polygons.py`)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Ring

# Pixels that a simplified ring may stray before points are counted: steps of one pixel, which
# stand for a slanted edge, vanish, and no pixel's centre changes sides. Those of a cut corner lie
# sqrt(2) / 4 = 0.354 from the cut.
STRAY = 0.35
# Share of the mask below which a ring is a speck or a pinhole, of which networks draw many.
SPECK_FRAC = 1 / 200


def mask_rings(
    mask: NDArray[np.bool_] | NDArray[np.uint8], max_points: int, speck_frac: float = SPECK_FRAC
) -> list[Ring]:
    """Return the outlines of a mask: outer rings and holes, the largest first.

    Args:
        mask: [h, w]; zero is outside.
        max_points: Points a ring may have, at least 3.
        speck_frac: Rings around less than this part of the mask are left out, but never the
            largest; 0 keeps all of them.

    Returns:
        Rings float32 [p, 2] of (x, y) in pixels, p <= `max_points`.
    """
    assert max_points >= 3, max_points
    rings = trace_rings(mask)
    areas = np.array([_area(ring) for ring in rings])
    # Many equal parts are no specks.
    least = min(areas.sum() * speck_frac, areas.max(initial=0))
    large = [i for i in np.argsort(-areas, kind="stable") if areas[i] >= least]
    return [_simplify(_chamfer(rings[i]), max_points) for i in large]


def trace_rings(
    mask: NDArray[np.bool_] | NDArray[np.uint8], split_touching: bool = False
) -> list[Ring]:
    """Return the corners of every boundary of a mask [h, w], along pixel edges.

    Corners that follow one another on a row of pixel corners are joined, in pairs; those on a
    column too. Every corner then has two neighbours. Filled by the even-odd rule, the rings give
    back the very mask.

    Args:
        mask: [h, w]; zero is outside.
        split_touching: Whether parts that touch by their corners are always rings of their own;
            else only those that touch from upper left to lower right.

    Returns:
        Rings float32 [p, 2] of (x, y) in pixels, corners only.
    """
    framed = np.pad(np.asarray(mask, np.bool_), 1)
    a, b, c, d = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    # Where two pixels touch by their corners, two corners meet.
    twice = (a == d) & (b == c) & (a != b)
    y, x = np.nonzero((a ^ b ^ c ^ d) | twice)
    times = 1 + twice[y, x]
    x, y = np.repeat(x, times), np.repeat(y, times)
    by_column = np.lexsort((y, x))
    if split_touching:
        # Of two corners that meet where the upper right is inside, the right one goes up.
        copies = np.arange(len(x))
        by_column = np.lexsort((np.where(b[y, x], -copies, copies), y, x))
    partner = np.empty_like(by_column)
    partner[by_column[0::2]], partner[by_column[1::2]] = by_column[1::2], by_column[0::2]
    corners = np.stack([x, y], axis=1).astype(np.float32)
    return [corners[cycle] for cycle in _cycles(partner.tolist())]


def _cycles(partner: list[int]) -> list[list[int]]:
    """Return the rings of corners, where rows join 2 i and 2 i + 1, and columns `partner`."""
    visited = bytearray(len(partner))
    cycles = []
    for start in range(len(partner)):
        if visited[start]:
            continue
        cycle, corner = [], start
        while not visited[corner]:
            across = corner ^ 1
            visited[corner] = visited[across] = 1
            cycle += [corner, across]
            corner = partner[across]
        cycles.append(cycle)
    return cycles


def _area(ring: Ring) -> float:
    """Return the area that a ring encloses."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _chamfer(ring: Ring) -> Ring:
    """Cut half a pixel off every corner: a staircase becomes a slope."""
    following = np.roll(ring, -1, axis=0)
    half = np.sign(following - ring) / 2
    points = np.stack([ring + half, following - half], axis=1).reshape(-1, 2)
    distinct: NDArray[np.bool_] = (points != np.roll(points, 1, axis=0)).any(axis=1)
    return np.asarray(points[distinct])


def _simplify(ring: Ring, max_points: int) -> Ring:
    """Return the ring that strays least from `ring` among those of at most `max_points`."""
    low, high = STRAY, STRAY
    simple = _douglas_peucker(ring, high)
    while len(simple) > max_points:
        low, high = high, 2 * high
        simple = _douglas_peucker(ring, high)
    for _ in range(5 if high > low else 0):
        middle = (low + high) / 2
        tried = _douglas_peucker(ring, middle)
        if len(tried) <= max_points:
            simple, high = tried, middle
        else:
            low = middle
    if len(simple) >= 3:
        return simple
    # A thin ring collapsed into a line.
    chosen = np.linspace(0, len(ring), min(len(ring), max_points), endpoint=False)
    return np.asarray(ring[chosen.astype(int)])


def _douglas_peucker(ring: Ring, stray: float) -> Ring:
    return np.asarray(cv2.approxPolyDP(ring, stray, True), np.float32).reshape(-1, 2)
