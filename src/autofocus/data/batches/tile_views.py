"""Views of images, whole and in tiles: each tile is drawn as an image of its own.

Which parts there are is a list of entries, (position of the image, region); a view's index is a
position in that list. Every file is still read and kept once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.box_views import BoxViews
from autofocus.data.batches.cache.forms import CachedForm, CachedImage, training_canvas
from autofocus.data.batches.preprocess import resize
from autofocus.data.batches.tiles import frame_in_image, pixel_region
from autofocus.data.batches.views import Read
from autofocus.data.images.decode import decode
from autofocus.structures.frames import Frame, Region


@dataclass(frozen=True)
class TileViews:
    """Draws entries through the views of another kind.

    Attributes:
        parts: Views whose images are the entries and whose targets are theirs. Without
            augmentation they give exactly what the scorer sees of a tile.
        entries: (position of the image, region) of each.
    """

    parts: BoxViews
    entries: Sequence[tuple[int, Region]]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def cached_form(self) -> CachedForm:
        """The image, halved as often as views of its smallest tiles would halve it."""
        spec, params = self.parts.spec, self.parts.augmentation
        if params is None:
            return CachedForm(decode, lambda header: (header.height, header.width))
        regions = np.array([region for _, region in self.entries])
        width_frac, height_frac = (regions[:, 2:] - regions[:, :2]).min(axis=0)
        # The canvas of a whole image whose tile fills the canvas of a tile.
        height, width = round(spec.height / height_frac), round(spec.width / width_frac)
        return training_canvas(msgspec.structs.replace(spec, height=height, width=width), params)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of evaluation input, in pixels."""
        return self.parts.size

    @property
    def largest_size(self) -> tuple[int, int]:
        """(height, width) of the largest that `input_size` gives, in pixels."""
        return self.parts.largest_size

    def heaviest(self, num_images: int) -> NDArray[np.int64]:
        """Return the positions of the entries whose targets take most memory, that one first."""
        return self.parts.heaviest(num_images)

    def at(self, done_frac: float) -> "TileViews":
        """Return the views of an epoch that begins with this share of training over."""
        return replace(self, parts=self.parts.at(done_frac))

    def input_size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the (height, width) of one batch, in pixels."""
        return self.parts.input_size(rng)

    def draw(
        self, index: int, read: Read, rng: np.random.Generator, out: NDArray[np.float32]
    ) -> tuple[Any, Frame]:
        """Write one view of entry `index` into `out`; see `Views.draw`."""
        target, frame = self.parts.draw(index, lambda i: self._part(i, read), rng, out)
        if self.parts.augmentation is not None:
            return target, frame
        # Predictions of an evaluated tile are placed in the image.
        place, region = self.entries[index]
        size = read(place).size
        return target, frame_in_image(frame, pixel_region(region, size), size)

    def _part(self, index: int, read: Read) -> CachedImage:
        """Return an entry as an image; its edges are those of whole pixels of what is kept."""
        place, region = self.entries[index]
        image = read(place)
        height, width, _ = image.pixels.shape
        left, top, right, bottom = pixel_region(region, (height, width))
        pixels = image.pixels[top:bottom, left:right]
        size = ((bottom - top) * image.factor, (right - left) * image.factor)
        if self.parts.augmentation is None:
            pixels = resize(pixels, self.parts.spec)
        return CachedImage(pixels, size)
