"""Outlines in the units of their source, made fractions and checked ring by ring."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.formats.pixels import NUM_DECIMALS
from autofocus.data.rows.issues import RowIssues, short_value
from autofocus.data.rows.values import EDGE_TOLERANCE, to_number

_MIN_RING = 6  # three points
_RULE = "must be a list of rings [[x1, y1, x2, y2, …], …]"
_ROUNDING = 1e-5


def read_rings(
    rings: Any, size: tuple[int, int], rule: str, path: str, issues: RowIssues
) -> list[list[float]] | None:
    """Return an object's rings in fractions, or None after naming what is wrong with it.

    Args:
        rings: `[[x1, y1, x2, y2, …], …]`.
        size: (height, width) that coordinates are divided by.
        rule: Rule for coordinates, for messages.
        path: Place of the object, for messages.
        issues: Takes what is found; a ring without area is left out with a warning.
    """
    if not isinstance(rings, list):
        issues.error("polygon.type", path, _RULE, short_value(rings))
        return None
    read = []
    for i, ring in enumerate(rings):
        fractions = _read_ring(ring, size, rule, f"{path}[{i}]", issues)
        if fractions is None:
            return None
        if fractions.size:
            read.append(fractions)
    if not read:
        message = "must have a ring of at least 3 points"
        issues.error("polygon.few_points", path, message, short_value(rings))
        return None
    points = np.concatenate([ring.reshape(-1, 2) for ring in read])
    if not np.ptp(points, axis=0).all():
        issues.error("polygon.empty", path, "must have an area", short_value(rings))
        return None
    return [ring.tolist() for ring in read]


def _read_ring(
    ring: Any, size: tuple[int, int], rule: str, path: str, issues: RowIssues
) -> NDArray[np.float64] | None:
    """Return a ring's fractions [2p], empty when it has no area, None when it is wrong."""
    if not isinstance(ring, list):
        hint = "Put one more [ ] around the numbers." if to_number(ring) is not None else ""
        issues.error("polygon.type", path, _RULE, short_value(ring), hint)
        return None
    if len(ring) % 2:
        hint = "One coordinate is missing or too much."
        got = f"{len(ring)} numbers"
        issues.error("polygon.odd", path, "must have as many x as y", got, hint)
        return None
    if len(ring) < _MIN_RING:
        hint = "A ring without area adds nothing; it is left out."
        got = str(len(ring) // 2)
        issues.warning("polygon.short_ring", path, "must have at least 3 points", got, hint)
        return np.empty(0)
    numbers = _numbers(ring)
    if numbers is None:
        issues.error("coordinate.type", path, "must hold finite numbers", short_value(ring))
        return None
    return _inside(numbers, size, rule, path, issues)


def _numbers(ring: list[Any]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array(ring, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 and np.isfinite(numbers).all() else None


def _inside(
    numbers: NDArray[np.float64], size: tuple[int, int], rule: str, path: str, issues: RowIssues
) -> NDArray[np.float64] | None:
    height, width = size
    fractions = numbers / np.tile((width, height), len(numbers) // 2)
    excess = np.maximum(-fractions, fractions - 1)
    worst = int(excess.argmax())
    if excess[worst] > EDGE_TOLERANCE:
        num_outside = int((excess > EDGE_TOLERANCE).sum())
        hint = f"{num_outside} of the ring's {len(numbers)} numbers are outside."
        got = float(numbers[worst])
        issues.error("polygon.out_of_range", f"{path}[{worst}]", rule, got, hint)
        return None
    if excess[worst] > _ROUNDING:
        num_moved = int((excess > _ROUNDING).sum())
        hint = f"{num_moved} such in this ring were moved to the edge."
        got = float(numbers[worst])
        issues.warning("coordinate.clipped", f"{path}[{worst}]", rule, got, hint)
    return np.asarray(np.round(fractions.clip(0, 1), NUM_DECIMALS))
