"""Decoding of an image's bytes to RGB pixels, the same everywhere and whatever the file's name.

The pixels are those of Pillow's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")`, which is
what published models were trained on, with two rules where Pillow has none worth keeping:

* 16-bit grey is divided by 256 (12-bit by 16), as Pillow itself does for 16-bit RGB; its own
  conversion clips at 255. Where a data set uses fewer of the 16 bits, they are `sample_bits`, and
  what is brighter is white. Integer or float samples of 32 bits have no known range and are
  refused.
* A truncated JPEG is refused; Pillow lets some pass with a grey lower half.

Alpha is dropped, not composited: Pillow's rule. CMYK goes through Pillow's plain inversion.
JPEG goes through simplejpeg, equal to Pillow in every pixel at half the time or less. All else
goes through Pillow: OpenCV reads fewer TIFFs and prints what its codecs complain about. It is asked
only for the lower bits of 16-bit colours, which Pillow drops.
"""

import ctypes
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)
from PIL.ImageFile import ImageFile

from autofocus.data.images.header import ImageHeader, read_header
from autofocus.data.images.limits import DEFAULT_MAX_PIXELS, check_limits, check_size
from autofocus.errors import ImageError

__all__ = ["DEFAULT_MAX_PIXELS", "ImageHeader", "decode", "read_header"]

# Bits of a sample that 8-bit pixels are made of, where a file has so many.
MAX_SAMPLE_BITS = 16
# Rows that are converted at once, so that no second copy of the whole image is made.
_STRIP_ROWS = 256

