"""What a format other than JSON Lines must offer to be read like it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue
from autofocus.data.rows.records import ImageRecord


def _no_splits(path: Path) -> dict[str, Path]:
    return {}


@dataclass(frozen=True)
class RawRow:
    """A row as the published schema has it, not checked yet.

    Attributes:
        file: Name of the file it comes from, for messages.
        base_dir: Folder that a relative `image_url` starts from.
        line: Its line, or None.
        values: `image_url`, `label` and maybe `image_details`; None for an image that is lost.
        issues: What was found on the way to the row.
    """

    file: str
    base_dir: str
    line: int | None
    values: dict[str, Any] | None
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        is_source: Whether a path is in this format.
        guess: Record types that it can be read as, the likeliest alone where it is clear.
        read_rows: Its rows, one an image, and issues about what belongs to none.
        splits: Where the splits that it describes itself are, by "train", "validation", "test";
            each place is a source. Without "train" there are none.
    """

    is_source: Callable[[Path], bool]
    guess: Callable[[Path, ReadOptions], list[type[ImageRecord]]]
    read_rows: Callable[[Path, type[ImageRecord], ReadOptions], Iterator[RawRow | Issue]]
    splits: Callable[[Path], dict[str, Path]] = _no_splits
