"""The prior table: which models AutoMode tries, and how far from their recipes it looks."""

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
    """A row: what is expected of a model.

    Attributes:
        name: Of the catalog.
        gmacs: Billions of multiply-adds an image.
        rank: Expected order, lower is better: below 1,000 training images, below 10,000, more.
        side: Of the input, in pixels; None is the model's own.
    """

    name: str
    gmacs: float
    rank: tuple[float, float, float]
    side: int | None = None


@dataclass(frozen=True)
class Priors:
    """What is known about models of one kind.

    Attributes:
        models: Rows, in the file's order.
        max_trials: After the default recipe there are at most so many in all.
        num_contenders: Models that are looked at.
        eta: At each rung of `rungs` (evaluations) the best 1 / `eta` go on.
        rungs: See there.
        learning_rate: Least and greatest factor on the default recipe's.
        sides: Factors on the default input side.
        frozen_frac: Shares of the encoder's groups of layers that do not learn.
        augmentations: Strengths.
    """

    models: tuple[PriorModel, ...]
    max_trials: int
    num_contenders: int
    eta: int
    rungs: tuple[int, ...]
    learning_rate: tuple[float, float]
    sides: tuple[float, ...]
    frozen_frac: tuple[float, ...]
    augmentations: tuple[str, ...]

    def ranked(self, num_images: int) -> list[PriorModel]:
        """Return the rows, best expected first.

        Args:
            num_images: To learn from.
        """
        column = bisect_right(RANK_BOUNDS, num_images)
        return sorted(self.models, key=lambda row: row.rank[column])

    def gmacs_of(self, name: str) -> float | None:
        """Return what the cheapest row of a model costs an image, or None without a row."""
        return min((row.gmacs for row in self.models if row.name == name), default=None)


def priors_of(kind: str) -> Priors:
    """Return what is known about models of a kind.

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
