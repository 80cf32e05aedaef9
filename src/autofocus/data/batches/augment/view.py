"""One training view of a whole-image task: geometry in one matrix, tone in one table, erasing."""

import math

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.augment.tone import grey_mean, sample_tone, tone_table
from autofocus.data.batches.preprocess import normalize
from autofocus.data.batches.warp import Matrix, warp
from autofocus.manifest import ResizeCrop

# Tries at a crop that fits into the image, as torchvision's RandomResizedCrop.
_NUM_TRIES = 10
# Height / width of the rectangle lies between this and its inverse, as in the paper.
_MIN_ASPECT = 0.3


def draw_view(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    params: Augmentation,
    spec: ResizeCrop,
    out: NDArray[np.float32],
) -> None:
    """Draw a random view of an image and write it into `out`.

    Args:
        image: RGB [h, w, 3].
        rng: Source of all chance; nothing else decides what is drawn.
        params: Ranges to draw from.
        spec: Size of the view and the normalisation.
        out: float32 [crop_size, crop_size, 3], contiguous.
    """
    height, width, _ = image.shape
    matrix = sample_matrix(rng, height, width, spec.crop_size, params)
    pixels = warp(image, matrix, spec.size)
    brightness, contrast = sample_tone(rng, params)
    normalize(pixels, spec, out, tone_table(brightness, contrast, grey_mean(pixels)))
    erase(out, rng, params)


def sample_matrix(
    rng: np.random.Generator, height: int, width: int, out_size: int, params: Augmentation
) -> Matrix:
    """Draw a crop, a turn and a flip; return the matrix from the image to the view.

    Takes the same count of numbers from `rng` whatever the image and `params` are.

    Args:
        rng: Source of all chance.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
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
        height: Height of the image.
        width: Width of the image.
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


def erase(view: NDArray[np.float32], rng: np.random.Generator, params: Augmentation) -> None:
    """Set a random rectangle of a normalised view, float32 [s, s, 3], to the mean colour, 0.

    Without it a network may rest on one small part of each object (arXiv 1708.04896).
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
