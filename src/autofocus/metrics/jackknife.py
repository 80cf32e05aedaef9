"""Jackknife: the contribution of each image to a metric that is no mean over images.

A file of its own: a numeric idea that is tested alone, and metrics know no trials.

Tukey's pseudo-values (Efron & Tibshirani 1993, chapter 11; groups: Shao & Tu 1995, section 2.3):
their mean is about the metric, their spread its standard error, and the differences of two models'
pseudo-values, pair by pair, have the standard error of the difference of the metrics.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

# Each group costs one more computation of the metric.
MAX_GROUPS = 20


def pseudo_values(
    metric: Callable[[Sequence[int]], float | None], num_images: int
) -> NDArray[np.float64] | None:
    """Return the pseudo-value of each image, or of each of `MAX_GROUPS` groups of images, [g].

    Image i is in group i mod g for every model: two models' groups can be compared.

    Args:
        metric: Returns the metric of the images at some positions; None where it is undefined.
        num_images: n.

    Returns:
        None where the metric is undefined, also without one of the groups.
    """
    num_groups = min(num_images, MAX_GROUPS)
    everything = range(num_images)
    rest = [[i for i in everything if i % num_groups != group] for group in range(num_groups)]
    whole = metric(everything) if num_groups > 1 else None
    without = [metric(part) for part in rest] if whole is not None else [None]
    known = [value for value in without if value is not None]
    if whole is None or len(known) < num_groups:
        return None
    pseudo: NDArray[np.float64] = num_groups * whole - (num_groups - 1) * np.array(known)
    return pseudo


def group_values(
    metric: Callable[[Sequence[int]], float | None], num_images: int
) -> NDArray[np.float64] | None:
    """Return the metric of each of `MAX_GROUPS` groups of images by itself, [g].

    Image i is in group i mod g, as in `pseudo_values`.

    Args:
        metric: Returns the metric of the images at some positions; None where it is undefined.
        num_images: n, many times the groups.

    Returns:
        None where the metric of a group is undefined.
    """
    groups = [range(group, num_images, MAX_GROUPS) for group in range(MAX_GROUPS)]
    values = [value for value in map(metric, groups) if value is not None]
    return np.array(values) if len(values) == MAX_GROUPS else None
