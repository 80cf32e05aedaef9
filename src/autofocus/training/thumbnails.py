"""Thumbnails of a run's images, made where they are decoded anyway, and kept for the next run."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.decode import MAX_SAMPLE_BITS
from autofocus.data.images.near_duplicates import NUM_BYTES, thumbnail
from autofocus.runtime import cache_dir
from autofocus.training.feature_cache import FeatureCache

_VIEW = ["thumbnail"]


class Thumbnails:
    """Thumbnails by the content hash of their image; see `data/images/near_duplicates.py`.

    Threads may add them. The cache on disk is used within `with`.

    Args:
        sample_bits: Bits of 16-bit samples that the images were decoded with.
    """

    def __init__(self, sample_bits: int = MAX_SAMPLE_BITS) -> None:
        self._known: dict[str, NDArray[np.uint8]] = {}
        self._cache = FeatureCache(
            cache_dir() / "thumbnails.sqlite", f"{NUM_BYTES} bytes/{sample_bits}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cache.__exit__(*exc_info)

    def has(self, image_hash: str) -> bool:
        """Return whether an image need not be decoded for its thumbnail."""
        if image_hash not in self._known:
            row = self._cache.get(image_hash, _VIEW)
            if row is None:
                return False
            self._known[image_hash] = row[0].view(np.uint8)
        return True

    def add(self, image_hash: str, pixels: NDArray[np.uint8]) -> None:
        """Add an image, RGB [height, width, 3]."""
        found = thumbnail(pixels)
        self._known[image_hash] = found
        # The cache has rows of float32: four bytes stand for one.
        self._cache.put([(image_hash, found.view(np.float32)[None])], _VIEW)

    def rows(self, hashes: Sequence[str]) -> NDArray[np.uint8]:
        """Return the thumbnails of images that were added, uint8 [n, b]."""
        rows = [self._known[image_hash] for image_hash in hashes]
        return np.stack(rows) if rows else np.zeros((0, NUM_BYTES), np.uint8)
