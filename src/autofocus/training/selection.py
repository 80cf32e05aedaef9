"""Is one network really better than another? Paired, image by image, with its uncertainty."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# The first challenger must be better by this many standard errors of the paired difference.
MARGIN = 1.0


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two networks on the same images.

    Attributes:
        mean_gain: Mean of champion's loss minus challenger's; positive is better.
        standard_error: Of that mean.
        num_pairs: Images, or groups of them, that were compared.
        margin: Standard errors that it had to be better by.
        challenger_wins: Whether it was.
    """

    mean_gain: float
    standard_error: float
    num_pairs: int
    margin: float
    challenger_wins: bool


def margin_after(num_before: int) -> float:
    """Return the standard errors that a challenger must win by after others have tried.

    Each has the same chance to win by luck alone as one has with `MARGIN`, shared with those before
    it (Bonferroni): of many challengers on few images one would be lucky.

    Args:
        num_before: Challengers that were judged on the same images before; 0 gives `MARGIN`.
    """
    normal = NormalDist()
    return -normal.inv_cdf(normal.cdf(-MARGIN) / (1 + num_before))


def compare(
    champion: NDArray[np.float64], challenger: NDArray[np.float64], margin: float = MARGIN
) -> Comparison:
    """Compare two networks by their losses on the same images.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3): on few images a difference
    smaller than its own noise is no reason to leave the model that is already verified.

    Args:
        champion: Loss of each image, [n].
        challenger: Loss of each image, [n], the same images.
        margin: Standard errors that the challenger must be better by.
    """
    assert champion.shape == challenger.shape, "compare on the same images"
    gains = champion - challenger
    mean = float(gains.mean())
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("inf")
    return Comparison(mean, error, len(gains), margin, mean > margin * error)


def latest_is_kept(losses: NDArray[np.float64]) -> bool:
    """Return whether the last epoch is no clearly worse than the best of those before it.

    A rate that has come down makes the last epochs the better ones; on few images the best of many
    is luck for the most part, and judged on them it looks better than it is (Cawley and Talbot
    2010, section 5). An earlier epoch has to be better by as much as any late challenger.

    Args:
        losses: Of each image at each evaluation, [e, n].
    """
    if len(losses) < 2:
        return True
    earlier = losses[:-1]
    best = earlier[earlier.mean(axis=1).argmin()]
    return not compare(losses[-1], best, margin_after(len(earlier) - 1)).challenger_wins


@dataclass
class EarlyStopping:
    """Stops when nothing became better for a while.

    Attributes:
        patience: Evaluations without a better one before stopping.
        delay: Epochs before patience begins to count.
        enabled: Whether to stop at all.
        best: Best value so far, larger is better.
        num_worse: Evaluations since then, after the delay.
    """

    patience: int
    delay: int
    enabled: bool = True
    best: float = float("-inf")
    num_worse: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Take the evaluation after `epoch` (from 1); return whether it is the best so far."""
        if value > self.best:
            self.best, self.num_worse = value, 0
            return True
        if epoch > self.delay:
            self.num_worse += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return self.enabled and self.num_worse >= self.patience
