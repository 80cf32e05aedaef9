import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import preprocess, preprocess_batch, resize_crop
from autofocus.manifest import ResizeCrop

SPEC = ResizeCrop()
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
