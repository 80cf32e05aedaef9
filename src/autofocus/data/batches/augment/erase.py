"""Random erasing: a rectangle of the view becomes the mean colour.

Without it a network may rest on one small part of each object (arXiv 1708.04896).
"""

import math

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import Augmentation

# Height / width of the rectangle lies between this and its inverse, as in the paper.
_MIN_ASPECT = 0.3


def erase(view: NDArray[np.float32], rng: np.random.Generator, params: Augmentation) -> None:
    """Set a random rectangle of a normalised view, float32 [s, s, 3], to 0, in place.

    Takes the same count of numbers from `rng` whether or not it erases.
    """
    happens, area, aspect, top, left = rng.random(5).tolist()
    if happens >= params.erase_prob:
        return
    size = view.shape[0]
    low, high = params.erase_area_range
    side = size * math.sqrt(low + (high - low) * area)
    stretch = _MIN_ASPECT ** (aspect - 0.5)
    height, width = (min(size, max(1, round(side * by))) for by in (stretch, 1 / stretch))
    y, x = int(top * (size - height + 1)), int(left * (size - width + 1))
    view[y : y + height, x : x + width] = 0
