"""Predictions for one image. Values only: numpy arrays with checked shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Points [p, 2] of (x, y), closed by itself; rings of one outline are exclusive or.
Ring = NDArray[np.float32]
Polygon = tuple[Ring, ...]


class WholeImage(Protocol):
    """What is predicted of an image as a whole."""

    def named_numbers(self, labels: Sequence[str]) -> list[tuple[str, float]]:
        """Return what is predicted as (label, number), the most telling first."""
        ...


@dataclass(frozen=True)
class ClassScores:
    """Class probabilities of one image.

    Attributes:
        probs: float32 [k], in [0, 1]; sums to 1 for multi-class, free for multi-label.
    """

    probs: NDArray[np.float32]

    def __post_init__(self) -> None:
        assert self.probs.ndim == 1, f"probs must have shape [k], got {self.probs.shape}"

    def check_num_classes(self, num_classes: int) -> None:
        """Raise ValueError unless there is one probability a class."""
        if len(self.probs) != num_classes:
            raise ValueError(f"{len(self.probs)} outputs for {num_classes} labels")

    def named_numbers(self, labels: Sequence[str]) -> list[tuple[str, float]]:
        """Return every class and its probability, the likeliest first."""
        ranked = sorted(zip(self.probs.tolist(), labels, strict=True), reverse=True)
        return [(label, prob) for prob, label in ranked]


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, the highest score first.

    Attributes:
        xyxy_frac: float32 [m, 4], corners in fractions of the image, in [0, 1].
        scores: float32 [m], in [0, 1], descending.
        classes: int64 [m], positions in the labels.
        size: (height, width) of the image, in pixels.
    """

    xyxy_frac: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        num = len(self.scores)
        assert self.xyxy_frac.shape == (num, 4), f"boxes [m, 4], got {self.xyxy_frac.shape}"
        assert self.classes.shape == (num,), f"classes [m], got {self.classes.shape}"

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Instances(Detections):
    """Outlined objects found in one image, the highest score first.

    Attributes:
        polygons: m outlines; each a tuple of rings, float32 [p, 2], (x, y) in fractions of the
            image, area convention: pixel (i, j) covers [j, j + 1] x [i, i + 1].
    """

    polygons: tuple[Polygon, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        assert len(self.polygons) == len(self.scores), "one outline an object"
