"""Is one network really better than another? Paired, image by image, with its uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A challenger must be better by this many standard errors of the paired difference.
MARGIN = 1.0


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two networks on the same images.

    Attributes:
        mean_gain: Mean of champion's loss minus challenger's; positive is better.
        standard_error: Of that mean.
        num_pairs: Images, or groups of them, that were compared.
        challenger_wins: Whether the gain exceeds its own standard error.
    """

    mean_gain: float
    standard_error: float
    num_pairs: int
    challenger_wins: bool


def compare(champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> Comparison:
    """Compare two networks by their losses on the same images.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3): on few images a difference
    smaller than its own noise is no reason to leave the model that is already verified.

    Args:
        champion: Loss of each image, [n].
        challenger: Loss of each image, [n], the same images.
    """
    assert champion.shape == challenger.shape, "compare on the same images"
    gains = champion - challenger
    mean = float(gains.mean())
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("inf")
    return Comparison(mean, error, len(gains), mean > MARGIN * error)
