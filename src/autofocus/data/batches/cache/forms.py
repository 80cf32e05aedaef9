"""The forms of an image file that a loader works from and may keep between epochs.

Both forms are functions of the file alone, so that a kept image is the very image that would be
read again: whether memory allows to keep it never changes what a network is trained on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import Augmentation, BoxAugmentation
from autofocus.data.batches.preprocess import fitted_size, resize
from autofocus.data.images.decode import (
    MAX_SAMPLE_BITS,
    ImageHeader,
    _upright,
    decode,
    read_header,
)
from autofocus.data.images.limits import check_limits
from autofocus.manifest import Preprocess, ResizeCrop, ResizeFit

# libjpeg scales down to an eighth.
_MAX_JPEG_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class CachedForm:
    """A form of an image.

    Attributes:
        pixels: Map from a file's bytes to RGB [h, w, 3].
        size: Map from a file's header to that h and w, give or take a pixel.
    """

    pixels: Callable[[bytes], NDArray[np.uint8]]
    size: Callable[[ImageHeader], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image in its kept form.

    Attributes:
        pixels: RGB [h, w, 3]; not to be written to.
        size: (height, width) of the image in its file, upright.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]

    @property
    def factor(self) -> int:
        """Pixels of the file along one of `pixels`, when it was halved."""
        return 1 << round(math.log2(max(self.size) / max(self.pixels.shape[:2])))


def evaluation_image(spec: Preprocess) -> CachedForm:
    """Keep exactly the pixels that evaluation normalises."""

    def size(header: ImageHeader) -> tuple[int, int]:
        whole = header.height, header.width
        return fitted_size(spec, whole) if isinstance(spec, ResizeFit) else spec.size

    def pixels(data: bytes) -> NDArray[np.uint8]:
        return resize(decode(data, sample_bits=spec.sample_bits), spec)

    return CachedForm(pixels, size)


def training_image(spec: ResizeCrop, params: Augmentation) -> CachedForm:
    """Keep the whole image, halved as often as every view of it would halve it.

    A view takes at least the share a = `area_range[0]` of the area. So where the shorter side is
    2 · crop_size / √a or longer, each view samples it down 2x or more, and halving it once for
    all takes nothing away from any of them.
    """
    short_side = spec.crop_size / math.sqrt(params.area_range[0])
    return _halved(lambda size: min(size) / short_side, spec.sample_bits)


def training_canvas(spec: ResizeFit, params: BoxAugmentation) -> CachedForm:
    """Keep the whole image, halved as often as the view that enlarges it most would halve it."""
    zoom = max(1.0, params.zoom_range[1], params.mosaic_zoom_range[1] * (params.mosaic_prob > 0))
    stretch = max(params.aspect_range[1], 1 / params.aspect_range[0])
    greatest = zoom * math.sqrt(stretch) * (1 + params.size_jitter)

    def least_step(size: tuple[int, int]) -> float:
        placed = fitted_size(spec, size)
        return min(size[0] / placed[0], size[1] / placed[1]) / greatest

    return _halved(least_step, spec.sample_bits)


def _halved(least_step: Callable[[tuple[int, int]], float], sample_bits: int) -> CachedForm:
    """Keep images of a (height, width) halved while their least step stays at 1 or more."""

    def num_halvings(header: ImageHeader) -> int:
        return max(0, math.floor(math.log2(least_step((header.height, header.width)))))

    def pixels(data: bytes) -> NDArray[np.uint8]:
        header = read_header(data)
        return halved_image(data, header, num_halvings(header), sample_bits)

    def size(header: ImageHeader) -> tuple[int, int]:
        factor = 1 << num_halvings(header)
        return -(-header.height // factor), -(-header.width // factor)

    return CachedForm(pixels, size)


def halved_image(
    data: bytes, header: ImageHeader, num_halvings: int, sample_bits: int = MAX_SAMPLE_BITS
) -> NDArray[np.uint8]:
    """Decode an image at half its size, a quarter, and so on.

    JPEG is halved by its decoder, which saves up to a third of the work; pixels are within about a
    level of averaged blocks. Other formats are averaged.

    Raises:
        ImageError: If the image cannot be decoded.
    """
    num_in_decoder = min(num_halvings, _MAX_JPEG_HALVINGS) if header.format == "jpeg" else 0
    image = _scaled_jpeg(data, header, num_in_decoder) if num_in_decoder else None
    if image is None:
        image, num_in_decoder = decode(data, sample_bits=sample_bits), 0
    for _ in range(num_halvings - num_in_decoder):
        height, width = image.shape[0] // 2, image.shape[1] // 2
        whole = image[: 2 * height, : 2 * width]
        image = np.asarray(
            cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
    return image


def _scaled_jpeg(data: bytes, header: ImageHeader, num_halvings: int) -> NDArray[np.uint8] | None:
    """Return a JPEG decoded at a fraction of its size, or None where `decode` must do it.

    Raises:
        ImageError: If it is too large.
    """
    check_limits(data, header)
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in ("YCbCr", "RGB", "Gray"):
            return None
        factor = 1 << num_halvings
        scaled: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except ValueError:
        # Damaged, or merely odd: `decode` tells them apart, and says what is wrong.
        return None
    return _upright(scaled, header.orientation)
