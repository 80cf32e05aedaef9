"""Where a detector's training starts: model, input side, tiles, frozen layers and epochs together.

A larger input or network costs epochs. Too few of them leave a new head untrained, whatever it
sees: the first option, from the best expected on, that gets enough of them is taken.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

# Epochs that are enough to start with, and their share of the recipe's where an epoch has few
# steps: 9 of BCCD's 39 epochs reach mAP 0.89, 19 reach 0.91.
ENOUGH_EPOCHS: Final = 10
ENOUGH_FRAC: Final = 0.2
# The same for another network or recipe, which has to be better than that start.
OTHER_EPOCHS: Final = 20
OTHER_FRAC: Final = 0.5
# Shortest input that is started with, in pixels, and the step from one to the next.
MIN_SIDE: Final = 256
SIDE_STEP: Final = 32
# Steps beside others, checkpoints and logs take this much more than the measured ones.
_SLACK: Final = 1.1


@dataclass(frozen=True)
class StartOption:
    """A way to train.

    Attributes:
        parameters: Parameters of the trial, beside the job's.
        epoch_s: Seconds of an epoch, with its share of an evaluation.
        closing_s: Seconds of the evaluations before the first epoch and after the last.
        num_epochs: Epochs of its recipe.
        least_epochs: Epochs that are enough; with fewer it is not worth its time.
        is_measured: Whether its cost follows from steps of its own network.
    """

    parameters: dict[str, Any]
    epoch_s: float
    closing_s: float
    num_epochs: int
    least_epochs: int
    is_measured: bool = True

    @property
    def least_s(self) -> float:
        """Seconds of the fewest epochs that are worth it."""
        return self.seconds(self.least_epochs)

    def seconds(self, num_epochs: int) -> float:
        """Return the expected seconds of so many epochs."""
        return _SLACK * (num_epochs * self.epoch_s + self.closing_s)

    def epochs_in(self, left_s: float) -> int:
        """Return the epochs of its recipe that fit into `left_s` seconds."""
        if math.isinf(left_s):
            return self.num_epochs
        num_epochs = (left_s / _SLACK - self.closing_s) / max(self.epoch_s, 1e-9)
        return min(self.num_epochs, max(0, math.floor(num_epochs)))

    def document(self, left_s: float) -> dict[str, Any]:
        """Return the option as `decisions.jsonl` has it."""
        return asdict(self) | {"epochs_that_fit": self.epochs_in(left_s)}


def choose_start(options: Sequence[StartOption], left_s: float) -> StartOption:
    """Return the first option with enough epochs, else the one with most of them.

    Args:
        options: Options, best expected first.
        left_s: Seconds to train; infinite without a budget.
    """
    enough = (one for one in options if one.epochs_in(left_s) >= one.least_epochs)
    return next(enough, None) or max(options, key=lambda one: (one.epochs_in(left_s), -one.epoch_s))


@dataclass(frozen=True)
class Cost:
    """Measured cost of one design.

    Attributes:
        side: Longer side of its input, in pixels.
        train_s: Seconds to train on a view.
        evaluate_s: Seconds to evaluate a view.
    """

    side: int
    train_s: float
    evaluate_s: float

    def at(self, side: int, smaller: "Cost | None" = None) -> "Cost":
        """Return the cost at another side: linear in pixels, through a second measured point."""
        if smaller is None or smaller.side == self.side:
            scale = (side / self.side) ** 2
            return Cost(side, scale * self.train_s, scale * self.evaluate_s)
        share = (side**2 - smaller.side**2) / (self.side**2 - smaller.side**2)
        return Cost(
            side,
            max(0.0, smaller.train_s + share * (self.train_s - smaller.train_s)),
            max(0.0, smaller.evaluate_s + share * (self.evaluate_s - smaller.evaluate_s)),
        )


@dataclass(frozen=True)
class Images:
    """Numbers that an epoch's time follows from.

    Attributes:
        num_views: Training images and tiles of them.
        num_evaluated: Validation images and tiles of them.
    """

    num_views: int
    num_evaluated: int


def option_of(
    parameters: dict[str, Any],
    cost: Cost,
    images: Images,
    num_epochs: int,
    least_epochs: int,
    *,
    evaluates_all: bool,
) -> StartOption:
    """Return the option of a design.

    Args:
        parameters: Parameters of its trial.
        cost: Its cost.
        images: Training and validation images.
        num_epochs: Epochs of its recipe.
        least_epochs: Epochs that are enough.
        evaluates_all: Whether every epoch is evaluated. If not, evaluation takes at most half as
            long as training.
    """
    train_s, evaluate_s = images.num_views * cost.train_s, images.num_evaluated * cost.evaluate_s
    interval = 1 if evaluates_all else max(1, math.ceil(2 * evaluate_s / max(train_s, 1e-9)))
    if interval > 1:
        parameters = {**parameters, "evaluation_frequency": interval}
    epoch_s = train_s + evaluate_s / interval
    return StartOption(
        parameters, epoch_s, 2 * evaluate_s, num_epochs, min(num_epochs, least_epochs)
    )


def sides_below(side: int) -> list[int]:
    """Return the shorter input sides to start with, longest first, in pixels."""
    return list(range(MIN_SIDE, side, SIDE_STEP))[::-1]


def enough_epochs(num_epochs: int) -> int:
    """Return the epochs that are enough to start with, for a recipe of `num_epochs`."""
    return max(ENOUGH_EPOCHS, math.ceil(ENOUGH_FRAC * num_epochs))


def enough_for_others(num_epochs: int) -> int:
    """Return the epochs that another network or recipe needs to be worth a trial."""
    return max(OTHER_EPOCHS, math.ceil(OTHER_FRAC * num_epochs))
