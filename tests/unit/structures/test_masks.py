"""COCO's run lengths, by hand."""

import numpy as np
import pytest

from autofocus.structures.masks import (
    counts_to_string,
    decode_rle,
    encode_rle,
    mask_counts,
    rle_area,
    string_to_counts,
)

# Down the columns: 0 1 | 0 1 | 1 1
MASK = np.array([[0, 0, 1], [1, 1, 1]], np.uint8)


def test_runs_go_down_the_columns_zeros_first() -> None:
    assert mask_counts(MASK).tolist() == [1, 1, 1, 3]
    assert mask_counts(1 - MASK).tolist() == [0, 1, 1, 1, 3]


def test_plain_counts_and_strings_mean_the_same() -> None:
    plain = {"size": [2, 3], "counts": [1, 1, 1, 3]}
    assert (decode_rle(plain) == MASK).all()
    assert (decode_rle(encode_rle(MASK)) == MASK).all()
    assert rle_area(plain) == rle_area(encode_rle(MASK)) == 4


def test_a_string_has_five_bits_a_character_and_differences_from_the_fourth() -> None:
    # 3 is '3'; 100 = 4 + 3 * 32 is 'T' (4 + 32 + 48) and '3'; the last is 5 - 100 = -95.
    assert counts_to_string([3, 100, 3, 5]).startswith("3T33")
    assert string_to_counts(counts_to_string([3, 100, 3, 5])).tolist() == [3, 100, 3, 5]


@pytest.mark.parametrize("counts", [[], [6], [0, 6], [0, 0, 1], [10**7, 1, 10**9, 16, 15, 2**31]])
def test_any_counts_come_back(counts: list[int]) -> None:
    assert string_to_counts(counts_to_string(counts)).tolist() == counts


def test_counts_that_do_not_fill_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="height x width = 6, got 7"):
        decode_rle({"size": [2, 3], "counts": [1, 6]})
    with pytest.raises(ValueError, match="height x width"):
        decode_rle({"size": [2, 3], "counts": [-1, 7]})


@pytest.mark.parametrize("text", ["T", "3 3", "3~"])
def test_a_string_cut_off_or_of_other_characters_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run-length string"):
        string_to_counts(text)


def test_masks_without_pixels() -> None:
    assert encode_rle(np.zeros((0, 4), bool)) == {"size": [0, 4], "counts": ""}
    assert decode_rle({"size": [0, 4], "counts": ""}).shape == (0, 4)
