"""Which images can be used, how large they are, and which of them are the same."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from autofocus.data.images.decode import decode
from autofocus.data.images.fetch import content_hash, open_bytes
from autofocus.data.rows.issues import Issue
from autofocus.data.rows.records import ImageDetails
from autofocus.errors import ImageError, InputError
from autofocus.runtime import Track, num_cores
from autofocus.training.candidate import Samples


@dataclass(frozen=True)
class UsableSamples:
    """Samples whose images decode.

    Attributes:
        samples: Their records say the true size of the image.
        hashes: Of each image's content.
    """

    samples: Samples[Any]
    hashes: list[str]


def usable_samples(
    samples: Samples[Any], report: Callable[[Issue], None], track: Track
) -> UsableSamples:
    """Decode every image once; a broken one is reported now, not in the middle of training.

    Args:
        samples: Rows and where their images are.
        report: Takes the issue of every image that cannot be used.
        track: Progress display.
    """
    records, locations, hashes = [], [], []
    with ThreadPoolExecutor(num_cores(), thread_name_prefix="autofocus-look") as pool:
        looks = track(pool.map(_look, samples.locations), "look at images", len(samples))
        for record, location, seen in zip(samples.records, samples.locations, looks, strict=True):
            if isinstance(seen, InputError):
                report(image_issue(location, seen))
                continue
            details = ImageDetails(height=seen.size[0], width=seen.size[1])
            records.append(msgspec.structs.replace(record, image_details=details))
            locations.append(location)
            hashes.append(seen.content)
    return UsableSamples(Samples(records, locations, samples.source), hashes)


def image_issue(location: str, error: InputError) -> Issue:
    """Return what is wrong with an image, as the data check says it."""
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
    content: str


def _look(location: str) -> _ImageFacts | InputError:
    try:
        data = open_bytes(location)
        height, width, _ = decode(data).shape
    except InputError as error:
        return error
    return _ImageFacts((height, width), content_hash(data))
