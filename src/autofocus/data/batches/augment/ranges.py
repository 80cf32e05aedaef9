"""What is wrong with the ranges of an augmentation, in sentences."""

from typing import Any


def range_problems(params: Any, names: tuple[str, ...], limit: float) -> list[str]:
    """Return what is wrong with fields that are (least, greatest) in (0, limit]."""
    return [
        f"augmentation.{name} must be (least, greatest) with 0 < least <= greatest <= {limit:g}, "
        f"got ({low:g}, {high:g})."
        for name in names
        for low, high in [getattr(params, name)]
        if not 0 < low <= high <= limit
    ]


def value_problems(params: Any, names: tuple[str, ...], limit: float) -> list[str]:
    """Return what is wrong with fields that are numbers in [0, limit]."""
    return [
        f"augmentation.{name} must be in [0, {limit:g}], got {getattr(params, name):g}."
        for name in names
        if not 0 <= getattr(params, name) <= limit
    ]
