"""Image headers: format, size and EXIF orientation from the first bytes. Decodes nothing.

The format comes from magic bytes, never from a file's name. The size is known before a pixel is
allocated, so that a limit can be enforced on it. Orientation is EXIF's (JPEG APP1, PNG eXIf, WebP
EXIF, TIFF tag 274) and 1 when absent or damaged.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from autofocus.errors import ImageError

_WIDTH, _HEIGHT, _BITS, _ORIENTATION = 256, 257, 258, 274
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_WANTED_TAGS = (_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT)
# Pixels of a TIFF's tile that any image may have; larger tiles are for larger images.
_MAX_TILE_PIXELS = 4096 * 4096
_MAX_TAGS = 4096
# Segments, chunks or blocks of one file. Readers step over each of them; the longest files of
# real encoders have a few thousand.
_MAX_SEGMENTS = 65_536
# TIFF field type -> struct code of one value; the other types hold no numbers we read.
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
# Bytes of one value of each field type; 1 for those not named.
_TIFF_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# A marker after a scan: stuffed zeros, restarts and fill bytes are none.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})

# Endings of file names by format.
SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
    "gif": (".gif",),
    "webp": (".webp",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)

# What phones write into the first box of a photo; other files with such a box are videos.
_PHOTO_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
)

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Facts about an image before it is decoded.

    Attributes:
        format: "jpeg", "png", "bmp", "tiff", "gif" or "webp".
        height: Pixels, after orientation.
        width: Pixels, after orientation.
        orientation: EXIF's 1 to 8; 1 is upright.
        bits: Bits a sample where the header says so (PNG, TIFF), else 8.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    bits: int = 8


def read_header(data: bytes) -> ImageHeader:
    """Read an image's header.

    Raises:
        ImageError: `image.empty`, `image.unknown_format`, `image.truncated` or `image.corrupt`.
    """
    name = _sniff(data)
    try:
        height, width, orientation, bits = _READERS[name](data)
    except (struct.error, IndexError, OverflowError) as error:
        raise ImageError(
            "image.truncated", f"The {name.upper()} image ends inside its header."
        ) from error
    if height < 1 or width < 1:
        raise ImageError(
            "image.corrupt", f"The {name.upper()} image says it has {width} x {height} pixels."
        )
    if orientation >= 5:
        height, width = width, height
    return ImageHeader(name, height, width, orientation, bits)


def _sniff(data: bytes) -> str:
    if not data:
        raise ImageError("image.empty", "The image has no bytes.")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if any(magic.startswith(data) for magic, _ in _MAGIC):
        raise ImageError("image.truncated", f"The image ends after {len(data)} bytes.")
    raise ImageError(
        "image.unknown_format",
        f"The bytes are {_guess(data)}; an image must be JPEG, PNG, BMP, TIFF, GIF or WebP.",
    )


def _guess(data: bytes) -> str:
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer ('git lfs pull' fetches the image)"
    if start.startswith(b"<"):
        return "HTML, XML or SVG text"
    if data[4:8] == b"ftyp":
        is_photo = data[8:12] in _PHOTO_BRANDS
        return "a HEIC or AVIF photo (save it as JPEG)" if is_photo else "a video"
    if start.isascii() and all(byte >= 9 for byte in start):
        return "text"
    return "of no known format"


_Fields = tuple[int, int, int, int]  # stored height, stored width, orientation, bits


def _jpeg(data: bytes) -> _Fields:
    orientation = 1
    for marker, start, end in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            bits, height, width = struct.unpack_from(">BHH", data, start)
            return height, width, orientation, bits
        if marker == 0xE1 and orientation == 1 and data[start : start + 6] == b"Exif\0\0":
            orientation = _exif_orientation(data[start:end])
    raise ImageError("image.corrupt", "The JPEG image has no frame header.")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment's content up to the pixels."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        # Decoders skip stray bytes between segments and any number of fill bytes.
        at = data.find(b"\xff", at)
        if at < 0:
            raise struct.error
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker in (0xD9, 0xDA):
            return
        if marker in _JPEG_STANDALONE or marker == 0:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 1)
        if at + 1 + length > len(data):
            raise struct.error
        yield marker, at + 3, at + 1 + length
        at += 1 + max(length, 2)
    raise _too_many_parts("JPEG", "segments")


def count_scans(data: bytes, enough: int) -> int:
    """Return the number of scans of a JPEG that `read_header` has read.

    Args:
        data: The file's content. What follows the image, such as a film, does not count.
        enough: Number at which counting stops.

    Raises:
        ImageError: `image.corrupt` if it consists of far too many parts.
    """
    at = max((end for _, _, end in _jpeg_segments(data)), default=2)
    num_scans = 0
    for _ in range(_MAX_SEGMENTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None or found[1] == b"\xd9" or num_scans >= enough:
            return num_scans
        num_scans += found[1] == b"\xda"
        # Stray bytes between segments are stepped over as decoders do, by the search.
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise _too_many_parts("JPEG", "segments")


def _too_many_parts(name: str, parts: str) -> ImageError:
    return ImageError(
        "image.corrupt", f"The {name} image consists of more than {_MAX_SEGMENTS:,} {parts}."
    )


def _png(data: bytes) -> _Fields:
    kind, width, height, bits = struct.unpack_from(">4sIIB", data, 12)
    if kind != b"IHDR":
        raise ImageError("image.corrupt", "The PNG image does not start with its header.")
    exif = next((data[a:b] for name, a, b in _chunks(data, 8, ">I4s", 4) if name == b"eXIf"), b"")
    return height, width, _exif_orientation(exif), bits


def _webp(data: bytes) -> _Fields:
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if riff_size + 8 > len(data):
        raise struct.error
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        width, height = 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ImageError("image.corrupt", "The WebP image starts with a chunk of no known kind.")
    exif = next((data[a:b] for name, a, b in _chunks(data, 12, "<4sI", 0) if name == b"EXIF"), b"")
    return height, width, _exif_orientation(exif), 8


def _chunks(
    data: bytes, at: int, layout: str, num_checksum: int
) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of PNG's or RIFF's chunks, stopping where the data does."""
    for _ in range(_MAX_SEGMENTS):
        if at + 8 > len(data):
            return
        first, second = struct.unpack_from(layout, data, at)
        name, size = (second, first) if isinstance(first, int) else (first, second)
        yield name, at + 8, at + 8 + size
        at += 8 + size + (num_checksum or size % 2)
    raise _too_many_parts("PNG" if num_checksum else "WebP", "chunks")


