"""Find the images that decode, their sizes, content hashes and the bits of their samples."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.decode import MAX_SAMPLE_BITS, try_decode, used_bits
from autofocus.data.images.fetch import content_hash, open_bytes, open_tagged, without_query
from autofocus.data.images.header import SUFFIXES
from autofocus.data.images.near_duplicates import thumbnail
from autofocus.data.rows.issues import Issue
from autofocus.data.rows.records import ImageDetails
from autofocus.errors import ImageError, InputError
from autofocus.runtime import Track, num_cores

# Images, evenly spread, by which the bits of all samples are told.
_NUM_SAMPLED = 32
# Where samples have 8 bits; to fetch such images for that would be in vain.
_SHALLOW = (*SUFFIXES["jpeg"], *SUFFIXES["bmp"], *SUFFIXES["gif"], *SUFFIXES["webp"])


@dataclass(frozen=True)
class UsableImages:
    """Images that decode.

    Attributes:
        records: n rows, which have the true image size.
        locations: n local paths or URLs.
        hashes: n content hashes of the files.
        tags: n tags of the files; see `fetch`.
        thumbnails: n results of `near_duplicates.thumbnail`.
    """

    records: list[Any]
    locations: list[str]
    hashes: list[str]
    tags: list[str]
    thumbnails: list[NDArray[np.uint8]]


def usable_images(
    records: Sequence[Any],
    locations: Sequence[str],
    report: Callable[[Issue], None],
    track: Track,
    sample_bits: int = MAX_SAMPLE_BITS,
) -> UsableImages:
    """Decode every image once; report broken ones now, not in the middle of training.

    Args:
        records: Rows.
        locations: Paths or URLs of their images.
        report: Called with the issue of every unusable image.
        track: Progress display.
        sample_bits: Bits that 16-bit samples use.
    """
    usable = UsableImages([], [], [], [], [])
    with ThreadPoolExecutor(num_cores(), thread_name_prefix="autofocus-look") as pool:
        found = pool.map(_look, locations, repeat(sample_bits))
        looks = track(found, "look at images", len(locations))
        for record, location, facts in zip(records, locations, looks, strict=True):
            if isinstance(facts, InputError):
                report(image_issue(location, facts))
                continue
            details = ImageDetails(height=facts.size[0], width=facts.size[1])
            usable.records.append(msgspec.structs.replace(record, image_details=details))
            usable.locations.append(location)
            usable.hashes.append(facts.content_hash)
            usable.tags.append(facts.tag)
            usable.thumbnails.append(facts.thumbnail)
    return usable


def bits_in_use(locations: Sequence[str]) -> int:
    """Return how many bits of their 16-bit samples images use, 8 to 16; 16 where none has so many.

    Microscopes and scanners store 8 to 12 bits in 16: read by the whole range, all is black.

    Args:
        locations: Paths or URLs; some of them, evenly spread, are looked at.
    """
    deep = [place for place in locations if not without_query(place).lower().endswith(_SHALLOW)]
    num_sampled = min(len(deep), _NUM_SAMPLED)
    sample = [deep[i * len(deep) // num_sampled] for i in range(num_sampled)]
    with ThreadPoolExecutor(num_cores(), thread_name_prefix="autofocus-bits") as pool:
        found = [bits for bits in pool.map(_bits_of, sample) if bits is not None]
    return max(found, default=MAX_SAMPLE_BITS)


def _bits_of(location: str) -> int | None:
    try:
        return used_bits(open_bytes(location))
    except InputError:  # reported when all images are looked at
        return None


def image_issue(location: str, error: InputError) -> Issue:
    """Return the data check's issue for an image's error."""
    return Issue(
        file=location,
        code=error.code if isinstance(error, ImageError) else "image.unreadable",
        severity="error",
        message=str(error).removeprefix(f"{location}: ").removesuffix("."),
        hint="The image is left out.",
    )


@dataclass(frozen=True)
class _ImageFacts:
    size: tuple[int, int]
    content_hash: str
    tag: str
    thumbnail: NDArray[np.uint8]


def _look(location: str, sample_bits: int) -> _ImageFacts | InputError:
    try:
        data, tag = open_tagged(location)
    except InputError as error:
        # It waits for its turn, and the frames of its traceback would keep what was read.
        return error.with_traceback(None)
    pixels = try_decode(data, sample_bits=sample_bits)
    if isinstance(pixels, ImageError):
        return pixels
    height, width, _ = pixels.shape
    return _ImageFacts((height, width), content_hash(data), tag, thumbnail(pixels))
