"""The interface of formats other than JSON Lines, and the rows they give."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue
from autofocus.data.rows.records import ImageRecord


@dataclass(frozen=True)
class RawRow:
    """A row as the published schema has it, not checked yet.

    Attributes:
        file: Name of the file it comes from, for messages.
        base_dir: Folder that a relative `image_url` starts from.
        line: Its line, or None.
        values: `image_url`, `label` and maybe `image_details` and `group`; None for an image that
            is lost.
        issues: Issues found on the way to the row.
    """

    file: str
    base_dir: str
    line: int | None
    values: dict[str, Any] | None
    issues: tuple[Issue, ...] = ()


class Format(ABC):
    """One format of data sets.

    Attributes:
        name: Its name, unique and stable.
        counts_pixels: Whether its coordinates are pixels, or fractions where the user says so.
    """

    name: ClassVar[str]
    counts_pixels: ClassVar[bool] = False

    @abstractmethod
    def is_source(self, path: Path) -> bool:
        """Return whether `path` is in this format."""

    @abstractmethod
    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return the record types that a source can be read as; one alone where that is clear."""

    @abstractmethod
    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a source's rows, one an image, and issues that belong to no row.

        Raises:
            DataError: If the source cannot be read as this record type.
        """

    def columns(self, path: Path) -> list[str]:
        """Return the names of the columns that may say what images belong to; none elsewhere."""
        return []

    def splits(self, path: Path) -> dict[str, Path]:
        """Return the sources of the splits that `path` itself describes; none without "train".

        Keys are "train", "validation" and "test".

        Raises:
            DataError: If `path` says of several things that they are one split.
        """
        return {}
