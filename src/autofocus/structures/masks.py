"""COCO's run-length masks: run lengths down the columns, zeros first, plain or as a string."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A character of the string carries five bits, 48 added; the sixth says that more follow.
_FIRST_CHARACTER, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10


def decode_rle(rle: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the mask uint8 [h, w] of a run-length dict whose counts are a list or a string.

    Raises:
        ValueError: If the counts do not fill the size.
    """
    height, width = rle["size"]
    counts = rle_counts(rle)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(
            f"counts must add up to height x width = {height * width}, got {counts.sum()}"
        )
    values = np.arange(len(counts), dtype=np.uint8) & 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def rle_counts(rle: dict[str, Any]) -> NDArray[np.int64]:
    """Return the run lengths of a run-length dict, whichever way they are written."""
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        return _string_to_counts(counts)
    return np.asarray(counts, np.int64)


def _string_to_counts(text: str | bytes) -> NDArray[np.int64]:
    """Return the run lengths of COCO's compressed string.

    Raises:
        ValueError: If the string is cut off, or has other characters.
    """
    raw = text.encode() if isinstance(text, str) else text
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not len(codes):
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() >= 2 * _MORE or codes[-1] & _MORE:
        raise ValueError("counts must be a run-length string of COCO")
    last = (codes & _MORE) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    values = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * place), starts)
    # The last character's top bit is the sign.
    negative = (codes[last] & _SIGN) > 0
    values -= negative * (1 << (_BITS * (place[last] + 1)))
    # From the fourth on each is the difference to the one before the last.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
