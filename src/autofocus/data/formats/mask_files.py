"""Masks in image files: numbers a pixel, as they were written."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autofocus.errors import ImageError


def read_mask(file: Path, size: tuple[int, int]) -> NDArray[Any]:
    """Return a mask's numbers [h, w].

    Args:
        file: PNG, TIFF or another image without loss, of one channel or of equal ones.
        size: (height, width) of the image that it belongs to.

    Raises:
        ImageError: If it is no such thing; its message is the predicate of a sentence.
    """
    try:
        with warnings.catch_warnings():
            # The size was compared with an image that was allowed.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.size != size[::-1]:
                    said = f"{size[1]} x {size[0]}, got {image.width} x {image.height}"
                    raise ImageError("mask.size", f"must have the image's size {said}")
                pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError("mask.invalid", f"must be an image: {error}") from error
    if pixels.ndim == 3:
        colors = pixels[..., :3]
        if (colors != colors[..., :1]).any():
            rule = "must have one channel of numbers, not colours"
            raise ImageError("mask.channels", rule)
        pixels = colors[..., 0]
    if pixels.dtype.kind == "f" and (pixels % 1).any():
        raise ImageError("mask.invalid", "must hold whole numbers")
    return pixels
