"""The whole image as network input, and where it lies."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import fitted_size, input_frame, preprocess, preprocess_batch
from autofocus.manifest import ResizeCrop, ResizeFit

RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
ANY_SIZE = [(1, 1), (1, 3000), (3000, 1), (2, 3), (95, 97), (480, 640), (1100, 700)]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", ANY_SIZE)
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_any_image_lies_at_the_top_left_and_the_rest_is_zero(
    size: tuple[int, int], keep_aspect: bool
) -> None:
    spec = ResizeFit(height=96, width=128, keep_aspect=keep_aspect)
    image = np.full((*size, 3), (10, 20, 30), np.uint8)
    output = preprocess(image, spec)
    assert output.shape == (3, 96, 128)
    assert output.dtype == np.float32
    assert output.flags.c_contiguous
    height, width = fitted_size(spec, size)
    expected = np.zeros((3, 96, 128))
    color = (np.array([10, 20, 30]) / 255 - spec.mean) / spec.std
    expected[:, :height, :width] = color[:, None, None]
    np.testing.assert_allclose(output, expected, 1e-6)
    assert not output[:, height:].any()
    assert not output[:, :, width:].any()
    if keep_aspect:
        assert height == 96 or width == 128
    else:
        assert (height, width) == (96, 128)


def test_an_image_that_fits_is_not_resampled() -> None:
    image = noise(96, 60)
    output = preprocess(image, ResizeFit(height=96, width=128, **RAW))
    np.testing.assert_allclose(output[:, :, :60], image.transpose(2, 0, 1), atol=1e-3)


@pytest.mark.parametrize(
    "spec",
    [
        ResizeFit(height=96, width=128),
        ResizeFit(height=160, width=96, keep_aspect=False),
        ResizeCrop(resize_size=110, crop_size=96),
    ],
)
@pytest.mark.parametrize("size", [(300, 401), (64, 200), (90, 50), (640, 480)])
def test_a_frame_finds_in_the_image_what_was_drawn_in_it(
    spec: ResizeFit | ResizeCrop, size: tuple[int, int]
) -> None:
    """A rectangle's corners in the input, taken through the frame, are those in the image."""
    height, width = size
    top, bottom, left, right = height * 2 // 5, height * 3 // 5, width * 2 // 5, width * 3 // 5
    image = np.zeros((*size, 3), np.uint8)
    image[top:bottom, left:right] = 255
    output = preprocess(image, spec)[0]
    level = (output - output.min()) / (output.max() - output.min())
    rows, columns = np.flatnonzero(level.max(1) > 0.5), np.flatnonzero(level.max(0) > 0.5)
    canvas = spec.size[1], spec.size[0]
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / (canvas + canvas)
    frame = input_frame(spec, size)
    assert frame.size == size
    found = frame.boxes_to_image(box[None])[0] * (width, height, width, height)
    pixel = (np.array(frame.region[2:]) - frame.region[:2]) * (width, height) / canvas
    assert np.all(np.abs(found - (left, top, right, bottom)) <= 1.01 * np.tile(pixel, 2))


def test_a_frame_of_a_stretched_image_is_all_of_it() -> None:
    spec = ResizeFit(height=96, width=128, keep_aspect=False)
    assert input_frame(spec, (300, 77)).region == (0, 0, 1, 1)
    square = ResizeCrop(resize_size=64, crop_size=64)
    assert input_frame(square, (100, 100)).region == (0, 0, 1, 1)


def test_a_batch_is_its_images() -> None:
    spec = ResizeFit(height=96, width=128)
    images = [noise(480, 640), noise(50, 70), noise(1, 1), noise(200, 20)]
    batch = preprocess_batch(images, spec)
    for image, output in zip(images, batch, strict=True):
        np.testing.assert_array_equal(output, preprocess(image, spec))


def test_sampling_down_is_antialiased() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[::2] = 255
    spec = ResizeFit(height=300, width=300, **RAW)
    inner = preprocess(stripes, spec)[:, 10:-10, 10:-10]
    assert inner.std() < 0.25 * 127.5
    aliased = cv2.resize(stripes, (300, 300), interpolation=cv2.INTER_LINEAR)
    assert aliased.std() > 0.4 * 127.5