def _gif(data: bytes) -> _Fields:
    width, height = struct.unpack_from("<HH", data, 6)
    if sum(1 for _ in islice(_gif_blocks(data), _MAX_SEGMENTS + 1)) > _MAX_SEGMENTS:
        raise _too_many_parts("GIF", "blocks")
    return height, width, 1, 8


def _gif_blocks(data: bytes) -> Iterator[int]:
    """Yield where each block before the first image starts."""
    # Header, screen and, where it has one, the screen's colours.
    at = 13 + (6 << (data[10] & 7) if data[10] & 0x80 else 0)
    while at < len(data) and data[at] not in b",;":
        yield at
        if data[at] == 0x21:
            at += 2
            while at < len(data) and data[at]:
                yield at
                at += 1 + data[at]
        at += 1


def _bmp(data: bytes) -> _Fields:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return abs(height), width, 1, 8


def _tiff(data: bytes) -> _Fields:
    tags = _tiff_tags(data)
    orientation = tags.get(_ORIENTATION, 1)
    height, width = tags.get(_HEIGHT, 0), tags.get(_WIDTH, 0)
    # Decoders hold a whole tile, however little of it the image shows.
    tile_pixels = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0)
    if tile_pixels > max(_MAX_TILE_PIXELS, 2 * height * width):
        raise ImageError("image.corrupt", "The TIFF image's tiles are far larger than the image.")
    return (
        height,
        width,
        orientation if 1 <= orientation <= 8 else 1,
        tags.get(_BITS, 1),
    )


def _exif_orientation(exif: bytes) -> int:
    try:
        orientation = _tiff_tags(exif.removeprefix(b"Exif\0\0")).get(_ORIENTATION, 1)
    except (struct.error, OverflowError, ImageError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Return the first value of each wanted tag of a TIFF or BigTIFF file's first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return {}
    (version,) = struct.unpack_from(order + "H", data, 2)
    big = version == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (num_entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    entry, inline = (20, 8) if big else (12, 4)
    at += 8 if big else 2
    tags: dict[int, int] = {}
    num_bytes = 0
    for start in range(at, at + entry * min(num_entries, _MAX_TAGS), entry):
        tag, kind = struct.unpack_from(order + "HH", data, start)
        (count,) = struct.unpack_from(order + ("Q" if big else "I"), data, start + 4)
        num_bytes += count * _TIFF_BYTES.get(kind, 1)
        if tag not in _WANTED_TAGS or kind not in _TIFF_TYPES:
            continue
        code = _TIFF_TYPES[kind]
        value_at = start + entry - inline
        if count * struct.calcsize(code) > inline:
            (value_at,) = struct.unpack_from(order + ("Q" if big else "I"), data, value_at)
        tags.setdefault(tag, struct.unpack_from(order + code, data, value_at)[0])
    # Readers copy every tag's values, and a thousand tags may claim the same ones.
    if num_entries > _MAX_TAGS or num_bytes > 2 * len(data) + _MAX_SEGMENTS:
        raise ImageError("image.corrupt", "The TIFF image's tags claim more than the file holds.")
    return tags


_READERS: dict[str, Callable[[bytes], _Fields]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "gif": _gif,
    "bmp": _bmp,
    "tiff": _tiff,
}
