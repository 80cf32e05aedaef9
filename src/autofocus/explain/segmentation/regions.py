"""XRAI's ranking of regions: the attribution's mean over what each mask adds, best mask first.

XRAI: Better Attributions Through Regions (Kapishnikov et al., ICCV 2019). The heat map is bit-equal
to PAIR saliency's for the same attribution, which takes exactly its operation (numpy's mean over
the same pixels in the same order) wherever a comparison or a stored value depends on rounding:

- Double-precision sums over the pixels that each mask would still add are kept up to date, with a
  bound on how far the reference's single-precision mean can be from them.
- Masks that the bound cannot tell from the best are decided by the reference's operation, whose
  result is kept until the mask loses another pixel.

Notation: h, w height and width in pixels; m masks; t pixels of all masks together.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.explain.compiled import compiled
from autofocus.explain.segmentation.masks import Masks

# A mask that adds fewer pixels than this is dropped (PAIR saliency's `min_pixel_diff`).
MIN_NEW_PIXELS: Final = 50

# Pairwise summation rounds each number at most 15 + 7 + 3 times in a block of 128 and once a
# doubling above that: 64 roundings are never reached below 2^46 pixels.
_MEAN_BOUND: Final = 64 * 2.0**-24

Floats = NDArray[np.floating]


def rank_regions(attribution: Floats, masks: Masks, *, fast: bool) -> NDArray[np.float64]:
    """Return the heat map, float64 [h, w].

    Args:
        attribution: Channels merged, finite, [h, w].
        masks: Overlapping masks of the same frame.
        fast: Order the masks once, by their whole mean, instead of after each one taken.
    """
    assert attribution.shape == masks.shape, "masks and attribution must share one frame"
    values = np.ascontiguousarray(attribution).ravel()
    heat = np.full(values.size, -np.inf)
    fill = _fill_by_whole_mean if fast else _fill_by_added_mean
    fill(values, masks, heat)
    left = heat == -np.inf
    if left.any():
        # Pixels without a mask get their own mean, so that the sum stays that of the attribution.
        heat[left] = values[left].mean()
    return heat.reshape(masks.shape)


def _fill_by_whole_mean(values: Floats, masks: Masks, heat: NDArray[np.float64]) -> None:
    gains = np.array([_mean(values[masks[i]]) for i in range(len(masks))])
    covered = np.zeros(values.size, np.bool_)
    for i in np.argsort(-gains, kind="stable"):
        added = _uncovered(masks[i], covered)
        if len(added) < MIN_NEW_PIXELS:
            continue
        heat[added] = values[added].mean()
        covered[added] = True


def _fill_by_added_mean(values: Floats, masks: Masks, heat: NDArray[np.float64]) -> None:
    doubles = values.astype(np.float64)
    covered = np.zeros(values.size, np.bool_)
    containing, first = _transpose(masks.pixels, masks.starts, values.size)
    # Pixels that a mask would still add: their number, sum, and sum of absolute values.
    counts, sums, abs_sums = _totals(doubles, masks.pixels, masks.starts)
    # Each of the subtractions to come may round once.
    drift = abs_sums * counts * 2.0**-52
    exact = np.full(len(masks), np.nan)
    alive = np.ones(len(masks), np.bool_)
    while len(close := _close_to_best(counts, sums, abs_sums, drift, exact, alive)):
        for i in close:
            if np.isnan(exact[i]):
                exact[i] = values[_uncovered(masks[i], covered)].mean()
        best = close[np.argmax(exact[close])]  # the first of equal ones
        added = _uncovered(masks[best], covered)
        heat[added] = exact[best]
        alive[best] = False
        _cover(added, doubles, containing, first, covered, counts, sums, abs_sums, exact)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else -np.inf


@compiled
def _uncovered(pixels: NDArray[np.int32], covered: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return those of `pixels` that are not covered, in order."""
    kept = np.empty_like(pixels)
    num_kept = 0
    for pixel in pixels:
        kept[num_kept] = pixel
        num_kept += not covered[pixel]
    return kept[:num_kept]


@compiled
def _transpose(
    pixels: NDArray[np.int32], starts: NDArray[np.int64], num_pixels: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return masks [t] by pixel, and where each pixel's begin [num_pixels + 1]."""
    first = np.zeros(num_pixels + 1, np.int64)
    for pixel in pixels:
        first[pixel + 1] += 1
    for pixel in range(num_pixels):
        first[pixel + 1] += first[pixel]
    next_free = first[:-1].copy()
    containing = np.empty(len(pixels), np.int32)
    for i in range(len(starts) - 1):
        for k in range(starts[i], starts[i + 1]):
            pixel = pixels[k]
            containing[next_free[pixel]] = i
            next_free[pixel] += 1
    return containing, first


@compiled
def _totals(
    values: NDArray[np.float64], pixels: NDArray[np.int32], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each mask's number of pixels, sum of values and sum of absolute values, [m] each."""
    num_masks = len(starts) - 1
    counts = starts[1:] - starts[:-1]
    sums = np.zeros(num_masks, np.float64)
    abs_sums = np.zeros(num_masks, np.float64)
    for i in range(num_masks):
        for k in range(starts[i], starts[i + 1]):
            value = values[pixels[k]]
            sums[i] += value
            abs_sums[i] += abs(value)
    return counts, sums, abs_sums


@compiled
def _close_to_best(
    counts: NDArray[np.int64],
    sums: NDArray[np.float64],
    abs_sums: NDArray[np.float64],
    drift: NDArray[np.float64],
    exact: NDArray[np.float64],
    alive: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Drop masks that add too little; return those whose mean may be the largest, ascending."""
    highest = np.full(len(counts), -np.inf)
    floor = -np.inf
    for i in range(len(counts)):
        if alive[i] and counts[i] < MIN_NEW_PIXELS:
            alive[i] = False
        if not alive[i]:
            continue
        if np.isnan(exact[i]):
            mean = sums[i] / counts[i]
            bound = (_MEAN_BOUND * max(0.0, abs_sums[i]) + 2 * drift[i]) / counts[i]
        else:
            mean, bound = exact[i], 0.0
        highest[i] = mean + bound
        floor = max(floor, mean - bound)
    return np.nonzero(alive & (highest >= floor))[0]


@compiled
def _cover(
    added: NDArray[np.int32],
    values: NDArray[np.float64],
    containing: NDArray[np.int32],
    first: NDArray[np.int64],
    covered: NDArray[np.bool_],
    counts: NDArray[np.int64],
    sums: NDArray[np.float64],
    abs_sums: NDArray[np.float64],
    exact: NDArray[np.float64],
) -> None:
    """Take pixels away from every mask that contains them."""
    for pixel in added:
        covered[pixel] = True
        value = values[pixel]
        for k in range(first[pixel], first[pixel + 1]):
            i = containing[k]
            counts[i] -= 1
            sums[i] -= value
            abs_sums[i] -= abs(value)
            exact[i] = np.nan
