"""What every worker process is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autofocus.scoring.request import ImageScorer
from autofocus.serve.settings import Settings


@dataclass(frozen=True)
class Plan:
    """A server to be: model, limits, keys. Travels to new processes.

    Attributes:
        folder: The model folder.
        keys: Digests of the allowed keys; none serves everybody.
        load: Loads the model from `folder` with a limit of pixels; a function of a module, so
            that it travels.
    """

    folder: Path
    settings: Settings
    keys: list[bytes]
    load: Callable[[Path, int | None], ImageScorer]
