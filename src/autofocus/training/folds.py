"""Folds: candidates are judged on the same images, which their networks did not learn from."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.data.splits import kfold_indices, split_indices

NUM_FOLDS: Final = 5
# From so many images on two thirds of them teach nearly what four fifths do, and three trainings
# take 3/5 of the time of five.
MANY_IMAGES, NUM_FOLDS_OF_MANY = 100, 3
# Above so many images one held-out part says enough, and each fold would cost a training.
MAX_FOLDED_IMAGES: Final = 20_000
# Images that judge, at most, where one part does.
MAX_JUDGED_IMAGES: Final = 4_000


@dataclass(frozen=True)
class Folds:
    """Parts of the images to learn from and to judge by.

    Attributes:
        parts: Positions to learn from and positions to judge by, of each part; no image judges
            twice.
        everything: Positions that the served network learns from; None: those of the one part.
    """

    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
    everything: NDArray[np.int64] | None = None

    @property
    def judged(self) -> NDArray[np.int64]:
        """Positions of the images that judge, part by part, [m]."""
        return np.concatenate([judged for _, judged in self.parts])

    @property
    def part_of(self) -> NDArray[np.int64]:
        """Part of each image that judges, [m]."""
        return np.repeat(np.arange(len(self.parts)), [len(judged) for _, judged in self.parts])

    @property
    def fits(self) -> list[NDArray[np.int64]]:
        """Positions that each network to fit learns from; the last one is the network to serve."""
        last = [] if self.everything is None else [self.everything]
        return [*(train for train, _ in self.parts), *last]


def make_folds(
    labels: Sequence[Iterable[str]], groups: Sequence[Hashable], seed: int, num_given: int = 0
) -> Folds:
    """Return the folds of images; identical ones stay together.

    Args:
        labels: Class names of each image, none or many.
        groups: Key of each image; images of one key share a fold.
        seed: The same seed gives the same folds on any machine.
        num_given: Images at the end that were given to judge by; nothing learns from them.
    """
    num_images = len(labels)
    everything = np.arange(num_images, dtype=np.int64)
    if num_given:
        return Folds([(everything[:-num_given], everything[-num_given:])])
    if num_images > MAX_FOLDED_IMAGES:
        share = MAX_JUDGED_IMAGES / num_images
        return Folds([split_indices(labels, groups, share, seed)])
    num_folds = NUM_FOLDS if num_images < MANY_IMAGES else NUM_FOLDS_OF_MANY
    folds = kfold_indices(labels, groups, num_folds, seed)
    if len(folds) < 2:
        # Copies of one image: there is nothing to hold out.
        return Folds([(everything, everything)])
    return Folds([(np.setdiff1d(everything, fold), fold) for fold in folds], everything)
