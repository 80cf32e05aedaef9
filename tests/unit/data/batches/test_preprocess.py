import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import (
    fitted_size,
    input_frame,
    preprocess,
    preprocess_batch,
    resize_crop,
)
from autofocus.manifest import ResizeCrop, ResizeFit

SPEC = ResizeCrop()
ANY_SIZE = [(1, 1), (1, 3000), (3000, 1), (2, 3), (95, 97), (480, 640), (1100, 700)]
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 3), (223, 225), (449, 640)])
@pytest.mark.parametrize("sizes", [(256, 224), (224, 224), (100, 224), (1, 1), (33, 32), (500, 8)])
def test_any_image_fills_the_crop(size: tuple[int, int], sizes: tuple[int, int]) -> None:
    resize, crop = sizes
    spec = ResizeCrop(resize_size=resize, crop_size=crop)
    image = np.full((*size, 3), (10, 20, 30), np.uint8)
    output = preprocess(image, spec)
    assert output.shape == (3, crop, crop)
    assert output.dtype == np.float32
    assert output.flags.c_contiguous
    expected = (np.array([10, 20, 30]) / 255 - spec.mean) / spec.std
    np.testing.assert_allclose(output, np.broadcast_to(expected[:, None, None], output.shape), 1e-6)


def test_channels_are_normalised_each_by_its_own_mean_and_std() -> None:
    image = noise(224, 224)
    spec = ResizeCrop(resize_size=224, crop_size=224, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 2.0))
    expected = (image / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(preprocess(image, spec), expected.transpose(2, 0, 1), atol=1e-6)


def test_an_image_of_the_crop_size_is_not_resampled() -> None:
    image = noise(256, 300)
    spec = ResizeCrop(resize_size=256, crop_size=224, **RAW)
    expected = image[16:240, 38:262].transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess(image, spec), expected, atol=1e-3)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_exact_multiples_are_averaged_in_blocks(factor: int) -> None:
    image = noise(64 * factor, 64 * factor)
    spec = ResizeCrop(resize_size=64, crop_size=64)
    blocks = image.reshape(64, factor, 64, factor, 3).mean(axis=(1, 3))
    # Each halving rounds to whole levels.
    assert np.abs(resize_crop(image, spec) - blocks).max() <= np.log2(factor)


def test_only_the_centred_square_is_looked_at() -> None:
    image = noise(480, 640)
    spec = ResizeCrop(resize_size=256, crop_size=224)
    painted = image.copy()
    painted[:30] = painted[450:] = 0
    painted[:, :110] = painted[:, 530:] = 0
    np.testing.assert_array_equal(preprocess(painted, spec), preprocess(image, spec))
    painted[30, 110] = 255 - painted[30, 110]
    assert not np.array_equal(preprocess(painted, spec), preprocess(image, spec))


def test_left_and_right_are_treated_alike() -> None:
    for size in ((480, 640), (512, 512), (120, 96)):
        image = noise(*size)
        mirrored = resize_crop(np.ascontiguousarray(image[:, ::-1]), SPEC)[:, ::-1]
        difference = np.abs(resize_crop(image, SPEC).astype(int) - mirrored)
        assert difference.max() <= 1


def test_a_crop_larger_than_the_resize_takes_the_whole_shorter_side() -> None:
    image = noise(224, 300)
    output = resize_crop(image, ResizeCrop(resize_size=200, crop_size=224))
    np.testing.assert_array_equal(output, image[:, 38:262])


def test_a_batch_is_its_images() -> None:
    images = [noise(480, 640), noise(50, 70), noise(1, 1)]
    batch = preprocess_batch(images, SPEC)
    for image, output in zip(images, batch, strict=True):
        np.testing.assert_array_equal(output, preprocess(image, SPEC))
    assert preprocess_batch([], SPEC).shape == (0, 3, 224, 224)


def test_the_input_is_left_alone_and_may_be_a_view() -> None:
    image = noise(300, 400)
    image.setflags(write=False)
    view = noise(300, 400)[::-1, ::-1]
    expected = preprocess(np.ascontiguousarray(view), SPEC)
    np.testing.assert_array_equal(preprocess(view, SPEC), expected)
    assert preprocess(image, SPEC).shape == (3, 224, 224)


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


def test_a_batch_is_its_images_whole() -> None:
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
