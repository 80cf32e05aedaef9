"""Difference of two models with its interval, by resampling what judged them."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

Value = Callable[[np.ndarray], float | None]


class Difference(NamedTuple):
    """A metric of two models on the same images.

    Attributes:
        before: Metric of the first.
        after: Metric of the second.
        low: Lower end of the difference's 90 % interval.
        high: Upper end.
    """

    before: float
    after: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.before:.4f} -> {self.after:.4f}  difference {self.after - self.before:+.4f}"
            f" [{self.low:+.4f}, {self.high:+.4f}]"
        )


def difference(
    first: Value,
    second: Value,
    num_images: int,
    num_draws: int,
    groups: Sequence[Hashable] | None = None,
) -> Difference | None:
    """Return second minus first with a paired bootstrap 90 % interval; None where undefined.

    Args:
        first: Metric of the first model for positions of images; None where undefined.
        second: The same of the second model.
        num_images: n.
        num_draws: Resamples.
        groups: Group of each image, which are drawn as one; None: each is by itself.
    """
    everything, rng = np.arange(num_images), np.random.default_rng(0)
    before, after = first(everything), second(everything)
    if before is None or after is None:
        return None
    members: dict[Hashable, list[int]] = {}
    for i in range(num_images):
        members.setdefault(i if groups is None else groups[i], []).append(i)
    units = [np.array(rows) for rows in members.values()]
    gains = []
    for _ in range(num_draws):
        drawn = rng.integers(0, len(units), len(units))
        rows = np.concatenate([units[i] for i in drawn])
        pair = first(rows), second(rows)
        if None not in pair:
            gains.append(pair[1] - pair[0])
    return Difference(before, after, *np.quantile(gains, [0.05, 0.95]))
