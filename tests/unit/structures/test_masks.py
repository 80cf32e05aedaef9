"""COCO's run lengths, by hand."""

import numpy as np
import pytest

from autofocus.structures.masks import decode_rle, rle_counts

# Down the columns: 0 1 | 0 1 | 1 1
MASK = np.array([[0, 0, 1], [1, 1, 1]], np.uint8)


def test_runs_go_down_the_columns_zeros_first() -> None:
    assert (decode_rle({"size": [2, 3], "counts": [1, 1, 1, 3]}) == MASK).all()
    assert (decode_rle({"size": [2, 3], "counts": [0, 1, 1, 1, 3]}) == 1 - MASK).all()
    assert (decode_rle({"size": [2, 3], "counts": "1112"}) == MASK).all()


def test_a_string_has_five_bits_a_character_and_differences_from_the_fourth() -> None:
    # 3 is '3'; 100 = 4 + 3 * 32 is 'T' (4 + 32 + 48) and '3'; the last is 5 - 100 = -95.
    assert rle_counts({"counts": "3T33QM"}).tolist() == [3, 100, 3, 5]


def test_counts_that_do_not_fill_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="height x width = 6, got 7"):
        decode_rle({"size": [2, 3], "counts": [1, 6]})
    with pytest.raises(ValueError, match="height x width"):
        decode_rle({"size": [2, 3], "counts": [-1, 7]})


@pytest.mark.parametrize("text", ["T", "3 3", "3~"])
def test_a_string_cut_off_or_of_other_characters_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run-length string"):
        rle_counts({"counts": text})


def test_masks_without_pixels() -> None:
    assert decode_rle({"size": [0, 4], "counts": ""}).shape == (0, 4)
