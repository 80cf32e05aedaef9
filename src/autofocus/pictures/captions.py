"""Lines of bands below a picture: classes of the whole image, or what no band beside it said."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from autofocus.pictures.labels import Pixels, band
from autofocus.pictures.palette import INK, Colour

# (label, what follows it, colour of the band)
Said = tuple[str, str, Colour]

_MAX_ROWS: Final = 6


def with_caption(picture: Pixels, said: Sequence[Said], size: int) -> Pixels:
    """Return the picture with bands below it, as many rows as they need up to six.

    Args:
        picture: RGB [h, w, 3].
        said: The most important first.
        size: Height of the letters, in pixels.
    """
    width = picture.shape[1]
    gap = max(2, size // 3)
    rows: list[list[Pixels]] = []
    room = 0
    for label, rest, paper in said:
        drawn = band(label, rest, paper, size, max(1, width - 2 * gap))
        if not rows or drawn.shape[1] > room:
            if len(rows) == _MAX_ROWS:
                break
            rows.append([])
            room = width - 2 * gap
        rows[-1].append(drawn)
        room -= drawn.shape[1] + gap
    if not rows:
        return picture
    step = rows[0][0].shape[0] + gap
    below = np.full((step * len(rows) + gap, width, 3), INK, np.uint8)
    for i, row in enumerate(rows):
        left = gap
        for drawn in row:
            part = drawn[:, : width - left]
            top = gap + i * step
            below[top : top + part.shape[0], left : left + part.shape[1]] = part
            left += drawn.shape[1] + gap
    return np.concatenate([picture, below])
