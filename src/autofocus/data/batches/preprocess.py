"""The one path from pixels to network input: for evaluation, export check, server, explainers.

A `ResizeFit` network sees the whole image, warped as training views are, so that training and
evaluation differ in nothing but the matrix; what is left of the canvas is zero.

A `ResizeCrop` network sees a square. Notation: h, w the image's size; C the crop; R the resize
size (at least C). It is the centred square of side min(h, w) · C / R, in whole pixels, sampled to
C × C. Only that square is ever touched. Sampling down goes

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

from autofocus.data.batches.warp import warp
from autofocus.manifest import Preprocess, ResizeCrop, ResizeFit
from autofocus.structures.frames import Frame


def preprocess(image: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.float32]:
    """Turn pixels into the network's input.

    Args:
        image: RGB [h, w, 3], any size from 1 × 1.
        spec: Sizes in pixels and the normalisation.

    Returns:
        (x / 255 - mean) / std, [3, *spec.size], contiguous.
    """
    batch = preprocess_batch([image], spec)
    return batch.reshape(batch.shape[1:])


def preprocess_batch(images: Sequence[NDArray[np.uint8]], spec: Preprocess) -> NDArray[np.float32]:
    """Turn n images of any sizes into one batch [n, 3, *spec.size]."""
    batch = np.empty((len(images), 3, *spec.size), np.float32)
    tables = _normalizing_tables(spec.mean, spec.std)
    for image, planes in zip(images, batch, strict=True):
        pixels = resize(image, spec)
        height, width, _ = pixels.shape
        planes[:, height:] = 0
        planes[:, :height, width:] = 0
        for channel, plane in enumerate(planes):
            cv2.LUT(cv2.extractChannel(pixels, channel), tables[channel], plane[:height, :width])
    return batch


def input_frame(spec: Preprocess, size: tuple[int, int]) -> Frame:
    """Return the place of the network's input in an image.

    Args:
        spec: Sizes and normalisation of the input.
        size: (height, width) of the image, in pixels.
    """
    height, width = size
    if isinstance(spec, ResizeFit):
        placed_height, placed_width = fitted_size(spec, size)
        return Frame(size, (0.0, 0.0, spec.width / placed_width, spec.height / placed_height))
    top, left, side, _ = _centred_square(size, spec)
    region = (left / width, top / height, (left + side) / width, (top + side) / height)
    return Frame(size, region)


def resize(image: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.uint8]:
    """Return an image at the size that the network gets, RGB [h, w, 3], without padding."""
    return resize_fit(image, spec) if isinstance(spec, ResizeFit) else resize_crop(image, spec)


def fitted_size(spec: ResizeFit, size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that an image of a (height, width) takes in the network's input.

    Whole pixels, so with `keep_aspect` the two scales may differ by a hair; `input_frame` knows.
    """
    if not spec.keep_aspect:
        return spec.size
    scale = min(spec.height / size[0], spec.width / size[1])
    height, width = (max(1, round(side * scale)) for side in size)
    return min(height, spec.height), min(width, spec.width)


def resize_fit(image: NDArray[np.uint8], spec: ResizeFit) -> NDArray[np.uint8]:
    """Return the whole image as RGB pixels of its `fitted_size`."""
    height, width, _ = image.shape
    placed = fitted_size(spec, (height, width))
    if placed == (height, width):
        return image
    return warp(image, np.array([[placed[1] / width, 0, 0], [0, placed[0] / height, 0]]), placed)


def resize_crop(image: NDArray[np.uint8], spec: ResizeCrop) -> NDArray[np.uint8]:
    """Return the square that the network gets, as RGB pixels [crop_size, crop_size, 3]."""
    crop = spec.crop_size
    top, left, side, num_halvings = _centred_square(image.shape[:2], spec)
    square = image[top : top + side, left : left + side]
    for _ in range(num_halvings):
        square = _resize_square(square, square.shape[0] // 2, cv2.INTER_AREA)
    if square.shape[0] <= crop:
        return _resize_square(square, crop, cv2.INTER_LINEAR)
    return _resize_square(_resize_square(square, 2 * crop, cv2.INTER_LINEAR), crop, cv2.INTER_AREA)


def _centred_square(size: tuple[int, int], spec: ResizeCrop) -> tuple[int, int, int, int]:
    """Return the square's top, left and side, and how often it halves and stays at least C."""
    crop = spec.crop_size
    height, width = size
    side = max(1, round(min(height, width) * crop / max(crop, spec.resize_size)))
    num_halvings = max(0, (side // crop).bit_length() - 1)
    # A side that halves evenly; what is lost is less than half a pixel of the result at each edge.
    side -= side % (1 << num_halvings)
    return (height - side) // 2, (width - side) // 2, side, num_halvings


def _resize_square(image: NDArray[np.uint8], size: int, interpolation: int) -> NDArray[np.uint8]:
    resized = cv2.resize(image, (size, size), interpolation=interpolation)
    return np.asarray(resized, np.uint8)


@lru_cache(maxsize=16)
def _normalizing_tables(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the normalised value of each byte, [3, 256]."""
    values = np.arange(256) / 255
    normalized = (values - np.array(mean)[:, None]) / np.array(std)[:, None]
    return np.ascontiguousarray(normalized, np.float32)


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
