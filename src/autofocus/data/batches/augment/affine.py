"""All geometry of one view of a whole-image task as one matrix."""

import math

import numpy as np

from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.warp import Matrix

# As torchvision's RandomResizedCrop: so many tries at a crop that fits into the image.
_NUM_TRIES = 10


def sample_matrix(
    rng: np.random.Generator, height: int, width: int, out_size: int, params: Augmentation
) -> Matrix:
    """Draw a crop, a turn and a flip; return the matrix from the image to the view.

    Takes the same count of numbers from `rng` whatever the image and `params` are.

    Args:
        rng: Source of all chance.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        out_size: Side of the square view, in pixels.
        params: Ranges to draw from.
    """
    draws = rng.random(2 * _NUM_TRIES + 4).tolist()
    *tries, left_frac, top_frac, flip, turn = draws
    crop_height, crop_width = _crop_size(tries, height, width, params)
    center_x = left_frac * (width - crop_width) + crop_width / 2
    center_y = top_frac * (height - crop_height) + crop_height / 2
    scale_x, scale_y = out_size / crop_width, out_size / crop_height
    if flip < params.flip_prob:
        scale_x = -scale_x
    angle = math.radians(params.rotation_deg) * (2 * turn - 1)
    cos, sin = math.cos(angle), math.sin(angle)
    # Turn about the crop's centre, then stretch to the view: a stretched turn would be a shear.
    a, b = scale_x * cos, -scale_x * sin
    c, d = scale_y * sin, scale_y * cos
    return np.array(
        [
            [a, b, out_size / 2 - a * center_x - b * center_y],
            [c, d, out_size / 2 - c * center_x - d * center_y],
        ]
    )


def _crop_size(
    tries: list[float], height: int, width: int, params: Augmentation
) -> tuple[float, float]:
    """Return the crop's height and width: of the first try that fits, else the largest that can.

    Args:
        tries: Numbers in [0, 1): areas, then aspects.
        height: Of the image.
        width: Of the image.
        params: Ranges.
    """
    (min_area, max_area), (min_aspect, max_aspect) = params.area_range, params.aspect_range
    log_aspect, log_range = math.log(min_aspect), math.log(max_aspect / min_aspect)
    for area_draw, aspect_draw in zip(tries[:_NUM_TRIES], tries[_NUM_TRIES:], strict=True):
        area = height * width * (min_area + (max_area - min_area) * area_draw)
        aspect = math.exp(log_aspect + log_range * aspect_draw)
        crop_height, crop_width = math.sqrt(area / aspect), math.sqrt(area * aspect)
        if crop_height <= height and crop_width <= width:
            return crop_height, crop_width
    aspect = min(max(width / height, min_aspect), max_aspect)
    return min(height, width / aspect), min(width, height * aspect)
