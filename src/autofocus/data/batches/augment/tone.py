"""Brightness and contrast as one table of 256 levels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import Augmentation, BoxAugmentation

# Weights of red, green and blue in grey, as Pillow and torchvision mix it (ITU-R BT.601).
_GREY = (0.299, 0.587, 0.114)
_LEVELS = np.arange(256, dtype=np.float64)


def sample_tone(
    rng: np.random.Generator, params: Augmentation | BoxAugmentation
) -> tuple[float, float]:
    """Draw the factors of brightness and contrast; 1 changes nothing."""
    brightness, contrast = rng.random(2).tolist()
    return 1 + params.brightness * (2 * brightness - 1), 1 + params.contrast * (2 * contrast - 1)


def tone_table(brightness: float, contrast: float, mean_grey: float) -> NDArray[np.uint8]:
    """Return the new level of each level, [256].

    The formula is torchvision's for brightness and then contrast, clipped once at the end:
    (level - mean) * brightness * contrast + mean * brightness.

    Args:
        brightness: Factor of all levels.
        contrast: Factor of the distance from the mean.
        mean_grey: Mean level of the view, before.
    """
    levels = (_LEVELS - mean_grey) * (brightness * contrast) + mean_grey * brightness
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def grey_mean(pixels: NDArray[np.uint8]) -> float:
    """Return the mean grey level of RGB pixels [h, w, 3]."""
    red, green, blue, _ = cv2.mean(pixels)
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
