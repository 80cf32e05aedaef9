"""Model selection: paired comparison, the epoch to keep, early stopping, the rank of epochs."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

# With fewer validation images one of them moves accuracy more than most epochs do.
SMALL_VALIDATION = 200
# The first candidate must be better by this many standard errors of the paired difference.
MARGIN = 1.0


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two networks on the same images.

    Attributes:
        mean_gain: Mean of the best's loss minus the candidate's; positive favours the candidate.
        standard_error: Standard error of that mean.
        num_pairs: Number of compared images, or groups of them.
        margin: Standard errors by which the candidate must be better.
        is_better: Whether the candidate is better by that.
    """

    mean_gain: float
    standard_error: float
    num_pairs: int
    margin: float
    is_better: bool

    def inputs(self) -> dict[str, Any]:
        """Return the comparison as `decisions.jsonl` has it."""
        return {
            "challenger_wins" if name == "is_better" else name: value
            for name, value in vars(self).items()
        }


def margin_after(num_before: int) -> float:
    """Return the standard errors by which a candidate must be better after others were compared.

    All candidates together have the chance to win by luck that one has with `MARGIN` (Bonferroni):
    of many on few images one would be lucky.

    Args:
        num_before: Candidates compared on the same images before; 0 gives `MARGIN`.
    """
    normal = NormalDist()
    return -normal.inv_cdf(normal.cdf(-MARGIN) / (1 + num_before))


def compare(
    best: NDArray[np.float64], candidate: NDArray[np.float64], margin: float = MARGIN
) -> Comparison:
    """Compare two networks by their losses on the same images.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3): on few images a difference
    smaller than its own noise is no reason to leave the model that is already verified.

    Args:
        best: Loss of each image under the best network so far, [n].
        candidate: Loss of the same images under the candidate, [n].
        margin: Standard errors by which the candidate must be better.
    """
    assert best.shape == candidate.shape, "compare on the same images"
    gains = best - candidate
    mean = float(gains.mean())
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("inf")
    return Comparison(mean, error, len(gains), margin, mean > margin * error)


def latest_is_kept(losses: NDArray[np.float64]) -> bool:
    """Return whether the last epoch is not clearly worse than the best of those before it.

    The learning rate has come down in the last epochs; on few images the best of many is luck for
    the most part, and its score on them flatters it (Cawley and Talbot 2010, section 5). An earlier
    epoch has to be better by as much as any later candidate.

    Args:
        losses: Loss of each image at each evaluation, [e, n].
    """
    if len(losses) < 2:
        return True
    earlier = losses[:-1]
    best = earlier[earlier.mean(axis=1).argmin()]
    return not compare(losses[-1], best, margin_after(len(earlier) - 1)).is_better


@dataclass
class EarlyStopping:
    """Early stopping as published: patience counts evaluations, delay counts epochs.

    Attributes:
        patience: Evaluations without a better one before stopping.
        delay: Epochs before patience begins to count.
        enabled: Whether to stop at all.
        best: Best value so far, larger is better.
        num_worse: Evaluations since the best, after the delay.
    """

    patience: int
    delay: int
    enabled: bool = True
    best: float = float("-inf")
    num_worse: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Add the evaluation after `epoch` (from 1); return whether it is the best so far."""
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


def selection_score(primary_metric: str, num_images: int) -> Callable[[dict[str, Any]], float]:
    """Return the function that ranks epochs: by the primary metric, on small sets by log loss.

    Args:
        primary_metric: The job's metric.
        num_images: Validation images.
    """

    def score(metrics: dict[str, Any]) -> float:
        value, loss = metrics.get(primary_metric), metrics.get("log_loss")
        if loss is not None and (num_images < SMALL_VALIDATION or value is None):
            return -float(loss)
        return float("-inf") if value is None else float(value)

    return score
