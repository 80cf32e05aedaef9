"""The prior table: the models that AutoMode tries, their cost and their expected rank."""

import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

# Training images from which the next column of `rank` holds.
RANK_BOUNDS: Final = (1_000, 10_000)


@dataclass(frozen=True)
class PriorModel:
    """A row of the table: a model's cost and expected rank.

    Attributes:
        name: Name in the catalog.
        gmacs: Billions of multiply-adds an image.
        rank: Expected rank, lower is better, below 1,000 training images, below 10,000, and above.
        side: Side of the input in pixels; None is the model's own.
        resize_side: Shorter side of the image that it is cut from; None follows `side`.
    """

    name: str
    gmacs: float
    rank: tuple[float, float, float]
    side: int | None = None
    resize_side: int | None = None


@dataclass(frozen=True)
class Priors:
    """The table of one kind of models.

    Attributes:
        models: Rows in the file's order.
        max_trials: Maximum number of trials under a budget.
    """

    models: tuple[PriorModel, ...]
    max_trials: int

    def ranked(self, num_images: int) -> list[PriorModel]:
        """Return the rows, best expected first.

        Args:
            num_images: Training images.
        """
        column = bisect_right(RANK_BOUNDS, num_images)
        return sorted(self.models, key=lambda row: row.rank[column])

    def gmacs_of(self, name: str) -> float | None:
        """Return the least `gmacs` of a model's rows, or None without a row."""
        return min((row.gmacs for row in self.models if row.name == name), default=None)


def priors_of(kind: str) -> Priors:
    """Return the table of a kind of models.

    Args:
        kind: `models.base.CLASSIFIER`, `DETECTOR` or `SEGMENTER`.
    """
    return _all_priors()[kind]


@cache
def _all_priors() -> dict[str, Priors]:
    text = files("autofocus.study.automode").joinpath("priors.toml").read_text(encoding="utf-8")
    return {kind: _priors(table) for kind, table in tomllib.loads(text).items()}


def _priors(table: dict[str, Any]) -> Priors:
    rows = [row | {"rank": tuple(row["rank"])} for row in table["models"]]
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
    }
    values["models"] = tuple(PriorModel(**row) for row in rows)
    return Priors(**values)
