"""The order of an epoch's images, and the random numbers of each view.

Everything is a function of (seed, epoch, image), through Philox, a generator that counts: any
point of its stream is reached at once. So nothing depends on threads, batch size or on how often
a run was interrupted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Purposes of streams, so that the order, the views and the batches of an epoch have nothing in
# common. Only views repeat, and theirs stay odd.
_ORDER, _VIEW, _BATCH = 0, 1, 2


@dataclass(frozen=True)
class EpochOrder:
    """The images of one epoch, in order.

    Attributes:
        index: int64 [n], positions in the data set.
        repeat: int64 [n], number of earlier views of the same image in this epoch.
    """

    index: NDArray[np.int64]
    repeat: NDArray[np.int64]


def epoch_order(
    num_images: int,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    weights: NDArray[np.float64] | None = None,
) -> EpochOrder:
    """Return the order of an epoch, always `num_images` long.

    Args:
        num_images: Images in the data set.
        seed: The run's seed.
        epoch: Counted from 0.
        shuffle: Whether to shuffle.
        weights: [num_images], how often each image is wanted, relative to the others. Its count
            is its exact share of the epoch, rounded down or up by chance.
    """
    rng = _stream(seed, _ORDER, 0, 0, epoch)
    index = np.arange(num_images, dtype=np.int64)
    if weights is not None:
        # One random offset on a comb of equal spacing: shares come out exact to one image.
        ends = np.cumsum(weights / weights.sum()) * num_images
        index = np.searchsorted(ends, index + rng.random(), side="right").astype(np.int64)
        index = np.minimum(index, np.flatnonzero(weights)[-1])
    repeat = np.arange(num_images, dtype=np.int64) - np.searchsorted(index, index)
    order = rng.permutation(num_images) if shuffle else slice(None)
    return EpochOrder(index[order], repeat[order])


def view_rng(seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
    """Return the random numbers of one view of one image.

    Args:
        seed: The run's seed.
        epoch: Counted from 0.
        index: The image's position in the data set.
        repeat: Number of earlier views of the image in this epoch.
    """
    return _stream(seed, _VIEW, repeat, index, epoch)


def batch_rng(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """Return the random numbers of what the images of a batch share.

    Args:
        seed: The run's seed.
        epoch: Counted from 0.
        batch: Its place in the epoch.
    """
    return _stream(seed, _BATCH, 0, batch, epoch)


def _stream(seed: int, purpose: int, repeat: int, index: int, epoch: int) -> np.random.Generator:
    # The first word counts the numbers drawn; streams that differ in another never meet.
    counter = [0, purpose | repeat << 1, index, epoch]
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))
