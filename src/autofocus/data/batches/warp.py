"""Affine maps of pixels and points: all resampling but that of classification's evaluation square.

A matrix is float64 [2, 3] and takes a point (x, y) of the source, in pixels, to the view. Pixel
(i, j) covers [j, j + 1] x [i, i + 1], so an image's corners are (0, 0) and (width, height) and
fractions of an annotation become points by multiplying with width and height.

The *steps* of a matrix are how far apart in the source, along x and along y, two neighbouring
pixels of the view can lie: above 1 the image is sampled down.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Image = NDArray[np.uint8]

# The largest step that five weights can smooth; a crop twice as wide as high takes one axis there.
_MAX_SMOOTHED_STEP = 3.0
# Bilinear sampling reads 1 pixel beyond the outermost point, the prefilter 2 more.
_MARGIN = 3


def transform_points(matrix: Matrix, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map points [..., 2], (x, y) in pixels, from the source to the view.

    A box's corners become a parallelogram's; its new box is the least one around them.
    """
    return points @ matrix[:, :2].T + matrix[:, 2]


def warp(image: Image, matrix: Matrix, size: tuple[int, int]) -> Image:
    """Draw the view of an image, antialiased.

    One `cv2.warpAffine`, on a source that is first halved while the view would sample it down 2x
    or more both ways (or 3x one way), and then smoothed for what is left to sample down.

    Args:
        image: RGB [h, w, 3].
        matrix: Map from the image to the view.
        size: (height, width) of the view.

    Returns:
        RGB [height, width, 3]; outside the image is its reflection.
    """
    image, matrix = _needed_part(image, matrix, size)
    image, matrix = _halved(image, matrix)
    image = _smoothed(image, *steps(matrix))
    # OpenCV warps four channels in half the time of three, to the same values.
    padded = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    # It counts from the middle of the first pixel, we from its corner.
    centered = matrix.copy()
    centered[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    view = cv2.warpAffine(
        padded, centered, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(cv2.cvtColor(view, cv2.COLOR_RGBA2RGB), np.uint8)


def steps(matrix: Matrix) -> tuple[float, float]:
    """Return the steps along x and y."""
    (a, b, _), (c, d, _) = matrix.tolist()
    determinant = abs(a * d - b * c)
    return math.hypot(d, b) / determinant, math.hypot(c, a) / determinant


def _needed_part(image: Image, matrix: Matrix, size: tuple[int, int]) -> tuple[Image, Matrix]:
    """Cut out what the view can reach, so that the rest costs nothing."""
    height, width, _ = image.shape
    linear = matrix[:, :2]
    bottom, right = size
    corners = np.array([(0, 0), (right, 0), (0, bottom), (right, bottom)])
    reached = (corners - matrix[:, 2]) @ np.linalg.inv(linear).T
    margin = _MARGIN * max(1, math.ceil(max(steps(matrix))))
    low, high = reached.min(axis=0).tolist(), reached.max(axis=0).tolist()
    left, right = _reach(low[0] - margin, high[0] + margin, width)
    top, bottom = _reach(low[1] - margin, high[1] + margin, height)
    moved = matrix.copy()
    moved[:, 2] += linear @ (left, top)
    return image[top:bottom, left:right], moved


def _reach(low: float, high: float, limit: int) -> tuple[int, int]:
    """Return [start, stop) in whole pixels, at least one, within the image."""
    start = min(max(0, math.floor(low)), limit - 1)
    return start, min(limit, max(start + 1, math.ceil(high)))


def _halved(image: Image, matrix: Matrix) -> tuple[Image, Matrix]:
    """Average blocks of pixels until smoothing can do the rest.

    Both axes at once, because OpenCV is ten times faster at blocks of 2 x 2 than at 2 x 1.
    """
    while True:
        height, width, _ = image.shape
        step_x, step_y = steps(matrix)
        least = 2.0 if min(step_x, step_y) >= 2 else _MAX_SMOOTHED_STEP
        factor_x = 2 if step_x >= least and width > 1 else 1
        factor_y = 2 if step_y >= least and height > 1 else 1
        if factor_x == factor_y == 1:
            return image, matrix
        size = width // factor_x, height // factor_y
        # A pixel too many at the end would make it a resize by an odd factor, far slower.
        whole = image[: size[1] * factor_y, : size[0] * factor_x]
        image = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix * (factor_x, factor_y, 1)


def _smoothed(image: Image, step_x: float, step_y: float) -> Image:
    if max(step_x, step_y) <= 1:
        return image
    smooth = cv2.sepFilter2D(image, -1, _taps(step_x), _taps(step_y), borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, np.uint8)


def _taps(step: float) -> NDArray[np.float32]:
    """Return 5 symmetric weights that make bilinear sampling at `step` in [1, 3] antialiased.

    Two conditions fix them. The spread (second moment) of weights and bilinear sampling together
    is that of the triangle of half-width `step`, the antialiased bilinear filter that published
    weights were trained with: 2 near + 8 far = (step² - 1) / 6. And the finest pattern, one pixel
    light, one dark, fades from wholly kept at step 1 to wholly gone from step 2 on, fast, because
    it is what turns into false coarse patterns: 1 - 4 near = (2 - step)³.
    """
    step = min(max(step, 1.0), _MAX_SMOOTHED_STEP)
    near = (1 - max(0.0, 2 - step) ** 3) / 4
    far = ((step * step - 1) / 12 - near) / 4
    return np.array([far, near, 1 - 2 * near - 2 * far, near, far], np.float32)