# Without a handler of its own, Pillow's warnings about odd files would reach stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# The plugins themselves, not Image.open: it tries others and enforces a limit of its own.
_PLUGINS: dict[str, type[ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
_warnings_lock = threading.Lock()


def decode(
    data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, sample_bits: int = MAX_SAMPLE_BITS
) -> NDArray[np.uint8]:
    """Decode an image of any supported format and turn it upright.

    Args:
        data: The file's content.
        max_pixels: Height × width above which the image is refused before any pixel is decoded;
            where a decoder holds more, above a share of it: 0.6 of WebP, 0.7 of 16-bit TIFF and
            PNG, 0.8 of CMYK. Sides and a JPEG's scans have limits of their own.
        sample_bits: Bits of 16-bit samples that are used, 8 to 16, as `used_bits` finds them; other
            images have theirs.

    Returns:
        RGB pixels [height, width, 3], contiguous.

    Raises:
        ImageError: `image.empty`, `image.unknown_format`, `image.truncated`, `image.corrupt` or
            `image.too_large`.
    """
    pixels = try_decode(data, max_pixels, sample_bits)
    if not isinstance(pixels, ImageError):
        return pixels
    # Raised here, without the decoder's frames: they hold its image, and callers keep errors.
    try:
        raise pixels
    finally:
        del pixels


def try_decode(
    data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, sample_bits: int = MAX_SAMPLE_BITS
) -> NDArray[np.uint8] | ImageError:
    """Return what `decode` does, or its error, which has no traceback and may be kept.

    A traceback's frames would keep the file and its pixels.
    """
    try:
        header = read_header(data)
        check_limits(data, header, max_pixels)
        if header.format == "jpeg":
            return _upright(_decode_jpeg(data, header, max_pixels), header.orientation)
        image = _decode_with_pillow(data, header, max_pixels, sample_bits)
        # Pillow has already turned TIFF, and only TIFF, while loading it.
        return image if header.format == "tiff" else _upright(image, header.orientation)
    except ImageError as error:
        return ImageError(error.code, error.message)


def used_bits(data: bytes) -> int | None:
    """Return how many bits the samples of a 16-bit image use, 8 to 16; None of any other image.

    Raises:
        ImageError: If it cannot be decoded.
    """
    if read_header(data).bits != MAX_SAMPLE_BITS:
        return None
    return 8 + int(decode(data).max()).bit_length()


def _decode_jpeg(data: bytes, header: ImageHeader, max_pixels: int) -> NDArray[np.uint8]:
    try:
        if simplejpeg.decode_jpeg_header(data)[2] in ("YCbCr", "RGB", "Gray"):
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
            return pixels
    except ValueError as error:
        reason = str(error).lower()
        if "premature end" in reason:
            raise ImageError("image.truncated", "The JPEG image ends too early.") from error
        if "corrupt jpeg data: bad" in reason:
            raise ImageError("image.corrupt", f"The JPEG image is damaged: {error}.") from error
    # CMYK and YCCK, and files with harmless oddities such as stray bytes between segments.
    return _decode_with_pillow(data, header, max_pixels, MAX_SAMPLE_BITS)


def _decode_with_pillow(
    data: bytes, header: ImageHeader, max_pixels: int, sample_bits: int
) -> NDArray[np.uint8]:
    try:
        with _quiet_pillow():
            image = _PLUGINS[header.format](io.BytesIO(data))
            check_size("cmyk" if image.mode == "CMYK" else header.format, *image.size, max_pixels)
            if header.format == "tiff":
                _silence_libtiff()
                image.load()
        image.load()
        if header.bits == MAX_SAMPLE_BITS > sample_bits and not image.mode.startswith("I;16"):
            image.close()  # whole, as Pillow has seen; both sets of pixels would be too many
            return _window_colours(data, header, sample_bits)
        return _to_rgb(image, header, sample_bits)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("image.too_large", f"{error}") from error
    except Exception as error:  # damaged bytes make Pillow raise almost any type
        reason = str(error) or type(error).__name__
        truncated = isinstance(error, EOFError) or "truncated" in reason.lower()
        raise ImageError(
            "image.truncated" if truncated else "image.corrupt",
            f"The {header.format.upper()} image cannot be decoded: {reason}.",
        ) from error


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence the warnings Pillow raises while it reads tags.

    Python's warning filters belong to the process, so only one thread at a time may change them.
    Pixels are decoded outside, but for TIFF, whose decoder reads tags too.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing about damaged files to the process's stderr, past Python.

    Pillow's module is linked to it, so its functions are found through the module. Where it is
    built in (Windows) they are not, and the lines stay.
    """
    set_handler = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
    if set_handler is not None:
        set_handler(None)


def _window_colours(data: bytes, header: ImageHeader, sample_bits: int) -> NDArray[np.uint8]:
    """Return the colours of a 16-bit image whose samples use fewer bits."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3:
        raise ImageError(
            "image.unknown_format",
            f"The {header.format.upper()} image's 16-bit colours cannot be read; save it as PNG.",
        )
    pixels = np.empty((*samples.shape[:2], 3), np.uint8)
    for top in range(0, len(samples), _STRIP_ROWS):
        # Alpha, the fourth, is dropped; OpenCV has blue first.
        colours = samples[top : top + _STRIP_ROWS, :, 2::-1]
        pixels[top : top + _STRIP_ROWS] = _windowed(colours, sample_bits)
    return pixels


def _windowed(samples: NDArray[Any], sample_bits: int) -> NDArray[Any]:
    """Return samples of so many bits as 0 to 255; what is brighter is 255."""
    spread: NDArray[Any] = np.minimum(samples >> (sample_bits - 8), 255)
    return spread


def _to_rgb(image: ImageFile, header: ImageHeader, sample_bits: int) -> NDArray[np.uint8]:
    if image.mode in ("I", "F", "LAB"):
        raise ImageError(
            "image.unknown_format",
            f"The {header.format.upper()} image has samples of mode {image.mode!r}, whose range is "
            "not known; convert it to 8 or 16 bits a sample.",
        )
    # Pillow would warn that transparency is lost, which is the rule here.
    image.info.pop("transparency", None)
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        strip = image.crop((0, top, width, min(height, top + _STRIP_ROWS)))
        if image.mode.startswith("I;16"):
            grey = _windowed(np.asarray(strip), 12 if header.bits == 12 else sample_bits)
            pixels[top : top + _STRIP_ROWS] = grey[:, :, None]
        else:
            pixels[top : top + _STRIP_ROWS] = np.asarray(strip.convert("RGB"))
    return pixels


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation: 2-4 flip, 5-8 also swap height and width."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = np.ascontiguousarray(image.transpose(1, 0, 2))
    # cv2.flip: 1 mirrors left-right, 0 top-bottom, -1 both; 5 is the bare transposition.
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else np.asarray(cv2.flip(image, flip), np.uint8)
