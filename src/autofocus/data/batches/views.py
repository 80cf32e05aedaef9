"""Views of images: pixels for the network, and the target as it lies in them.

`Views` is the protocol; this file has the views of whole-image tasks, where the target is the same
whatever part of the image is visible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.augment.view import draw_view
from autofocus.data.batches.cache.forms import (
    CachedForm,
    CachedImage,
    evaluation_image,
    training_image,
)
from autofocus.data.batches.preprocess import normalize
from autofocus.manifest import ResizeCrop
from autofocus.structures.frames import Frame

# Gives the image at a position of the data set; safe for threads.
Read = Callable[[int], CachedImage]


class Views(Protocol):
    """Network input from the images of one data set, each with its target."""

    @property
    def cached_form(self) -> CachedForm:
        """Form of an image file to work from, and to keep between epochs."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of evaluation input, in pixels."""

    @property
    def largest_size(self) -> tuple[int, int]:
        """(height, width) of the largest that `input_size` gives, in pixels."""

    def heaviest(self, num_images: int) -> NDArray[np.int64]:
        """Return the positions of the images whose targets take most memory, that one first."""

    def at(self, done_frac: float) -> "Views":
        """Return the views of an epoch that begins with this share of training over."""

    def input_size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the (height, width) of one batch, in pixels."""

    def draw(
        self, index: int, read: Read, rng: np.random.Generator, out: NDArray[np.float32]
    ) -> tuple[Any, Frame]:
        """Write one view of image `index` into `out` and return its target and its frame.

        Args:
            index: The image's position in the data set.
            read: Gives it, and any other that the view is made of.
            rng: Source of all chance; evaluation takes none.
            out: float32 [h, w, 3], contiguous, its size one that `input_size` gave; becomes
                normalised RGB.
        """


@dataclass(frozen=True)
class ClassificationViews:
    """Square views; the target is the image's own.

    Attributes:
        spec: Size and normalisation of the network's input.
        targets: One an image.
        augmentation: Ranges that views are drawn from; None gives what `preprocess` gives.
    """

    spec: ResizeCrop
    targets: Sequence[Any] | NDArray[Any]
    augmentation: Augmentation | None = None

    @cached_property
    def cached_form(self) -> CachedForm:
        """The evaluation square, or as much of the image as views can show."""
        if self.augmentation is None:
            return evaluation_image(self.spec)
        return training_image(self.spec, self.augmentation)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of evaluation input, in pixels."""
        return self.spec.size

    @property
    def largest_size(self) -> tuple[int, int]:
        """The crop: the only size."""
        return self.spec.size

    def heaviest(self, num_images: int) -> NDArray[np.int64]:
        """Return the first images: all targets take the same."""
        return np.arange(min(num_images, len(self.targets)), dtype=np.int64)

    def at(self, done_frac: float) -> "ClassificationViews":
        """Return itself: these views stay as they are."""
        return self

    def input_size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the size of the crop."""
        return self.spec.size

    def draw(
        self, index: int, read: Read, rng: np.random.Generator, out: NDArray[np.float32]
    ) -> tuple[Any, Frame]:
        """Write one view of image `index` into `out`; see `Views.draw`."""
        image = read(index)
        if self.augmentation is None:
            normalize(image.pixels, self.spec, out)
        else:
            draw_view(image.pixels, rng, self.augmentation, self.spec, out)
        return self.targets[index], Frame(image.size)
