"""The images of a data set, each read and decoded no more often than the budget demands.

The form in which they are kept is the fastest to use that the budget allows:

form     what is kept                                 where          cost of an image, VGA
pixels   decoded, halved where that is harmless       RAM or file    none but reading 0.9 MB
bytes    the file's own bytes                         RAM            decoding
jpeg     decoded, halved, encoded again (quality 95)  file           decoding a smaller image
none     nothing; files are read anew, which for local ones is the system's own cache

Only `jpeg` changes pixels. It is taken where images are large or remote and nothing else fits.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg

from autofocus.data.batches.cache.budget import MIB, CacheBudget
from autofocus.data.batches.cache.forms import CachedForm, CachedImage
from autofocus.data.batches.cache.store import FileStore, MemoryStore, Store
from autofocus.data.batches.warp import Image
from autofocus.data.images.decode import read_header
from autofocus.data.images.fetch import open_bytes, without_query
from autofocus.errors import ImageError

log = logging.getLogger(__name__)

StorageForm = Literal["pixels", "bytes", "jpeg", "none"]
StoragePlace = Literal["memory", "disk"]

# Files, evenly spread, by which the bytes of a data set are estimated.
_NUM_SAMPLED = 32
JPEG_QUALITY = 95
# Photographs at quality 95 without chroma subsampling take 0.4 to 0.7 bytes a pixel.
_JPEG_BYTES_PER_PIXEL_BYTE = 0.7 / 3
# Smaller savings are not worth a second lossy coding.
_MIN_JPEG_SAVING = 2.0


@dataclass(frozen=True, slots=True)
class DataSize:
    """Bytes that a data set takes in each form.

    Attributes:
        file_bytes: Bytes of its files.
        pixel_bytes: Bytes of the decoded images that the loader works from.
        is_remote: Whether any file comes over a network.
    """

    file_bytes: int
    pixel_bytes: int
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """One way to keep a data set.

    Attributes:
        form: Form of what is kept.
        place: Memory or disk.
        num_bytes: Estimated bytes of the data set.
        max_bytes: Bytes that it may take there.
    """

    form: StorageForm
    place: StoragePlace
    num_bytes: int
    max_bytes: int


def choose_storage(size: DataSize, budget: CacheBudget, only: StorageForm | None = None) -> Storage:
    """Return the fastest way to keep all of a data set, or the part of it that fits, or none.

    Args:
        size: Bytes that it takes in each form.
        budget: Bytes that are allowed.
        only: The form, when it was decided before: a run that goes on takes what it had.
    """
    storages = [storage for storage in _options(size, budget) if only in (None, storage.form)]
    fitting = [storage for storage in storages if storage.num_bytes <= storage.max_bytes]
    if fitting:
        return fitting[0]
    if only is not None:
        # All images take the form, and as many as fit are kept.
        return max(
            storages, key=lambda storage: storage.max_bytes, default=Storage(only, "memory", 0, 0)
        )
    if size.is_remote:
        # Each file that need not be fetched again is worth having.
        return Storage("bytes", "memory", size.file_bytes, budget.ram_bytes)
    return Storage("none", "memory", 0, 0)


def _options(size: DataSize, budget: CacheBudget) -> list[Storage]:
    disk_bytes = 0 if budget.folder is None else budget.disk_bytes
    storages = [
        Storage("pixels", "memory", size.pixel_bytes, budget.ram_bytes),
        Storage("pixels", "disk", size.pixel_bytes, disk_bytes),
        Storage("bytes", "memory", size.file_bytes, budget.ram_bytes),
    ]
    jpeg_bytes = int(size.pixel_bytes * _JPEG_BYTES_PER_PIXEL_BYTE)
    if size.is_remote or jpeg_bytes * _MIN_JPEG_SAVING <= size.file_bytes:
        storages.append(Storage("jpeg", "disk", jpeg_bytes, disk_bytes))
    return [storage for storage in storages if storage.max_bytes > 0]


class ImageCache:
    """Images by position; safe for threads; logs once how it keeps them.

    Args:
        locations: Paths or URLs of the images.
        cached_form: Form of the images that the loader works from.
        budget: Memory and disk to keep them in; None keeps nothing.
        form: The form to keep them in, when it was decided before.

    Raises:
        ImageError: If one of the files looked at to decide is not an image.
        LocateError: If one of them cannot be read.
    """

    def __init__(
        self,
        locations: Sequence[str],
        cached_form: CachedForm,
        budget: CacheBudget | None = None,
        form: StorageForm | None = None,
    ) -> None:
        self._locations = locations
        self._cached_form = cached_form
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self.storage = self._choose(budget, form)
        self._store = self._open_store(budget)
        self._get = {
            "pixels": self._from_pixels,
            "bytes": self._from_bytes,
            "jpeg": self._from_jpeg,
            "none": self._anew,
        }[self.storage.form]

    def __enter__(self) -> "ImageCache":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def used_bytes(self) -> int:
        """Bytes that are kept now."""
        return self._store.used_bytes

    def image(self, index: int) -> CachedImage:
        """Return image `index` and the size it has in its file.

        Raises:
            ImageError: If its bytes cannot be decoded; names the file.
            LocateError: If they cannot be read.
        """
        return CachedImage(self.pixels(index), self._sizes[index])

    def pixels(self, index: int) -> Image:
        """Return image `index`, RGB [h, w, 3]; not to be written to.

        Raises:
            ImageError: If its bytes cannot be decoded; names the file.
            LocateError: If they cannot be read.
        """
        try:
            return self._get(index)
        except ImageError as error:
            place = without_query(self._locations[index])
            raise ImageError(error.code, f"{place}: {error.message}") from error

    def close(self) -> None:
        """Drop the kept images and remove their file."""
        self._store.close()

    def _choose(self, budget: CacheBudget | None, only: StorageForm | None) -> Storage:
        if budget is None:
            return Storage(only or "none", "memory", 0, 0)
        size = self._data_size()
        storage = choose_storage(size, budget, only)
        if storage.form == "none":
            log.debug(
                "image cache: none; %d images take %.1f MiB as they are and %.1f MiB decoded",
                len(self._locations),
                size.file_bytes / MIB,
                size.pixel_bytes / MIB,
            )
        else:
            log.debug(
                "image cache: %s of %d images in %s, about %.1f MiB of %.1f MiB allowed",
                storage.form,
                len(self._locations),
                storage.place,
                storage.num_bytes / MIB,
                storage.max_bytes / MIB,
            )
        return storage

    def _data_size(self) -> DataSize:
        num_images = len(self._locations)
        num_sampled = min(num_images, _NUM_SAMPLED)
        file_bytes = pixel_bytes = 0
        for i in range(num_sampled):
            location = self._locations[i * num_images // num_sampled]
            data = open_bytes(location)
            try:
                height, width = self._cached_form.size(read_header(data))
            except ImageError as error:
                raise ImageError(
                    error.code, f"{without_query(location)}: {error.message}"
                ) from error
            file_bytes += len(data)
            pixel_bytes += height * width * 3
        scale = num_images / max(1, num_sampled)
        is_remote = any("://" in location for location in self._locations)
        return DataSize(int(file_bytes * scale), int(pixel_bytes * scale), is_remote)

    def _open_store(self, budget: CacheBudget | None) -> Store:
        if self.storage.place == "disk":
            assert budget is not None
            assert budget.folder is not None, "the disk needs a folder"
            try:
                return FileStore(budget.folder, self.storage.max_bytes)
            except OSError as error:
                log.warning("image cache: no file in %s (%s)", budget.folder, error.strerror)
                return MemoryStore(0)
        return MemoryStore(self.storage.max_bytes)

    def _anew(self, index: int) -> Image:
        return self._decode(index, open_bytes(self._locations[index]))

    def _decode(self, index: int, data: bytes) -> Image:
        image = self._cached_form.pixels(data)
        if index not in self._sizes:
            header = read_header(data)
            self._sizes[index] = (header.height, header.width)
        return image

    def _from_bytes(self, index: int) -> Image:
        data = self._store.get(index)
        if data is None:
            data = open_bytes(self._locations[index])
            self._store.put(index, data)
        return self._decode(index, bytes(data))

    def _from_pixels(self, index: int) -> Image:
        data = self._store.get(index)
        if data is not None:
            return np.frombuffer(data, np.uint8).reshape(self._shapes[index])
        image = np.ascontiguousarray(self._anew(index))
        image.setflags(write=False)
        # Before the pixels are there for others to find.
        self._shapes[index] = image.shape
        self._store.put(index, image.data.cast("B"))
        return image

    def _from_jpeg(self, index: int) -> Image:
        data = self._store.get(index)
        if data is None:
            image = np.ascontiguousarray(self._anew(index))
            data = simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorsubsampling="444")
            self._store.put(index, data)
        # The first epoch too sees what later ones will.
        pixels: Image = simplejpeg.decode_jpeg(data, "RGB")
        return pixels
