"""The one path from pixels to network input: for evaluation, export check, server, explainers.

Notation: h, w the image's size; C the crop; R the resize size (at least C).

The network sees the centred square of side min(h, w) · C / R, in whole pixels, sampled to C × C.
Only that square is ever touched. Sampling down goes

    halve (INTER_AREA) while twice the crop or larger -> bilinear up to 2C × 2C -> halve

which follows the antialiased bilinear resize that published weights were trained with more closely
than one INTER_AREA resize does, at a third to a tenth of its time: OpenCV's area averaging is fast
for exact halves only. Sampling up is plain bilinear.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.manifest import ResizeCrop


def preprocess(image: NDArray[np.uint8], spec: ResizeCrop) -> NDArray[np.float32]:
    """Turn pixels into the network's input.

    Args:
        image: RGB [h, w, 3], any size from 1 × 1.
        spec: Sizes in pixels and the normalisation.

    Returns:
        (x / 255 - mean) / std, [3, crop_size, crop_size], contiguous.
    """
    batch = preprocess_batch([image], spec)
    return batch.reshape(batch.shape[1:])


def preprocess_batch(images: Sequence[NDArray[np.uint8]], spec: ResizeCrop) -> NDArray[np.float32]:
    """Turn n images of any sizes into one batch [n, 3, crop_size, crop_size]."""
    batch = np.empty((len(images), 3, spec.crop_size, spec.crop_size), np.float32)
    tables = _normalizing_tables(spec)
    for image, planes in zip(images, batch, strict=True):
        square = resize_crop(image, spec)
        for channel, plane in enumerate(planes):
            cv2.LUT(cv2.extractChannel(square, channel), tables[channel], plane)
    return batch


def resize_crop(image: NDArray[np.uint8], spec: ResizeCrop) -> NDArray[np.uint8]:
    """Return what the network looks at, as RGB pixels [crop_size, crop_size, 3]."""
    crop = spec.crop_size
    square, num_halvings = _centred_square(image, spec)
    for _ in range(num_halvings):
        square = _resize(square, square.shape[0] // 2, cv2.INTER_AREA)
    if square.shape[0] <= crop:
        return _resize(square, crop, cv2.INTER_LINEAR)
    return _resize(_resize(square, 2 * crop, cv2.INTER_LINEAR), crop, cv2.INTER_AREA)


def _centred_square(image: NDArray[np.uint8], spec: ResizeCrop) -> tuple[NDArray[np.uint8], int]:
    """Cut the square out and say how often it can be halved and stay at least crop_size."""
    crop = spec.crop_size
    height, width, _ = image.shape
    side = max(1, round(min(height, width) * crop / max(crop, spec.resize_size)))
    num_halvings = max(0, (side // crop).bit_length() - 1)
    # A side that halves evenly; what is lost is less than half a pixel of the result at each edge.
    side -= side % (1 << num_halvings)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side], num_halvings


def _resize(image: NDArray[np.uint8], size: int, interpolation: int) -> NDArray[np.uint8]:
    resized = cv2.resize(image, (size, size), interpolation=interpolation)
    return np.asarray(resized, np.uint8)


@lru_cache(maxsize=16)
def _normalizing_tables(spec: ResizeCrop) -> NDArray[np.float32]:
    """Return the normalised value of each byte, [3, 256]."""
    values = np.arange(256) / 255
    mean, std = np.array(spec.mean)[:, None], np.array(spec.std)[:, None]
    return np.ascontiguousarray((values - mean) / std, np.float32)
