"""Names as people write them: spellings of a known name, and the known name nearest to a typo."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` when something close is known, else a full stop."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def spelled(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that `name` spells, or None.

    The REST interface writes `WarmupCosine` and `MeanAveragePrecision`, YAML writes
    `warmup_cosine` and `mean_average_precision`.
    """
    wanted = _squashed(str(name))
    return next((candidate for candidate in known if _squashed(candidate) == wanted), None)


def _squashed(name: str) -> str:
    return name.strip().lower().replace("_", "")
