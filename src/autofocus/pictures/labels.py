"""Text on a filled band, and where bands go so that they hide little and not each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.pictures.palette import Colour, ink_on
from autofocus.pictures.text import draw_text, shortened

Pixels = NDArray[np.uint8]  # RGB [h, w, 3]

# A band may hide this much of another object, of its own before it goes to another corner, and all
# bands together this much of the picture.
_MAX_HIDDEN: Final = 0.25
_MAX_OWN_HIDDEN: Final = 0.15
_MAX_COVERED: Final = 0.15
# More would never be read.
_MAX_SIGNS: Final = 200


@dataclass(frozen=True)
class Label:
    """What is to be said of one object.

    Attributes:
        label: May be shortened.
        rest: Follows the label, in full.
        paper: Colour of the band.
        box: (left, top, right, bottom) of the object, in pixels.
        must: It may hide other objects, if not other bands.
        extra: Follows the rest where there is room.
    """

    label: str
    rest: str
    paper: Colour
    box: NDArray[np.float64]
    must: bool = False
    extra: str = ""


def band(label: str, rest: str, paper: Colour, size: int, room: int) -> Pixels:
    """Return text on a band no wider than `room` pixels.

    Args:
        label: Shortened where there is no room.
        rest: Follows it.
        paper: Colour behind the text.
        size: Height of the letters, in pixels.
        room: Widest allowed.
    """
    pad = max(2, size // 4)
    text = shortened(label, rest, size, room - 2 * pad) + rest
    blank = np.full((round(1.2 * size) + pad, max(1, room), 3), paper, np.uint8)
    written = draw_text(blank, text, (pad, pad // 2), size, ink_on(paper))
    inked = np.flatnonzero((written != blank).any(axis=(0, 2)))
    return written[:, : min(room, (inked[-1] if len(inked) else 0) + 1 + pad)]


def put_signs(picture: Pixels, signs: Sequence[Label], size: int, line: int) -> int:
    """Write the signs beside their objects, the first first; return how many found no place.

    Args:
        picture: Written to.
        signs: The most important first.
        size: Height of the letters, in pixels.
        line: Width of the objects' lines, in pixels.
    """
    boxes = np.array([sign.box for sign in signs]).reshape(-1, 4)
    taken = np.empty((0, 4))
    allowed = _MAX_COVERED * picture.shape[0] * picture.shape[1]
    num_left_out = max(0, len(signs) - _MAX_SIGNS)
    for i, sign in enumerate(signs[:_MAX_SIGNS]):
        others = np.delete(boxes, i, axis=0)
        for rest in dict.fromkeys((sign.rest + sign.extra, sign.rest)):
            drawn = band(sign.label, rest, sign.paper, size, picture.shape[1])
            place = _place(sign, drawn.shape, picture.shape, line, others, taken)
            if place is None or (allowed < drawn.shape[0] * drawn.shape[1] and not sign.must):
                continue
            left, top, right, bottom = (int(edge) for edge in place)
            picture[top:bottom, left:right] = drawn[: bottom - top, : right - left]
            allowed -= (right - left) * (bottom - top)
            taken = np.concatenate([taken, place[None]])
            break
        else:
            num_left_out += 1
    return num_left_out


def _place(
    sign: Label,
    shape: tuple[int, ...],
    picture: tuple[int, ...],
    line: int,
    others: NDArray[np.float64],
    taken: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """Return the best free place for a band of a shape, or None."""
    places = _places(sign.box, shape, picture, line)
    free = [place for place in places if _is_free(place, others, taken)]
    if sign.must and not free:
        free = [place for place in places if not _shares(place, taken).any()]
    return free[0] if free else None


def _places(
    box: NDArray[np.float64], shape: tuple[int, ...], picture: tuple[int, ...], line: int
) -> list[NDArray[np.float64]]:
    """Return where a band may go, those first that nobody takes for another object's."""
    height, width = min(shape[0], picture[0]), min(shape[1], picture[1])
    half = line / 2
    edges = np.array([picture[1], picture[0]] * 2)
    left, top, right, bottom = (box + np.array([-half, -half, half, half])).clip(0, edges)
    corners = [
        (left, top - height),
        (right - width, top - height),
        (left, bottom),
        (right - width, bottom),
        (left, top),
        (left, bottom - height),
        (right - width, bottom - height),
    ]
    within = np.array([left, top, left + width, top + height])
    if _shares(within, box[None])[0] <= _MAX_OWN_HIDDEN:
        corners.insert(1, corners.pop(4))
    places = []
    for x, y in corners:
        x = min(max(0, round(x)), picture[1] - width)
        if y >= 0 and y + height <= picture[0]:
            places.append(np.array([x, round(y), x + width, round(y) + height], np.float64))
    if not places:
        y = min(max(0, round(top)), picture[0] - height)
        x = min(max(0, round(left)), picture[1] - width)
        places.append(np.array([x, y, x + width, y + height], np.float64))
    return places


def _is_free(
    place: NDArray[np.float64], others: NDArray[np.float64], taken: NDArray[np.float64]
) -> bool:
    """Say whether a band hides no other band and not much of any other object."""
    return not (_shares(place, taken).any() or (_shares(place, others) > _MAX_HIDDEN).any())


def _shares(place: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much of each box lies behind a place, [m]."""
    low, high = np.maximum(place[:2], boxes[:, :2]), np.minimum(place[2:], boxes[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(areas, 1e-9))
