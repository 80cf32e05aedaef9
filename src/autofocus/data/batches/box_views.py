"""Views of images with boxes: pixels and boxes go through the same matrix, straight to the canvas.

A training view shows one image, or four in a mosaic, each warped once into its part of the canvas.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.placement import (
    Placement,
    Rect,
    paint,
    quarters,
    random_placement,
    visible_fracs,
    whole_placement,
)
from autofocus.data.batches.augment.presets import BoxAugmentation
from autofocus.data.batches.augment.tone import sample_tone
from autofocus.data.batches.cache.forms import (
    CachedForm,
    CachedImage,
    evaluation_image,
    training_canvas,
)
from autofocus.data.batches.preprocess import fitted_size, input_frame, normalize
from autofocus.data.batches.views import Read
from autofocus.data.batches.warp import transform_points
from autofocus.manifest import ResizeFit
from autofocus.structures.frames import Frame
from autofocus.structures.targets import BoxTarget

# Networks halve their input five times.
SIZE_STEP = 32


@dataclass(frozen=True)
class PlacedImage:
    """One image of a view.

    Attributes:
        index: Its position in the data set.
        size: (height, width) of its file, in pixels.
        placement: Its place on the canvas; the matrix is for pixels of the file.
    """

    index: int
    size: tuple[int, int]
    placement: Placement


@dataclass(frozen=True)
class BoxViews:
    """Canvases with the boxes of what they show.

    A view's target is in fractions of the canvas and leaves crowds out: they are neither to be
    found nor wrong to find.

    Attributes:
        spec: Size and normalisation of the network's input.
        targets: One an image.
        augmentation: Ranges that views are drawn from; None gives what `preprocess` gives.
    """

    spec: ResizeFit
    targets: Sequence[BoxTarget]
    augmentation: BoxAugmentation | None = None

    @cached_property
    def cached_form(self) -> CachedForm:
        """The evaluation pixels, or as much of the image as views can show."""
        if self.augmentation is None:
            return evaluation_image(self.spec)
        return training_canvas(self.spec, self.augmentation)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of evaluation input, in pixels."""
        return self.spec.size

    @property
    def largest_size(self) -> tuple[int, int]:
        """(height, width) of the largest canvas, in pixels."""
        if self.augmentation is None or not self.augmentation.size_jitter:
            return self.size
        return self._canvas(1 + self.augmentation.size_jitter)

    def heaviest(self, num_images: int) -> NDArray[np.int64]:
        """Return the positions of the images with most objects, that one first."""
        num_objects = np.array([len(target) for target in self.targets])
        return np.argsort(-num_objects, kind="stable")[:num_images]

    def at(self, done_frac: float) -> "BoxViews":
        """Return these views, towards the end of training without mosaics."""
        params = self.augmentation
        if params is None or not params.mosaic_prob or done_frac < params.mosaic_until_frac:
            return self
        return replace(self, augmentation=replace(params, mosaic_prob=0.0))

    def input_size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the canvas of evaluation, or one near it: multiples of `SIZE_STEP`."""
        if self.augmentation is None or not self.augmentation.size_jitter:
            return self.size
        return self._canvas(1 + self.augmentation.size_jitter * (2 * rng.random() - 1))

    def _canvas(self, factor: float) -> tuple[int, int]:
        """Return the canvas of evaluation scaled by about `factor`."""
        height, width = (
            max(SIZE_STEP, round(side * factor / SIZE_STEP) * SIZE_STEP) for side in self.size
        )
        return height, width

    def draw(
        self, index: int, read: Read, rng: np.random.Generator, out: NDArray[np.float32]
    ) -> tuple[BoxTarget, Frame]:
        """Write one view of image `index` into `out`; see `Views.draw`."""
        size = out.shape[0], out.shape[1]
        if self.augmentation is None:
            image = read(index)
            return self._target([self._evaluated(index, image, out)], size), self._frame(image)
        if rng.random() < self.augmentation.mosaic_prob:
            others = rng.integers(len(self.targets), size=3).tolist()
            parts = zip([index, *others], quarters(rng, size), strict=True)
        else:
            parts = zip([index], [Rect(0, 0, *size)], strict=True)
        placed = [
            self._drawn(each, read(each), rect, rng, self.augmentation, out) for each, rect in parts
        ]
        return self._target(placed, size), Frame(size)

    def _frame(self, image: CachedImage) -> Frame:
        return input_frame(self.spec, image.size)

    def _evaluated(self, index: int, image: CachedImage, out: NDArray[np.float32]) -> PlacedImage:
        """Write what evaluation sees of an image."""
        height, width, _ = image.pixels.shape
        out[height:] = 0
        out[:height, width:] = 0
        normalize(image.pixels, self.spec, out[:height, :width])
        scale = np.diag([width / image.size[1], height / image.size[0]])
        whole = Placement(Rect(0, 0, *self.size), np.column_stack([scale, (0, 0)]))
        return PlacedImage(index, image.size, whole)

    def _drawn(
        self,
        index: int,
        image: CachedImage,
        rect: Rect,
        rng: np.random.Generator,
        params: BoxAugmentation,
        out: NDArray[np.float32],
    ) -> PlacedImage:
        """Write one image of a training view into its part of the canvas."""
        height, width = image.size
        canvas = out.shape[0], out.shape[1]
        placed = fitted_size(
            msgspec.structs.replace(self.spec, height=canvas[0], width=canvas[1]), image.size
        )
        fit = placed[1] / width, placed[0] / height
        is_tile = (rect.height, rect.width) != canvas
        if not is_tile and rng.random() < params.whole_prob:
            placement = whole_placement(rng, image.size, fit, rect, params)
        else:
            target = self.targets[index]
            boxes = target.xyxy_frac[~target.is_crowd] * np.array([width, height, width, height])
            zoom_range = params.mosaic_zoom_range if is_tile else params.zoom_range
            placement = random_placement(rng, image.size, boxes, fit, rect, params, zoom_range)
        shrunk = replace(placement, matrix=placement.matrix * (image.factor, image.factor, 1))
        paint(image.pixels, shrunk, self.spec, out, sample_tone(rng, params))
        return PlacedImage(index, image.size, placement)

    def _target(self, placed: Sequence[PlacedImage], size: tuple[int, int]) -> BoxTarget:
        """Return the target of a canvas of `size`."""
        boxes, classes = [], []
        for image in placed:
            target = self.targets[image.index]
            which = np.flatnonzero(~target.is_crowd)
            moved = moved_boxes(target.xyxy_frac[which], image)
            visible, fracs = cut_boxes(moved, image.placement.rect)
            found = self.is_found(visible, fracs)
            boxes.append(visible[found])
            classes.append(target.classes[which[found]])
        return BoxTarget(*canvas_boxes(boxes, classes, size))

    def is_found(self, boxes: NDArray[np.float64], fracs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which objects are still to be found, given what is left of them.

        Args:
            boxes: [m, 4] corners of what is left, in pixels of the canvas.
            fracs: [m], the share of the object that it is.
        """
        keep_frac = 0.0 if self.augmentation is None else self.augmentation.keep_frac
        is_large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 1
        return np.asarray(is_large & (fracs >= keep_frac))


def moved_boxes(xyxy_frac: NDArray[np.float32], image: PlacedImage) -> NDArray[np.float64]:
    """Return the boxes [m, 4], in pixels of the canvas, around boxes in fractions of an image."""
    height, width = image.size
    corners = xyxy_frac[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) * (width, height)
    moved = transform_points(image.placement.matrix, corners)
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


def cut_boxes(
    boxes: NDArray[np.float64], rect: Rect
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the parts of boxes [m, 4] within a rectangle, and their shares of the boxes' areas."""
    low, high = (rect.left, rect.top), (rect.right, rect.bottom)
    return np.clip(boxes, low + low, high + high), visible_fracs(boxes, low + high)


def canvas_boxes(
    boxes: Sequence[NDArray[np.float64]],
    classes: Sequence[NDArray[np.int64]],
    size: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_], tuple[int, int]]:
    """Return the fields of the `BoxTarget` of a canvas from what its images have, in pixels."""
    height, width = size
    joined = np.concatenate(boxes) / (width, height, width, height)
    is_crowd = np.zeros(len(joined), np.bool_)
    return joined.astype(np.float32), np.concatenate(classes), is_crowd, size
