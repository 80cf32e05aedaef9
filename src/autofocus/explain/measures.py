"""What is asked of any saliency map, and two maps that know nothing. Imports no torch.

A random map and a centred Gaussian stand beside the algorithms: photos show things in the middle,
so that the Gaussian is the one to beat. Notation: h, w size of a map in pixels.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.explain.d_rise import Detect, FoundBoxes, resemblance
from autofocus.structures.frames import Frame

SaliencyMap = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Parts in which pixels return or go.
NUM_STEPS: Final = 32

_GAUSSIAN_FRAC: Final = 0.25
# The blur that insertion starts from, as a share of the shorter side.
_BLUR_FRAC: Final = 0.05


def pointing_game(saliency: SaliencyMap, truth: Mask) -> float:
    """Return whether the highest value lies on the object; a share where several are highest.

    Regions have one value everywhere: any of their pixels may be pointed at.
    """
    highest = saliency == saliency.max()
    return float(truth[highest].mean())


def step_of_pixels(saliency: SaliencyMap, num_steps: int, seed: int) -> NDArray[np.int64]:
    """Return in which step, from 0, each pixel's turn comes, int64 [h, w]."""
    flat = saliency.ravel()
    shuffled = np.random.default_rng(seed).permutation(flat.size)
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    steps = np.empty(flat.size, np.int64)
    steps[order] = np.arange(flat.size) * num_steps // flat.size
    return steps.reshape(saliency.shape)


def blurred(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return an image [3, h, w] with its details gone: what insertion starts from."""
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0), np.float32)
    sigma = max(1.0, _BLUR_FRAC * min(pixels.shape[:2]))
    smooth = cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, np.float32).transpose(2, 0, 1)


def area_under(curve: NDArray[np.float64]) -> float:
    """Return the area under a curve of equal steps from 0 to 1, by trapezoids."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def random_map(height: int, width: int, seed: int) -> SaliencyMap:
    """Return uniform noise, [h, w]."""
    return np.random.default_rng(seed).random((height, width), np.float32)


def centred_gaussian(height: int, width: int) -> SaliencyMap:
    """Return a bell over the centre, [h, w], its width a quarter of each side."""
    y = (np.arange(height) - (height - 1) / 2) / (_GAUSSIAN_FRAC * height)
    x = (np.arange(width) - (width - 1) / 2) / (_GAUSSIAN_FRAC * width)
    return np.asarray(np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2), np.float32)


def box_insertion_deletion(
    detect: Detect,
    canvas: NDArray[np.float32],
    frame: Frame,
    box: FoundBoxes,
    saliency: SaliencyMap,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the areas under the insertion and the deletion curve of one box, each in [0, 1].

    Args:
        detect: The network.
        canvas: Its input, float32 [3, h, w].
        frame: Where the canvas lies in the image.
        box: One.
        saliency: [h', w'], of the canvas' part that is image, from the upper left; pixels of equal
            value are ordered at random.
        seed: Decides the order of equal values.
    """
    height, width = saliency.shape
    # Padding is mean colour in any case.
    steps = np.zeros(canvas.shape[1:], np.int64)
    steps[:height, :width] = step_of_pixels(saliency, NUM_STEPS, seed)
    faded = np.zeros_like(canvas)
    faded[:, :height, :width] = blurred(canvas[:, :height, :width])
    areas = []
    for before, after in ((faded, canvas), (canvas, np.zeros_like(canvas))):
        # One image at a time: what a network answers about one is large enough.
        curve = [
            resemblance(detect(np.where(steps < step, after, before)[None]), frame, box)[0, 0]
            for step in range(NUM_STEPS + 1)
        ]
        areas.append(area_under(np.array(curve)))
    return areas[0], areas[1]
