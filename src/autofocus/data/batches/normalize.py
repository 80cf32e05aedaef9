"""From levels to the network's numbers, one table a channel, in channels-last memory."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import preprocess
from autofocus.manifest import Preprocess, ResizeCrop


def normalize(
    pixels: NDArray[np.uint8],
    spec: Preprocess,
    out: NDArray[np.float32],
    levels: NDArray[np.uint8] | None = None,
) -> None:
    """Write (pixels / 255 - mean) / std into `out`.

    Args:
        pixels: RGB [h, w, 3].
        spec: Its mean and std.
        out: float32 [h, w, 3], contiguous but for its rows' distance.
        levels: uint8 [256]; when given, each level of `pixels` is first replaced by its entry. It
            costs nothing: both tables are joined before they meet the pixels.
    """
    table = _table(spec.mean, spec.std)
    if levels is not None:
        table = np.take(table, levels, axis=1)
    written = cv2.LUT(pixels, table, out)
    assert written is out, "OpenCV writes into an array of the right type and shape"


@lru_cache(maxsize=16)
def _table(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return the number of each level and channel, [1, 256, 3].

    Read off `preprocess` itself, which leaves an image of the crop's size as it is: training and
    evaluation cannot come to differ.
    """
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    tiny = ResizeCrop(resize_size=16, crop_size=16, mean=mean, std=std)
    table = preprocess(levels, tiny).reshape(3, 1, 256)
    return np.ascontiguousarray(table.transpose(1, 2, 0))
