"""From a mask to its exact outline: rings that run along the edges of pixels.

Area convention: pixel (row i, column j) covers [j, j + 1] x [i, i + 1]. Filling the rings by the
even-odd rule gives back the very same mask.
"""

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int32]

# A pixel edge: row and column of the corner it leaves, and its direction.
Edge = tuple[int, int, int]

# Steps (row, column) to the right, down, left, up; adding 1 turns right.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def trace_rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Return the corners of every outline and hole of a mask, bool [h, w].

    Returns:
        Rings of (x, y) in pixels, int32 [m, 2]: corners only, no points on straight lines. Parts
        that touch at a corner are rings of their own.
    """
    edges = _directed_edges(mask)
    rings = []
    while edges:
        rings.append(_walk(edges, next(iter(edges))))
    return rings


def _directed_edges(mask: NDArray[np.bool_]) -> dict[Edge, None]:
    """Return the edges between inside and outside, with the inside to their right, in order."""
    padded = np.pad(mask, 1).astype(np.int8)
    down = np.diff(padded, axis=0)[:, 1:-1]  # [h + 1, w]: 1 where the mask begins, -1 past its end
    across = np.diff(padded, axis=1)[1:-1]  # [h, w + 1]
    leaving = (
        np.argwhere(down == 1),  # top edges run right
        np.argwhere(across == -1),  # right edges run down
        np.argwhere(down == -1) + np.array([0, 1]),  # bottom edges run left
        np.argwhere(across == 1) + np.array([1, 0]),  # left edges run up
    )
    return {
        (row, column, direction): None
        for direction, corners in enumerate(leaving)
        for row, column in corners.tolist()
    }


def _walk(edges: dict[Edge, None], first: Edge) -> Ring:
    """Follow edges from `first` until back there, and take them out of `edges`."""
    corners: list[tuple[int, int]] = []
    edge = first
    while True:
        del edges[edge]
        row, column, direction = edge
        row, column = row + _STEPS[direction][0], column + _STEPS[direction][1]
        # Right before straight before left: where two parts touch, this stays on ours.
        turns = ((row, column, (direction + turn) % 4) for turn in (1, 0, 3))
        edge = next((turn for turn in turns if turn in edges or turn == first), first)
        if edge[2] != direction:
            corners.append((column, row))
        if edge == first:
            return np.array(corners, dtype=np.int32)
