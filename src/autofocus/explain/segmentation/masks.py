"""The overlapping masks that XRAI chooses from: segments of six scales, each widened by 5 pixels.

The same masks as PAIR saliency's in the same order. Each is a sorted list of pixels instead of a
frame of flags: a mask covers 4 % of the frame on average, and 200 to 350 of them overlap.

Notation: h, w height and width in pixels; s scales; m masks; t pixels of all masks together.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autofocus.explain.compiled import compiled
from autofocus.explain.segmentation.felzenszwalb import felzenszwalb

# PAIR saliency 0.2.1, core/xrai.py.
SCALES: Final = (50, 100, 150, 250, 500, 1200)
SIGMA: Final = 0.8
MIN_SIZE: Final = 150
FRAME: Final = 224
RADIUS: Final = 5


@dataclass(frozen=True)
class Masks:
    """Masks over a frame of h × w pixels.

    Attributes:
        pixels: int32 [t], y * w + x, ascending within a mask.
        starts: int64 [m + 1]; mask i is `pixels[starts[i]:starts[i + 1]]`.
        shape: (h, w).
    """

    pixels: NDArray[np.int32]
    starts: NDArray[np.int64]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        """Return the pixels of mask i."""
        return self.pixels[self.starts[i] : self.starts[i + 1]]


def xrai_masks(image: NDArray[np.float32]) -> Masks:
    """Return the masks of one image [h, w, c].

    A constant image has nothing to tell segments apart: it is one mask.
    """
    low, high = image.min(), image.max()
    height, width = image.shape[:2]
    if low == high:
        everything = np.arange(height * width, dtype=np.int32)
        return Masks(everything, np.array([0, height * width]), (height, width))
    # Scales are meant for values in [-1, 1] and a frame of one size.
    normalized = (image - low) / (high - low) * 2.0 - 1.0
    labels = felzenszwalb(_to_frame(normalized), SCALES, SIGMA, MIN_SIZE)
    labels = _from_frame(labels, height, width)
    pixels, starts = _widened(labels, labels.reshape(len(SCALES), -1).max(1), _half_widths(RADIUS))
    return Masks(pixels, starts, (height, width))


def _to_frame(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Resize to the frame by cubic splines: scikit-image's `resize(…, order=3)`, bit for bit."""
    factors = np.divide(image.shape, (FRAME, FRAME, image.shape[2]))
    smooth = ndimage.gaussian_filter(
        image, np.maximum(0, (factors - 1) / 2), cval=0, mode="grid-constant"
    )
    zoomed: NDArray[np.floating] = ndimage.zoom(
        smooth, [1 / f for f in factors], order=3, mode="grid-constant", cval=0, grid_mode=True
    )
    # Values here span [-1, 1], so that the constant outside, 0, never widens the range.
    return np.asarray(np.clip(zoomed, image.min(), image.max()))


def _from_frame(labels: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
    """Resize labels [s, FRAME, FRAME] to [s, h, w] by nearest neighbour."""
    rows, columns = _nearest(height), _nearest(width)
    return np.ascontiguousarray(labels[:, rows[:, None], columns[None, :]])


def _nearest(length: int) -> NDArray[np.intp]:
    """Return the frame's row nearest to each of `length` rows; the rounding is scipy's."""
    factor = 1 / np.divide(FRAME, length)
    positions = np.arange(FRAME, dtype=np.float64)
    taken: NDArray[np.float64] = ndimage.zoom(
        positions, factor, order=0, mode="grid-constant", cval=0, grid_mode=True
    )
    return taken.astype(np.intp)


def _half_widths(radius: int) -> NDArray[np.int64]:
    """Return the half width of the disk in each of its rows, [2 * radius + 1]."""
    rows = np.arange(-radius, radius + 1)
    return np.floor(np.sqrt(radius**2 - rows**2)).astype(np.int64)


@compiled
def _boxes(labels: NDArray[np.int32], num_labels: int) -> NDArray[np.int64]:
    """Return top, bottom, left, right (inclusive) of each label of one scale [h, w]."""
    height, width = labels.shape
    boxes = np.empty((num_labels, 4), np.int64)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = height, -1, width, -1
    for y in range(height):
        for x in range(width):
            box = boxes[labels[y, x]]
            box[0] = min(box[0], y)
            box[1] = max(box[1], y)
            box[2] = min(box[2], x)
            box[3] = max(box[3], x)
    return boxes


@compiled
def _widen(
    labels: NDArray[np.int32],
    label: int,
    box: NDArray[np.int64],
    half_widths: NDArray[np.int64],
    changes: NDArray[np.int32],
) -> None:
    """Count in `changes`, row by row, where the disk around the label's pixels begins and ends.

    Args:
        labels: One scale, [h, w].
        label: The segment to widen.
        box: Top, bottom, left and right of the segment.
        half_widths: The disk, by row.
        changes: Zeros, [h, w + 1]; their running sum along a row is positive inside the mask.
    """
    height, width = labels.shape
    radius = len(half_widths) // 2
    for y in range(box[0], box[1] + 1):
        x = box[2]
        while x <= box[3]:
            if labels[y, x] != label:
                x += 1
                continue
            begin = x
            while x <= box[3] and labels[y, x] == label:
                x += 1
            for row in range(max(0, y - radius), min(height, y + radius + 1)):
                reach = half_widths[row - y + radius]
                changes[row, max(0, begin - reach)] += 1
                changes[row, min(width, x + reach)] -= 1


@compiled
def _widened(
    labels: NDArray[np.int32], last_labels: NDArray[np.int32], half_widths: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return `Masks.pixels` and `Masks.starts` of labels [s, h, w], scale after scale."""
    num_scales, height, width = labels.shape
    radius = len(half_widths) // 2
    changes = np.zeros((height, width + 1), np.int32)
    pixels = np.empty(16 * height * width, np.int32)
    # Counting starts at a scale's first label that is left after resizing, as in the reference.
    starts = np.zeros(int(last_labels.sum()) + num_scales + 1, np.int64)
    m, t = 0, 0
    for scale in range(num_scales):
        boxes = _boxes(labels[scale], last_labels[scale] + 1)
        for label in range(labels[scale].min(), last_labels[scale] + 1):
            if t + height * width > len(pixels):
                longer = np.empty(2 * len(pixels), np.int32)
                longer[:t] = pixels[:t]
                pixels = longer
            box = boxes[label]
            if box[1] >= 0:
                _widen(labels[scale], label, box, half_widths, changes)
                left, right = max(0, box[2] - radius), min(width, box[3] + radius + 1)
                for y in range(max(0, box[0] - radius), min(height, box[1] + radius + 1)):
                    depth = 0
                    for x in range(left, right):
                        depth += changes[y, x]
                        changes[y, x] = 0
                        if depth > 0:
                            pixels[t] = y * width + x
                            t += 1
                    changes[y, right] = 0
            m += 1
            starts[m] = t
    return pixels[:t].copy(), starts[: m + 1].copy()
