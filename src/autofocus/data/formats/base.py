"""What a format other than JSON Lines must offer to be read like it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofocus.data.issues import Issue
from autofocus.data.options import ReadOptions
from autofocus.data.records import ImageRecord

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
)


@dataclass(frozen=True)
class RawRow:
    """A row as the published schema has it, not checked yet.

    Attributes:
        file: Name of the file it comes from, for messages.
        base_dir: Folder that a relative `image_url` starts from.
        line: Its line, or None.
        values: `image_url`, `label` and maybe `image_details`.
    """

    file: str
    base_dir: str
    line: int | None
    values: dict[str, Any]


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        is_source: Whether a file or folder is in this format.
        guess: Record types that it can be read as, the likeliest alone where it is clear.
        read_rows: Its rows, and issues about what gives none.
    """

    is_source: Callable[[Path], bool]
    guess: Callable[[Path, ReadOptions], list[type[ImageRecord]]]
    read_rows: Callable[[Path, type[ImageRecord], ReadOptions], Iterator[RawRow | Issue]]
