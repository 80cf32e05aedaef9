"""Statistics of the training boxes, from which input size, anchors and limits are chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.targets import BoxTarget

QUANTILES: Final = (0.01, 0.1, 0.5, 0.9, 0.99)

Quantiles = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class BoxProfile:
    """Sizes and numbers of the objects in a data set. Quantiles are those of `QUANTILES`.

    Attributes:
        num_images: Images looked at, with or without objects.
        num_objects: Objects, without crowds.
        side_frac: Quantiles of an object's side: the root of its box's share of the image.
        aspect: Quantiles of a box's height / width, in pixels.
        objects_p99: 99th percentile of the objects in one image.
        image_size: Median (height, width) of the images, in pixels.
        image_aspect: Quantiles of the images' height / width.
    """

    num_images: int
    num_objects: int
    side_frac: Quantiles
    aspect: Quantiles
    objects_p99: float
    image_size: tuple[int, int]
    image_aspect: Quantiles


# About that of COCO's training photos; for data without a single object, and before any was read.
TYPICAL: Final = BoxProfile(
    num_images=0,
    num_objects=0,
    side_frac=(0.012, 0.032, 0.11, 0.44, 0.83),
    aspect=(0.25, 0.48, 1.05, 2.4, 4.5),
    objects_p99=31.0,
    image_size=(480, 640),
    image_aspect=(0.56, 0.66, 0.75, 1.33, 1.5),
)


def profile_boxes(targets: Sequence[BoxTarget]) -> BoxProfile:
    """Return the profile of the boxes of `targets`, one target an image.

    Without any object, sizes and shapes are those of everyday photos; crowds and boxes without
    area do not count.
    """
    if not targets:
        return TYPICAL
    sizes = np.array([target.size for target in targets], np.float64)  # [n, 2], height and width
    kept = [_solid_boxes(target) for target in targets]
    nums = [len(boxes) for boxes in kept]
    width_frac, height_frac = _sides(np.concatenate(kept)).T
    heights, widths = np.repeat(sizes, nums, axis=0).T
    has_objects = sum(nums) > 0
    aspects = (height_frac * heights) / (width_frac * widths)
    height, width = np.median(sizes, axis=0)
    return BoxProfile(
        num_images=len(targets),
        num_objects=sum(nums),
        side_frac=_quantiles(np.sqrt(width_frac * height_frac))
        if has_objects
        else TYPICAL.side_frac,
        aspect=_quantiles(aspects) if has_objects else TYPICAL.aspect,
        objects_p99=float(np.quantile(nums, 0.99)),
        image_size=(round(height), round(width)),
        image_aspect=_quantiles(sizes[:, 0] / sizes[:, 1]),
    )


def _solid_boxes(target: BoxTarget) -> NDArray[np.float32]:
    sides = _sides(target.xyxy_frac)
    return target.xyxy_frac[~target.is_crowd & (sides > 0).all(axis=1)]


def _sides(xyxy_frac: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return widths and heights, [m, 2], of boxes [m, 4]."""
    return np.asarray(xyxy_frac[:, 2:] - xyxy_frac[:, :2], np.float64)


def _quantiles(values: NDArray[np.float64]) -> Quantiles:
    p1, p10, p50, p90, p99 = (float(value) for value in np.quantile(values, QUANTILES))
    return p1, p10, p50, p90, p99
