"""Which part of a source a model is measured on: what it did not learn from, where that is said."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from autofocus.data.options import ReadOptions
from autofocus.data.sources.read import find_splits
from autofocus.errors import DataError

Split = Literal["test", "validation", "train"]

# Best first: epochs, models and thresholds were chosen on validation images.
_ORDER: Final[tuple[Split, ...]] = ("test", "validation", "train")


@dataclass(frozen=True)
class Part:
    """What to read.

    Attributes:
        source: A file or folder that `read_data` takes.
        split: Which split of the source that the user named it is; None where it has none.
    """

    source: str
    split: Split | None

    def __str__(self) -> str:
        return self.source if self.split is None else f"{self.source} ({self.split} split)"


def part_to_measure(source: str, options: ReadOptions, wanted: Split | None = None) -> Part:
    """Return the test split of a source, else its validation split, else all of it.

    Args:
        source: What the user named; splits are those of `find_splits`.
        options: Map URLs to folders.
        wanted: The split that the user asks for; None takes the first that there is.

    Raises:
        DataError: If there is no such split.
    """
    text = source
    if "://" in text and options.maps:
        from autofocus.data.images.locate import Locator

        text = Locator(Path.cwd(), None, options.maps).locate(text)
    splits = {} if "://" in text else find_splits(Path(text).expanduser())
    if wanted is not None and wanted not in splits:
        has = f"its splits are {', '.join(splits)}" if splits else "it has no splits"
        raise DataError(f"{source}: has no {wanted} split; {has}.")
    if not splits:
        return Part(source, None)
    first = next(split for split in _ORDER if split in splits)
    split = first if wanted is None else wanted
    return Part(str(splits[split]), split)
