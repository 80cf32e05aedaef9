"""Intervals of metrics: how far other images of the same kind could move each of them.

The bootstrap by groups (Davison and Hinkley 1997, section 3.8): images of one group come and go
together, for a second view of one thing is no second piece of evidence.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.tasks.base import Targets, Task

# Share of the draws below, and above, a 90 % interval.
TAIL = 0.05
# Larger draws cost as much as they are more precise than anybody needs.
MAX_DRAWN_GROUPS = 2_000
# Numbers of all draws together, images x classes: seconds of sorting.
MAX_NUMBERS = 20_000_000
MIN_DRAWS = 50


def metric_intervals(
    task: Task[Any, Any],
    predictions: Sequence[Any],
    targets: Targets,
    labels: Sequence[str],
    groups: Sequence[Hashable],
    seed: int,
    num_draws: int = 400,
) -> dict[str, list[float]]:
    """Return 90 % intervals of every metric that is one number.

    Args:
        task: Task of whole images.
        predictions: n predictions of images that the model was not fitted on.
        targets: n entries of `Task.encode_targets`.
        labels: k class names.
        groups: Group of each image, [n].
        seed: Seed of the draws.
        num_draws: Draws; with many classes there are fewer.

    Returns:
        [low, high] by the metric's name; it contains the metric. Nothing for a single group.
    """

    def measure(positions: NDArray[np.int64]) -> dict[str, float]:
        found = [predictions[i] for i in positions]
        chosen = (
            targets[positions]
            if isinstance(targets, np.ndarray)
            else [targets[i] for i in positions]
        )
        metrics = task.evaluate(found, chosen, labels, {})
        return {name: value for name, value in metrics.items() if isinstance(value, float)}

    members = _members(groups)
    whole, num_groups = measure(np.arange(len(predictions))), len(members)
    if num_groups < 2:
        return {}
    num_drawn = min(num_groups, MAX_DRAWN_GROUPS)
    numbers = num_drawn * len(predictions) / num_groups * len(labels)
    draws, rng = [], np.random.default_rng(seed)
    for _ in range(min(num_draws, max(MIN_DRAWS, int(MAX_NUMBERS / numbers)))):
        drawn = rng.integers(num_groups, size=num_drawn)
        draws.append(measure(np.concatenate([members[i] for i in drawn])))
    found = {name: np.array([d[name] for d in draws if name in d]) for name in whole}
    scale = (num_drawn / num_groups) ** 0.5
    return {
        name: _interval(whole[name], values, scale, num_groups)
        for name, values in found.items()
        if values.size
    }


def _interval(
    value: float, draws: NDArray[np.float64], scale: float, num_groups: int
) -> list[float]:
    """Return the interval of a metric.

    Args:
        value: The metric.
        draws: The metric of each draw in which it is defined.
        scale: Standard error of the metric, in that of a draw.
        num_groups: Groups of all images.
    """
    deviations = scale * (draws - value)
    low, high = np.quantile(deviations, [TAIL, 1 - TAIL]).tolist()
    if not deviations.any() and value in (0.0, 1.0):
        # All right, or all wrong: the most that could be otherwise and yet not be seen.
        unseen = 1 - TAIL ** (1 / num_groups)
        low, high = (-unseen, 0.0) if value else (0.0, unseen)
    return [value + min(low, 0.0), value + max(high, 0.0)]


def _members(groups: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """Return the positions of each group's images."""
    found: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    return [np.array(positions, np.int64) for positions in found.values()]
