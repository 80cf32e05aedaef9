"""Difference of two models with its interval, by resampling the test images."""

from collections.abc import Callable

import numpy as np

Value = Callable[[np.ndarray], float | None]


def difference(first: Value, second: Value, num_images: int, num_draws: int) -> str | None:
    """Return second minus first with a paired bootstrap 90 % interval; None where undefined.

    Args:
        first: Metric of the first model for positions of images; None where undefined.
        second: The same of the second model.
        num_images: n.
        num_draws: Resamples.
    """
    everything, rng = np.arange(num_images), np.random.default_rng(0)
    before, after = first(everything), second(everything)
    if before is None or after is None:
        return None
    gains = []
    for _ in range(num_draws):
        rows = rng.integers(0, num_images, num_images)
        pair = first(rows), second(rows)
        if None not in pair:
            gains.append(pair[1] - pair[0])
    low, high = np.quantile(gains, [0.05, 0.95])
    return (
        f"{before:.4f} -> {after:.4f}  difference {after - before:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
