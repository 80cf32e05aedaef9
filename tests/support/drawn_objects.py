"""Images of one bright object each, and what a view shows of it: where geometry is tested."""

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.cache.forms import CachedImage
from autofocus.data.batches.views import Read, Views
from autofocus.data.images.decode import read_header
from autofocus.structures.targets import BoxTarget

# Red, green, blue: an object's class is its channel.
NUM_CLASSES = 3


def png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def box_target(
    size: tuple[int, int], boxes: list[tuple[float, ...]], classes: list[int], crowd: tuple = ()
) -> BoxTarget:
    """Return a target of boxes given in pixels."""
    height, width = size
    xyxy = np.array(boxes, np.float64).reshape(-1, 4) / (width, height, width, height)
    is_crowd = np.array([i in crowd for i in range(len(boxes))], np.bool_)
    return BoxTarget(xyxy.astype(np.float32), np.array(classes, np.int64), is_crowd, size)


def read_of(images: list[NDArray[np.uint8]], views: Views) -> Read:
    """Return what gives the images in the form that the views work from."""
    kept = []
    for file in map(png, images):
        header = read_header(file)
        kept.append(CachedImage(views.cached_form.pixels(file), (header.height, header.width)))
    return kept.__getitem__


def assert_shows(view: NDArray[np.float32], masks: dict[int, NDArray[np.bool_]]) -> None:
    """Check that each class' pixels are those of its mask, but for one pixel at the edges."""
    near = np.ones((3, 3), np.uint8)
    for channel in range(NUM_CLASSES):
        mask = masks.get(channel, np.zeros(view.shape[:2], np.bool_)).astype(np.uint8)
        bright = view[:, :, channel] > 0.5
        surely = cv2.erode(mask, near, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
        perhaps = cv2.dilate(mask, near) > 0
        assert not (surely & ~bright).any(), f"class {channel}: its mask holds dark pixels"
        assert not (bright & ~perhaps).any(), f"class {channel}: bright pixels beyond its mask"
