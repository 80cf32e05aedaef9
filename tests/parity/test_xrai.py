"""XRAI without gradients against PAIR saliency: masks and heat maps equal, bit for bit."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from autofocus.explain.segmentation.felzenszwalb import felzenszwalb
from autofocus.explain.segmentation.masks import (
    MIN_SIZE,
    RADIUS,
    SCALES,
    SIGMA,
    Masks,
    xrai_masks,
)
from autofocus.explain.segmentation.regions import MIN_NEW_PIXELS, rank_regions

pytest.importorskip("saliency", reason="the reference is a development dependency")
reference = pytest.importorskip("saliency.core.xrai")


def _photo(height: int, width: int) -> NDArray[np.float32]:
    photo = cv2.resize(data.coffee(), (width, height), interpolation=cv2.INTER_AREA)
    return photo.astype(np.float32) / 127.5 - 1


def _flat(height: int, width: int) -> NDArray[np.float32]:
    """A drawing: whole areas of one value, so that most edges cost exactly the same."""
    rng = np.random.default_rng(3)
    image = np.zeros((height, width, 3), np.float32)
    for _ in range(12):
        corner = rng.integers(0, (width, height)).tolist()
        colour = (rng.integers(0, 5, 3) / 4).tolist()
        cv2.circle(image, corner, int(rng.integers(10, 60)), colour, thickness=-1)
    return image


def _noise(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(4).random((height, width, 3), np.float32)


IMAGES = {
    "photo-224x224": _photo(224, 224),
    "photo-160x160": _photo(160, 160),
    "photo-160x224": _photo(160, 224),
    "photo-300x384": _photo(300, 384),
    "photo-384x384": _photo(384, 384),
    "drawing-192x320": _flat(192, 320),
    "noise-224x200": _noise(224, 200),
}


def _dense(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _smooth(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(_dense(shape), (0, 0), 9), np.float32)


def _sparse(shape: tuple[int, int]) -> NDArray[np.float32]:
    keep = np.random.default_rng(1).random(shape) > 0.98
    return np.where(keep, _dense(shape), np.float32(0))


def _quantised(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.round(_dense(shape) * 4) / np.float32(4)


def _blocks(shape: tuple[int, int]) -> NDArray[np.float32]:
    coarse = np.round(np.random.default_rng(2).normal(size=(4, 5)).astype(np.float32), 1)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_NEAREST))


def _cancelling(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Values whose sizes are a million times their mean."""
    signs = np.where(np.indices(shape).sum(0) % 2, 1.0, -1.0)
    return (signs * 1000 + 0.001 * _dense(shape)).astype(np.float32)


ATTRIBUTIONS = {
    "dense": _dense,
    "smooth": _smooth,
    "sparse": _sparse,
    "quantised": _quantised,
    "blocks": _blocks,
    "cancelling": _cancelling,
}


@pytest.fixture(scope="module", params=IMAGES)
def masks(request: pytest.FixtureRequest) -> tuple[list[NDArray[np.bool_]], Masks]:
    image = IMAGES[request.param]
    return reference._get_segments_felzenszwalb(image), xrai_masks(image)


def test_constants_are_the_references() -> None:
    assert list(SCALES) == reference._FELZENSZWALB_SCALE_VALUES
    assert [SIGMA] == reference._FELZENSZWALB_SIGMA_VALUES
    assert reference._FELZENSZWALB_MIN_SEGMENT_SIZE == MIN_SIZE
    parameters = reference.XRAIParameters()
    assert parameters.experimental_params == {"min_pixel_diff": MIN_NEW_PIXELS}
    assert RADIUS == 5


def test_masks_are_equal(masks: tuple[list[NDArray[np.bool_]], Masks]) -> None:
    expected, got = masks
    assert len(got) == len(expected)
    for i, mask in enumerate(expected):
        np.testing.assert_array_equal(got[i], np.flatnonzero(mask))


@pytest.mark.parametrize("algorithm", ["full", "fast"])
@pytest.mark.parametrize("kind", ATTRIBUTIONS)
def test_heat_map_is_equal(
    kind: str, algorithm: str, masks: tuple[list[NDArray[np.bool_]], Masks]
) -> None:
    segments, ours = masks
    attribution = ATTRIBUTIONS[kind](ours.shape)
    expected = reference.XRAI().GetMask(
        x_value=attribution,
        call_model_function=None,
        base_attribution=attribution,
        segments=segments,
        extra_parameters=reference.XRAIParameters(algorithm=algorithm),
    )
    got = rank_regions(attribution, ours, fast=algorithm == "fast")
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_double_precision_attributions_give_the_same_too() -> None:
    image = IMAGES["photo-160x160"]
    attribution = np.random.default_rng(5).normal(size=image.shape)
    for algorithm in ("full", "fast"):
        expected = reference.XRAI().GetMask(
            x_value=image,
            call_model_function=None,
            base_attribution=attribution,
            extra_parameters=reference.XRAIParameters(algorithm=algorithm),
        )
        got = rank_regions(attribution.max(axis=-1), xrai_masks(image), fast=algorithm == "fast")
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(40, 60), (61, 37), (1, 50), (50, 1)])
def test_felzenszwalb_labels_are_scikit_images(shape: tuple[int, int]) -> None:
    from skimage.segmentation import felzenszwalb as scikit_image

    image = np.random.default_rng(6).random((*shape, 3))
    got = felzenszwalb(image, [1, 50, 400], sigma=0.8, min_size=5)
    for scale, labels in zip([1, 50, 400], got, strict=True):
        expected = scikit_image(image, scale=scale, sigma=0.8, min_size=5)
        np.testing.assert_array_equal(labels, expected)
