"""Trials in order of their worth, as text that is quick to write again after each of them."""

import bisect
from collections.abc import Mapping
from typing import Any

import orjson

from autofocus.runtime import plain

# Seconds vary from run to run; the leaderboard is bit-same for the same job and seed.
LEFT_OUT = ("seconds",)


class Leaderboard:
    """Rows from best to worst; trials that are level stand in the order of their numbers."""

    def __init__(self) -> None:
        self._keys: list[tuple[bool, float, int, str]] = []
        self._key_of: dict[str, tuple[bool, float, int, str]] = {}
        self._lines: list[bytes] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Put a trial in its place, instead of what was there of it before.

        Args:
            row: With `id` and `value`; None is worse than every number.
        """
        name, value = str(row["id"]), row["value"]
        number = int(name) if name.isdigit() else -1
        if (known := self._key_of.get(name)) is not None:
            index = bisect.bisect_left(self._keys, known)
            del self._keys[index], self._lines[index]
        key = self._key_of[name] = (value is None, -(value or 0.0), number, name)
        index = bisect.bisect(self._keys, key)
        shown = {field: item for field, item in row.items() if field not in LEFT_OUT}
        self._keys.insert(index, key)
        self._lines.insert(index, orjson.dumps(plain(shown)))

    def json(self) -> bytes:
        """Return the rows as a JSON list, one a line."""
        return b"[\n" + b",\n".join(self._lines) + b"\n]\n"
