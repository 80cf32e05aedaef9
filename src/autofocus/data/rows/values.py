"""The single values of a row, read by hand: class names, coordinates, flags, sizes.

Each reader returns the canonical value, or None after it has added an error to `issues`.
"""

import math
from typing import Any

from autofocus.data.rows.issues import RowIssues, short_value

# Labelling tools round outwards: this far outside [0, 1] an edge is moved, not refused.
EDGE_TOLERANCE = 0.005

_TRUE = ("true", "True", "1")
_FALSE = ("false", "False", "0")

ANOTHER_TASK = "Rows of another task? 'autofocus data check' without --task says which."


def read_name(value: Any, path: str, issues: RowIssues) -> str | None:
    """Return a class name: text, or a whole number as its text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _integer_text(value, path, issues)
    if not isinstance(value, str):
        hint = ANOTHER_TASK if isinstance(value, list) else ""
        issues.error("label.type", path, "must be a class name (text)", short_value(value), hint)
        return None
    if not value:
        issues.error("label.empty", path, "must not be empty", "")
        return None
    return read_text(value, path, issues)


def read_text(value: str, path: str, issues: RowIssues) -> str | None:
    """Return `value` unless it holds half a surrogate pair, which is no character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        issues.error(
            "text.invalid",
            path,
            "must be valid Unicode",
            short_value(value),
            "An escape is cut in half.",
        )
        return None
    return value


def read_flag(value: Any, path: str, issues: RowIssues) -> bool:
    """Return `isCrowd`: true for 1, "1", "true", "True" and true, as published."""
    if isinstance(value, str):
        known = value in _TRUE or value in _FALSE
        flag = value in _TRUE
    else:
        known = value is None or (isinstance(value, bool | int | float) and value in (0, 1))
        flag = known and bool(value)
    if not known:
        issues.warning(
            "crowd.value",
            path,
            "must be true, false, 1 or 0",
            short_value(value),
            "Taken as false.",
        )
    return flag


def read_coordinate(value: Any, path: str, issues: RowIssues) -> float | None:
    """Return a fraction in [0, 1]; text that is a number and edges just outside are put right."""
    number = to_number(value)
    if number is None:
        issues.error(
            "coordinate.type",
            path,
            "must be a number in [0, 1]",
            short_value(value),
            _type_hint(value),
        )
        return None
    if not math.isfinite(number):
        issues.error(
            "coordinate.not_finite", path, "must be a number in [0, 1]", short_value(number)
        )
        return None
    if isinstance(value, str):
        issues.warning(
            "coordinate.text",
            path,
            "must be a number, not text",
            short_value(value),
            "Read as a number.",
        )
    if 0 <= number <= 1:
        return number
    clipped = clip_frac(number)
    if clipped is None:
        issues.error(
            "coordinate.out_of_range",
            path,
            "must be in [0, 1]",
            short_value(value),
            range_hint(path),
        )
        return None
    issues.warning(
        "coordinate.clipped",
        path,
        "must be in [0, 1]",
        short_value(value),
        f"Moved to {clipped:g}.",
    )
    return clipped


def to_number(value: Any) -> float | None:
    """Return a number, or text of one, as a float that may be infinite or NaN; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.inf if isinstance(value, int) else None


def clip_frac(number: float) -> float | None:
    """Return the nearest fraction in [0, 1], or None when that is too far away."""
    if not -EDGE_TOLERANCE <= number <= 1 + EDGE_TOLERANCE:
        return None
    return min(max(number, 0.0), 1.0)


def range_hint(path: str) -> str:
    """Return a hint for a coordinate that is no fraction."""
    side = "height" if path.endswith("Y") else "width"
    of = "width and height" if "polygon" in path else side
    return (
        f"Coordinates are fractions of the image {of}; "
        "'autofocus data convert --absolute' rewrites pixels."
    )


def _integer_text(value: int, path: str, issues: RowIssues) -> str | None:
    try:
        return str(value)
    except ValueError:  # Python refuses to print more than 4,300 digits
        issues.error("label.type", path, "must be a class name (text)", "a huge number")
        return None


def _type_hint(value: Any) -> str:
    if isinstance(value, str) and "/" in value:
        return "This is the placeholder of a template; put the fraction itself there."
    return ""
