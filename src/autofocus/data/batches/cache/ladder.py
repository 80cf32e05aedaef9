"""In which form a data set is kept: the fastest to use that the budget allows.

rung     what is kept                                 where          cost of an image, VGA
pixels   decoded, halved where that is harmless       RAM or file    none but reading 0.9 MB
bytes    the file's own bytes                         RAM            decoding
jpeg     decoded, halved, encoded again (quality 95)  file           decoding a smaller image
none     nothing; files are read anew, which for local ones is the system's own cache

Only `jpeg` changes pixels. It is taken where images are large or remote and nothing else fits.
"""

from dataclasses import dataclass
from typing import Literal

from autofocus.data.batches.cache.budget import CacheBudget

RungName = Literal["pixels", "bytes", "jpeg", "none"]
Place = Literal["memory", "disk"]

JPEG_QUALITY = 95
# Photographs at quality 95 without chroma subsampling take 0.4 to 0.7 bytes a pixel.
_JPEG_BYTES_PER_PIXEL_BYTE = 0.7 / 3
# Smaller savings are not worth a second lossy coding.
_MIN_JPEG_SAVING = 2.0


@dataclass(frozen=True, slots=True)
class DataSize:
    """What a data set takes in each form.

    Attributes:
        file_bytes: Its files.
        pixel_bytes: What the loader works from, decoded.
        is_remote: Whether any file comes over a network.
    """

    file_bytes: int
    pixel_bytes: int
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to keep a data set.

    Attributes:
        name: In which form.
        place: Where.
        num_bytes: What the data set takes, estimated.
        max_bytes: What it may take there.
    """

    name: RungName
    place: Place
    num_bytes: int
    max_bytes: int


def choose_rung(size: DataSize, budget: CacheBudget, only: RungName | None = None) -> Rung:
    """Return the fastest way to keep all of a data set, or the part of it that fits, or none.

    Args:
        size: What it takes in each form.
        budget: What is allowed.
        only: The form, when it was decided before: a run that goes on takes what it had.
    """
    rungs = [rung for rung in _ladder(size, budget) if only in (None, rung.name)]
    fitting = [rung for rung in rungs if rung.num_bytes <= rung.max_bytes]
    if fitting:
        return fitting[0]
    if only is not None:
        # All images take the form, and as many as fit are kept.
        return max(rungs, key=lambda rung: rung.max_bytes, default=Rung(only, "memory", 0, 0))
    if size.is_remote:
        # Each file that need not be fetched again is worth having.
        return Rung("bytes", "memory", size.file_bytes, budget.ram_bytes)
    return Rung("none", "memory", 0, 0)


def _ladder(size: DataSize, budget: CacheBudget) -> list[Rung]:
    disk_bytes = 0 if budget.folder is None else budget.disk_bytes
    rungs = [
        Rung("pixels", "memory", size.pixel_bytes, budget.ram_bytes),
        Rung("pixels", "disk", size.pixel_bytes, disk_bytes),
        Rung("bytes", "memory", size.file_bytes, budget.ram_bytes),
    ]
    jpeg_bytes = int(size.pixel_bytes * _JPEG_BYTES_PER_PIXEL_BYTE)
    if size.is_remote or jpeg_bytes * _MIN_JPEG_SAVING <= size.file_bytes:
        rungs.append(Rung("jpeg", "disk", jpeg_bytes, disk_bytes))
    return [rung for rung in rungs if rung.max_bytes > 0]
