"""Outlines on pictures: filled, solid or dashed, seen on any background by their dark rim."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.pictures.labels import Pixels
from autofocus.pictures.palette import INK, Colour

Ring = NDArray[np.float64]  # [p, 2], (x, y) in pixels, closed by itself

# How much of the colour is mixed in: of small objects, and less by so much of what fills the
# picture, so that what lies within it keeps its own colours.
_TINT, _LESS_TINT = 0.35, 0.2
# OpenCV takes points in 1/8 pixels.
_SHIFT: Final = 3


def fill(picture: Pixels, rings: Sequence[Ring], colour: Colour) -> None:
    """Tint what rings enclose, exclusive or where they overlap."""
    low = np.floor(np.concatenate(list(rings)).min(axis=0)).astype(int).clip(0)
    high = np.ceil(np.concatenate(list(rings)).max(axis=0)).astype(int) + 1
    part = picture[low[1] : high[1], low[0] : high[0]]
    if part.size == 0:
        return
    inside = np.zeros(part.shape[:2], np.uint8)
    cv2.fillPoly(inside, [_fixed(ring - low) for ring in rings], (1,), shift=_SHIFT)
    covered_frac = np.count_nonzero(inside) / (picture.shape[0] * picture.shape[1])
    tint = _TINT - _LESS_TINT * covered_frac**0.5
    tinted = part * (1 - tint) + np.array(colour) * tint
    part[:] = np.where(inside[:, :, None] > 0, tinted.round().astype(np.uint8), part)


def stroke(picture: Pixels, rings: Sequence[Ring], colour: Colour, line: int) -> None:
    """Draw closed lines of a colour with a dark rim."""
    _lines(picture, [_fixed(ring) for ring in rings], colour, line, is_closed=True)


def dashed(picture: Pixels, rings: Sequence[Ring], colour: Colour, line: int) -> None:
    """Draw closed lines of dashes of a colour with a dark rim."""
    dashes = [dash for ring in rings for dash in _dashes(ring, 3.0 * (line + _rim(line)))]
    _lines(picture, [_fixed(dash) for dash in dashes], colour, line, is_closed=False)


def box_ring(box: NDArray[np.float64]) -> Ring:
    """Return the corners of a box."""
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _dashes(ring: Ring, length: float) -> list[Ring]:
    """Return every other piece of a closed line, each about `length` long."""
    closed = np.concatenate([ring, ring[:1]])
    steps = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    # Even, and at least two dashes: the last gap meets the first dash.
    num_pieces = 2 * max(2, round(at[-1] / length / 2))
    ends = np.linspace(0, at[-1], num_pieces + 1)
    dashes = []
    for start, end in zip(ends[:-1:2], ends[1::2], strict=True):
        places = np.concatenate([[start], at[(at > start) & (at < end)], [end]])
        points = [np.interp(places, at, closed[:, axis]) for axis in (0, 1)]
        dashes.append(np.stack(points, axis=1))
    return dashes


def _lines(
    picture: Pixels, points: list[NDArray[np.int32]], colour: Colour, line: int, *, is_closed: bool
) -> None:
    for shade, width in ((INK, line + _rim(line)), (colour, line)):
        cv2.polylines(picture, points, is_closed, shade, width, cv2.LINE_AA, _SHIFT)


def _rim(line: int) -> int:
    return max(2, 2 * (line // 4))


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(points * (1 << _SHIFT)).astype(np.int32)
