"""Targets: the labelled objects of one image. Values only: numpy arrays with checked shapes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Polygon


@dataclass(frozen=True)
class BoxTarget:
    """The labelled objects of one image.

    Attributes:
        xyxy_frac: float32 [m, 4], corners in fractions of the image (of the canvas, once a view
            was drawn).
        classes: int64 [m], positions in the labels.
        is_crowd: bool [m]; such an object is neither to be found nor wrong to find.
        size: (height, width) of the image, in pixels.
    """

    xyxy_frac: NDArray[np.float32]
    classes: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        num = len(self.classes)
        assert self.xyxy_frac.shape == (num, 4), f"boxes [m, 4], got {self.xyxy_frac.shape}"
        assert self.is_crowd.shape == (num,), f"is_crowd [m], got {self.is_crowd.shape}"

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class OutlineTarget(BoxTarget):
    """The outlined objects of one image.

    Attributes:
        polygons: m outlines; each a tuple of rings, float32 [p, 2], (x, y) in fractions.
            Where rings of one object overlap is a hole (exclusive or).
    """

    polygons: tuple[Polygon, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        assert len(self.polygons) == len(self.classes), "one outline an object"


@dataclass(frozen=True)
class MaskTarget(BoxTarget):
    """The outlined objects of one view, as pixels.

    Attributes:
        masks: uint8 [m, h / s, w / s] of 0 and 1, for a canvas of (h, w) and a stride of s pixels:
            cells whose centre an object holds. Every object has at least one.
    """

    masks: NDArray[np.uint8]

    def __post_init__(self) -> None:
        super().__post_init__()
        assert len(self.masks) == len(self.classes), "one mask an object"
