import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.rle import (
    Rle,
    encode_outlines,
    mask_areas,
    mask_iou,
)
from autofocus.structures.masks import rle_counts
from autofocus.structures.predictions import Polygon

SIZE = (40, 60)


def rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    """Return a ring in fractions from pixels of the area convention."""
    height, width = SIZE
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return np.array(corners, np.float32) / np.array([width, height], np.float32)


def bitmap(mask: Rle) -> NDArray[np.bool_]:
    """Draw run lengths, column by column."""
    lengths = rle_counts(mask)
    values = np.repeat(np.arange(len(lengths)) % 2, lengths)
    return values.reshape(mask["size"][::-1]).T.astype(bool)


def drawn(*outlines: Polygon) -> list[NDArray[np.bool_]]:
    return [bitmap(mask) for mask in encode_outlines(outlines, SIZE)]


def test_pixels_are_areas() -> None:
    (pixels,) = drawn((rectangle(3, 5, 13, 9),))
    expected = np.zeros(SIZE, np.bool_)
    expected[5:9, 3:13] = True
    np.testing.assert_array_equal(pixels, expected)


def test_rings_that_overlap_make_holes() -> None:
    outer, inner = rectangle(0, 0, 60, 40), rectangle(10, 10, 20, 30)
    core, apart = rectangle(12, 12, 18, 20), rectangle(30, 5, 40, 10)
    (holed, islands) = drawn((outer, inner), (inner, core, apart, apart, apart))
    expected = np.ones(SIZE, np.bool_)
    expected[10:30, 10:20] = False
    np.testing.assert_array_equal(holed, expected)
    expected = np.zeros(SIZE, np.bool_)
    expected[10:30, 10:20] = True
    expected[12:20, 12:18] = False
    expected[5:10, 30:40] = True
    np.testing.assert_array_equal(islands, expected)


def test_random_rings_are_the_exclusive_or_of_each() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        rings = tuple(rng.random((6, 2)).astype(np.float32) for _ in range(3))
        apart = drawn(*((ring,) for ring in rings))
        (together,) = drawn(rings)
        np.testing.assert_array_equal(together, apart[0] ^ apart[1] ^ apart[2])


def test_outlines_of_nothing_are_empty_masks() -> None:
    ring = rectangle(3, 5, 13, 9)
    line = ring[:2]
    outlines = [(), (line,), (ring, ring), (ring, line)]
    masks = encode_outlines(outlines, SIZE)
    assert [int(bitmap(mask).sum()) for mask in masks] == [0, 0, 0, 40]
    assert mask_areas(masks).tolist() == [0, 0, 0, 40]
    assert mask_iou(masks, masks[3:]).ravel().tolist() == [0, 0, 0, 1]


def test_areas_and_overlaps() -> None:
    masks = encode_outlines([(rectangle(0, 0, 10, 10),), (rectangle(5, 0, 15, 10),)], SIZE)
    assert mask_areas(masks).tolist() == [100, 100]
    expected = [[1, 1 / 3], [1 / 3, 1]]
    np.testing.assert_allclose(mask_iou(masks, masks), expected)
    assert mask_iou([], masks).shape == (0, 2)
    assert mask_iou(masks, []).shape == (2, 0)


def test_hundreds_of_masks() -> None:
    outlines = [(rectangle(i % 50, i // 50, i % 50 + 2, i // 50 + 1),) for i in range(400)]
    masks = encode_outlines(outlines, SIZE)
    assert mask_areas(masks).tolist() == [2.0] * 400
    assert np.diag(mask_iou(masks, masks)).tolist() == [1.0] * 400


@pytest.mark.parametrize("counts", [[0, 5], [2400], [0, 2400], [100000, 3, 40, 1, 99999, 7, 2]])
def test_counts_survive_their_compressed_string(counts: list[int]) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    whole = {"size": [sum(counts), 1], "counts": counts}
    encoded = mask.frPyObjects(whole, sum(counts), 1)["counts"]
    assert rle_counts({"counts": encoded}).tolist() == counts
    assert rle_counts({"counts": encoded.decode()}).tolist() == counts
