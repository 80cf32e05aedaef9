"""Limits of images that are decoded: of pixels, sides and scans, all known from the header.

Training, `data check`, scoring and serving share them. Failing a limit costs no pixel's memory.
"""

from autofocus.data.images.header import ImageHeader, count_scans
from autofocus.errors import ImageError

# Where Pillow itself draws the line to decompression bombs: 512 MiB as RGB. Decoders hold at most
# 9 bytes a pixel, so that a process of 2 GB bears one such image.
DEFAULT_MAX_PIXELS = 178_956_970
# JPEG's own limit. Pillow keeps a pointer a row, whatever the row's length.
MAX_SIDE = 65_535
# Where a decoder holds more than that, 15, 11 and 12 bytes, the share of pixels that is allowed.
_SHARES = {"webp": 0.6, "cmyk": 0.8, "16-bit tiff": 0.7, "16-bit png": 0.7}
# A progressive JPEG costs a pass over all pixels a scan, though the scan may be a few bytes long.
# Encoders write 10 to 20; so many are allowed at the most pixels, more at fewer.
_SCANS_AT_MOST_PIXELS = 16
_MAX_SCANS = 256


def check_limits(data: bytes, header: ImageHeader, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Refuse, from its header, an image that takes more memory or time than is allowed.

    Args:
        data: The file's content.
        header: Its header.
        max_pixels: As for `decode`.

    Raises:
        ImageError: `image.too_large`, or `image.corrupt` where it has far too many parts.
    """
    is_deep = header.bits > 8 and header.format in ("tiff", "png")
    name = f"16-bit {header.format}" if is_deep else header.format
    check_size(name, header.width, header.height, max_pixels)
    if header.format == "jpeg":
        _check_scans(data, header, max_pixels)


def check_size(kind: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse an image by its size; see `check_limits`.

    Args:
        kind: Its format; "cmyk", "16-bit tiff" and "16-bit png" are kinds of their own.
        width: Pixels.
        height: Pixels.
        max_pixels: As for `decode`.

    Raises:
        ImageError: `image.too_large`.
    """
    max_pixels = int(max_pixels * _SHARES.get(kind, 1))
    if width * height > max_pixels:
        where = f" in a {kind.upper()} image" if kind in _SHARES else ""
        raise ImageError(
            "image.too_large",
            f"The image has {width:,} x {height:,} pixels; at most {max_pixels:,} are allowed"
            f"{where}.",
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            "image.too_large",
            f"The image has {width:,} x {height:,} pixels; a side may have at most {MAX_SIDE:,}.",
        )


def _check_scans(data: bytes, header: ImageHeader, max_pixels: int) -> None:
    # Counting bytes takes microseconds and counts too many, such as those of a thumbnail.
    if data.count(b"\xff\xda") <= _SCANS_AT_MOST_PIXELS:
        return
    affordable = _SCANS_AT_MOST_PIXELS * max_pixels // (header.width * header.height)
    allowed = min(affordable, _MAX_SCANS)
    if count_scans(data, allowed + 1) > allowed:
        raise ImageError(
            "image.too_large",
            f"The JPEG image has more than {allowed} scans, too many for its size; save it again "
            "as a baseline or an ordinary progressive JPEG.",
        )
