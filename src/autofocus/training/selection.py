"""Model selection: paired comparison, the epoch to keep, early stopping, the rank of epochs."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

# With fewer validation images one of them moves accuracy more than most epochs do.
SMALL_VALIDATION = 200
# The first candidate must be better by this many standard errors of the paired difference.
MARGIN = 1.0
# Standard deviation of gains among candidates worth trying, as a share of the reference's loss.
PRIOR_SHARE = 0.2
# Candidates whose gains differ by less of the reference's loss are as good as each other.
TIE_SHARE = 0.02


@dataclass(frozen=True)
class Gain:
    """Mean loss that a candidate saves, on the same images.

    Attributes:
        mean: Mean over groups of images; positive favours the candidate.
        standard_error: Standard error of that mean; infinite for a single group.
        shrunk: The mean as far as it is to be believed.
    """

    mean: float
    standard_error: float
    shrunk: float


@dataclass(frozen=True)
class Scored:
    """A candidate on the images that judge all of them.

    Attributes:
        losses: Loss of each image, [n].
        size: Size of its model, in any unit; smaller is cheaper to serve.
    """

    losses: NDArray[np.float64]
    size: float


def choose(
    candidates: Sequence[Scored], groups: Sequence[Hashable], reference: int = 0
) -> tuple[int, list[Gain]]:
    """Choose the candidate with the least loss; of near ties, the smallest model.

    A near tie is a difference that, as far as it is to be believed, is less than `TIE_SHARE` of the
    reference's loss: an uncertain one is no reason for a larger model. Of one size the largest
    shrunk gain over the reference wins: a sure gain beats a lucky one.

    Args:
        candidates: Candidates, on the same n images.
        groups: Group of each image, [n].
        reference: Position of the candidate that gains are told of.

    Returns:
        Position of the chosen one, and each candidate's gain over the reference.
    """
    before = candidates[reference].losses
    # A perfect reference has a loss of a rounding error, of either sign.
    level = max(0.0, float(_group_means(before, groups).mean()))
    prior_sd = PRIOR_SHARE * level
    gains = [shrunk_gain(before, one.losses, prior_sd, groups) for one in candidates]
    best = candidates[max(range(len(gains)), key=lambda i: gains[i].mean)].losses
    lost = [shrunk_gain(one.losses, best, prior_sd, groups).shrunk for one in candidates]
    tied = [i for i, loss in enumerate(lost) if loss <= TIE_SHARE * level]
    return min(tied, key=lambda i: (candidates[i].size, -gains[i].shrunk)), gains


def shrunk_gain(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    prior_sd: float,
    groups: Sequence[Hashable],
) -> Gain:
    """Return a paired gain, shrunk towards none as far as it is uncertain.

    The posterior mean of a gain with the prior N(0, prior_sd²) that was measured with a normal
    error (Gelman et al., "Bayesian Data Analysis", section 2.5): the best of many lucky ones wins
    nothing, and a small gain that is sure is not thrown away.

    Args:
        before: Loss of each image under the reference, [n].
        after: Loss of the same images under the candidate, [n].
        prior_sd: Standard deviation of gains that may be expected.
        groups: Group of each image, [n]; images of one group are one piece of evidence.
    """
    assert before.shape == after.shape, "compare on the same images"
    means = _group_means(before - after, groups)
    mean, num_groups = float(means.mean()), len(means)
    error = float(means.std(ddof=1) / np.sqrt(num_groups)) if num_groups > 1 else float("inf")
    weight = prior_sd**2 / (prior_sd**2 + error**2) if prior_sd > 0 else 0.0
    return Gain(mean, error, weight * mean)


def _group_means(values: NDArray[np.float64], groups: Sequence[Hashable]) -> NDArray[np.float64]:
    numbers: dict[Hashable, int] = {}
    of_image = [numbers.setdefault(group, len(numbers)) for group in groups]
    assert len(of_image) == len(values), "each image has a group"
    means: NDArray[np.float64] = np.bincount(of_image, weights=values) / np.bincount(of_image)
    return means


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
