"""Measures of saliency maps that need no opinion, and two maps that know nothing. No torch.

insertion       the model's answer while pixels return to a blurred image, highest first: area under
                the curve, higher is better (RISE, Petsiuk et al., BMVC 2018)
deletion        the answer while pixels turn to the mean colour, highest first: lower is better
pointing game   does the highest value lie on the object (Zhang et al., ECCV 2016)
randomisation   rank correlation with the map of the same network after its weights were shuffled:
                a map that stays shows nothing of what was learned (Adebayo et al., NeurIPS 2018)

The answer is the probability of a class, see `class_measures`, or the resemblance to a box, as
D-RISE measures it: the largest product of a candidate's overlap with the box and its score, among
candidates of the box's class.

A random map and a centred Gaussian stand beside the algorithms: photos show things in the middle,
so that the Gaussian is the one to beat. Notation: h, w size of a map in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.explain.base import Detect, FoundBoxes
from autofocus.explain.d_rise import resemblance
from autofocus.structures.frames import Frame

SaliencyMap = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Steps in which pixels return or go.
NUM_STEPS: Final = 32

_GAUSSIAN_FRAC: Final = 0.25
# Sigma of the blur from which insertion starts, as a share of the shorter side.
_BLUR_FRAC: Final = 0.05


@dataclass(frozen=True)
class Quality:
    """Quality of n maps by one algorithm; means, with standard errors of the means.

    Attributes:
        num_images: Number of maps, n.
        insertion: Area under the insertion curve, in [0, 1].
        deletion: Area under the deletion curve, in [0, 1].
        pointing: Share of maps whose highest value lies on the object; None without masks.
        randomised: Mean rank correlation with the maps of the shuffled network; None for maps
            that use no network.
    """

    num_images: int
    insertion: float
    insertion_error: float
    deletion: float
    deletion_error: float
    pointing: float | None
    randomised: float | None


@dataclass
class Measurements:
    """Measurements of one algorithm, map by map.

    Attributes:
        areas: Areas under the insertion and the deletion curve.
        hits: Points of the pointing game, of maps whose object is known.
        similar: Rank correlations with the maps of the shuffled network.
    """

    areas: list[tuple[float, float]] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    similar: list[float] = field(default_factory=list)

    def quality(self) -> Quality:
        """Return the means; there must be a map."""
        areas = np.array(self.areas)
        insertion, deletion = areas.mean(axis=0).tolist()
        insertion_error, deletion_error = (areas.std(axis=0) / np.sqrt(len(areas))).tolist()
        return Quality(
            num_images=len(areas),
            insertion=insertion,
            insertion_error=insertion_error,
            deletion=deletion,
            deletion_error=deletion_error,
            pointing=mean(self.hits),
            randomised=mean(self.similar),
        )


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None where there is nothing."""
    return float(np.mean(values)) if values else None


def pointing_game(saliency: SaliencyMap, truth: Mask) -> float:
    """Return 1 if the highest value lies on the object, else 0; a share where several are highest.

    Regions have one value everywhere: any of their pixels may be pointed at.
    """
    highest = saliency == saliency.max()
    return float(truth[highest].mean())


def step_of_pixels(saliency: SaliencyMap, num_steps: int, seed: int) -> NDArray[np.int64]:
    """Return the step, from 0, in which each pixel's turn comes, int64 [h, w]."""
    flat = saliency.ravel()
    shuffled = np.random.default_rng(seed).permutation(flat.size)
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    steps = np.empty(flat.size, np.int64)
    steps[order] = np.arange(flat.size) * num_steps // flat.size
    return steps.reshape(saliency.shape)


def blurred(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return an image [3, h, w] without its details, from which insertion starts."""
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
        detect: Runs the network.
        canvas: Input of the network, float32 [3, h, w].
        frame: Position of the canvas in the image.
        box: One box.
        saliency: Map [h', w'] of the canvas' part that is image, from the upper left; pixels of
            equal value are ordered at random.
        seed: Seed of the order of equal values.
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
