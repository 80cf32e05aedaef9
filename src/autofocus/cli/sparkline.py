"""A curve as a word."""

from collections.abc import Sequence

SPARKS = "▁▂▃▄▅▆▇█"
WIDTH = 16


def sparkline(curve: Sequence[float | None], width: int = WIDTH) -> str:
    """Return the last points of a curve, a character each, from its lowest to its highest.

    Args:
        curve: None is undefined, and shown as a gap.
        width: Characters at most.
    """
    known = [value for value in curve if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    shown = curve[-width:]
    return "".join(" " if v is None else SPARKS[round((v - low) * scale)] for v in shown)
