"""The place of a network's input in the image that it was made from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# (left, top, right, bottom) in fractions of the image.
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """The network sees a *canvas*; this is where the canvas lies in the image.

    Attributes:
        size: (height, width) of the decoded image, in pixels.
        region: (left, top, right, bottom) of the canvas in fractions of the image. A stretched
            image fills its canvas: (0, 0, 1, 1). Padding reaches beyond 1, a tile lies within.
    """

    size: tuple[int, int]
    region: Region = (0.0, 0.0, 1.0, 1.0)

    def points_to_image(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map points [..., 2], (x, y), from fractions of the canvas to fractions of the image."""
        left, top, right, bottom = self.region
        placed = points * (right - left, bottom - top) + (left, top)
        return np.asarray(placed, np.float32)

    def boxes_to_image(self, xyxy_frac: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes [..., 4] from fractions of the canvas to fractions of the image."""
        corners = xyxy_frac.reshape(*xyxy_frac.shape[:-1], 2, 2)
        return self.points_to_image(corners).reshape(xyxy_frac.shape)
