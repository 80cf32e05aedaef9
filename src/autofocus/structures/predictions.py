"""What a task predicts for one image. Values only: numpy arrays with checked shapes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
