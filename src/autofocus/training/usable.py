"""Find the images that decode, their sizes and their content hashes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.decode import decode
from autofocus.data.images.fetch import content_hash, open_bytes
from autofocus.data.images.near_duplicates import thumbnail
from autofocus.data.rows.issues import Issue
from autofocus.data.rows.records import ImageDetails
from autofocus.errors import ImageError, InputError
from autofocus.runtime import Track, num_cores


@dataclass(frozen=True)
class UsableImages:
    """Images that decode.

    Attributes:
        records: n rows, which have the true image size.
        locations: n local paths or URLs.
        hashes: n content hashes of the files.
        thumbnails: n results of `near_duplicates.thumbnail`.
    """

    records: list[Any]
    locations: list[str]
    hashes: list[str]
    thumbnails: list[NDArray[np.uint8]]


def usable_images(
    records: Sequence[Any],
    locations: Sequence[str],
    report: Callable[[Issue], None],
    track: Track,
) -> UsableImages:
    """Decode every image once; report broken ones now, not in the middle of training.

    Args:
        records: Rows.
        locations: Paths or URLs of their images.
        report: Called with the issue of every unusable image.
        track: Progress display.
    """
    usable = UsableImages([], [], [], [])
    with ThreadPoolExecutor(num_cores(), thread_name_prefix="autofocus-look") as pool:
        looks = track(pool.map(_look, locations), "look at images", len(locations))
        for record, location, facts in zip(records, locations, looks, strict=True):
            if isinstance(facts, InputError):
                report(image_issue(location, facts))
                continue
            details = ImageDetails(height=facts.size[0], width=facts.size[1])
            usable.records.append(msgspec.structs.replace(record, image_details=details))
            usable.locations.append(location)
            usable.hashes.append(facts.content_hash)
            usable.thumbnails.append(facts.thumbnail)
    return usable


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
    thumbnail: NDArray[np.uint8]


def _look(location: str) -> _ImageFacts | InputError:
    try:
        data = open_bytes(location)
        pixels = decode(data)
    except InputError as error:
        return error
    height, width, _ = pixels.shape
    return _ImageFacts((height, width), content_hash(data), thumbnail(pixels))
