"""The pixels that annotations count on: the upright image's, or those of the photo as it is stored.

A camera that is held upright stores its photo lying and says so in EXIF. Tools that do not know
EXIF show it lying, and what is labelled there has to be turned with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Of a ring's fractions: a hundredth of a pixel in the widest image there is; keeps files short.
NUM_DECIMALS = 8

# Where a point of the stored pixels lies upright, in fractions, by EXIF orientation: those that
# swap width and height, by which stored pixels are told from upright ones.
_TURNS: dict[int, Callable[[float, float], tuple[float, float]]] = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


@dataclass(frozen=True)
class LabelledPixels:
    """The pixels of an image that its annotations count on.

    Attributes:
        size: Their (height, width).
        orientation: EXIF's, where these are the pixels as they are stored and the image is
            turned by it; 1 where it is not.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the image as it is shown."""
        return self.size[::-1] if self.orientation in _TURNS else self.size

    def box_upright(
        self, xyxy_frac: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Take a box to the upright image."""
        turn = _TURNS.get(self.orientation)
        if turn is None:
            return xyxy_frac
        (x, y), (other_x, other_y) = turn(*xyxy_frac[:2]), turn(*xyxy_frac[2:])
        return min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)

    def ring_upright(self, ring: list[float]) -> list[float]:
        """Take a ring [x1, y1, x2, y2, …], in fractions, to the upright image."""
        turn = _TURNS.get(self.orientation)
        if turn is None:
            return ring
        points = zip(ring[::2], ring[1::2], strict=True)
        return [round(number, NUM_DECIMALS) for point in points for number in turn(*point)]
