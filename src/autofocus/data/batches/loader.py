"""Batches of network input, made by threads while the network computes.

Threads, not processes: OpenCV and simplejpeg leave the interpreter while they work, nothing is
copied between processes, and no worker can outlive a killed run.

An epoch is a function of (seed, epoch): the same images in the same order and, drawn from
(seed, epoch, image) alone, the same views, whatever the number of threads and wherever it starts.
Only the size of a batch, where that varies, is drawn from (seed, epoch, batch).
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.cache.image_cache import ImageCache, StorageForm
from autofocus.data.batches.order import batch_rng, epoch_order, view_rng
from autofocus.data.batches.views import Views
from autofocus.runtime import num_cores
from autofocus.structures.frames import Frame

# Batches made ahead of the one that is wanted; more would only take memory.
NUM_PREFETCHED = 2
# Images that a thread makes at a time: handing each over by itself costs a tenth of its making.
_NUM_TOGETHER = 4


@dataclass(frozen=True)
class Batch:
    """n images, ready for the network.

    Attributes:
        images: float32 [n, 3, h, w], normalised. Its memory is channels-last, so that
            `torch.from_numpy(images)` is a channels-last tensor without a copy.
        index: int64 [n], their positions in the data set.
        targets: Target of each of them, as it lies in the view.
        frames: Place of each view in its image.
    """

    images: NDArray[np.float32]
    index: NDArray[np.int64]
    targets: list[Any]
    frames: list[Frame]


class Loader:
    """Makes the batches of any epoch, from any batch on.

    Close it, or use it in `with`, to release its cache.

    Args:
        locations: Paths or URLs of the images; all of them known to be images.
        views: Views of the images.
        batch_size: Images a step, over all ranks.
        seed: The run's seed, not negative.
        num_threads: Threads that read, decode and draw; None takes the machine's cores.
        cache: Memory and disk to keep images in between epochs; None keeps nothing.
        form: Form that images are kept in, when it was decided before; see `ImageCache`.
        shuffle: Whether each epoch has an order of its own.
        drop_last: Whether to leave out a last batch that is not full, unless it is the only one.
        weights: [number of images], how often each image is wanted relative to the others; at
            least one above 0. None shows each image once an epoch.
        num_views: Images to draw an epoch, where tiles make them more than there are files; the
            views know which file each is of.
        rank: Number of this training process; it gets its share of each batch.
        num_ranks: Number of training processes.
    """

    def __init__(
        self,
        locations: Sequence[str],
        views: Views,
        *,
        batch_size: int,
        seed: int = 0,
        num_threads: int | None = None,
        cache: CacheBudget | None = None,
        form: StorageForm | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        weights: NDArray[np.float64] | None = None,
        num_views: int | None = None,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        assert batch_size >= num_ranks > rank >= 0, "each rank gets at least one image a batch"
        self._num_images = len(locations) if num_views is None else num_views
        assert weights is None or len(weights) == self._num_images, "one weight an image"
        self.cache = ImageCache(locations, views.cached_form, cache, form)
        self._views = views
        self._batch_size = batch_size
        self._seed = seed
        self._num_threads = num_threads or num_cores()
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._weights = weights
        self._rank = rank
        self._num_ranks = num_ranks

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the cache; the loader cannot be used afterwards."""
        self.cache.close()

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        num_full, rest = divmod(self._num_images, self._batch_size)
        return num_full + (rest > 0 and not (self._drop_last and num_full))

    @property
    def own_batch_size(self) -> int:
        """Images that this rank gets of a full batch, at most."""
        return math.ceil(min(self._batch_size, self._num_images) / self._num_ranks)

    def worst_batch(self, num_images: int) -> Batch:
        """Make the batch that takes most memory: the heaviest images on the largest canvas.

        Args:
            num_images: Images in the batch; the heaviest repeat where there are fewer.
        """
        heaviest = np.resize(self._views.heaviest(num_images), num_images)
        return self.batch_of(heaviest, self._views.largest_size)

    def batch_of(self, index: NDArray[np.int64], size: tuple[int, int], epoch: int = 0) -> Batch:
        """Make one batch of chosen images.

        Args:
            index: [n], their positions in the data set.
            size: (height, width) of the batch, one that the views can draw, in pixels.
            epoch: Epoch whose views to draw.

        Raises:
            ImageError: If an image cannot be decoded; names the file.
            LocateError: If it cannot be read.
        """
        todo = _Todo(self._views, epoch, index, np.zeros_like(index))
        with ThreadPoolExecutor(self._num_threads, "autofocus-loader") as pool:
            return self._submit(pool, todo, size).batch()

    def epoch(self, epoch: int, start_batch: int = 0, done_frac: float = 0.0) -> Iterator[Batch]:
        """Make the batches of an epoch, in order.

        The threads end with the iterator: when it is exhausted, closed or dropped.

        Args:
            epoch: Counted from 0.
            start_batch: Batches to leave out, because they were used before an interruption.
            done_frac: Share of the training that was over when the epoch began; some views
                change towards the end. An interrupted epoch goes on with what it began with.

        Raises:
            ImageError: If an image cannot be decoded; names the file.
            LocateError: If it cannot be read.
        """
        order = epoch_order(self._num_images, self._seed, epoch, self._shuffle, self._weights)
        views = self._views.at(done_frac)
        waiting: deque[_Pending] = deque()
        pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="autofocus-loader")
        try:
            for number in range(start_batch, self.num_batches):
                start = number * self._batch_size
                part = slice(start + self._rank, start + self._batch_size, self._num_ranks)
                size = views.input_size(batch_rng(self._seed, epoch, number))
                todo = _Todo(views, epoch, order.index[part], order.repeat[part])
                waiting.append(self._submit(pool, todo, size))
                if len(waiting) > NUM_PREFETCHED:
                    yield waiting.popleft().batch()
            while waiting:
                yield waiting.popleft().batch()
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, todo: "_Todo", size: tuple[int, int]) -> "_Pending":
        num_images = len(todo.index)
        memory = np.empty((num_images, *size, 3), np.float32)
        parts = [
            slice(start, start + _NUM_TOGETHER) for start in range(0, num_images, _NUM_TOGETHER)
        ]
        futures = [pool.submit(self._load, todo.part(part), memory[part]) for part in parts]
        return _Pending(memory.transpose(0, 3, 1, 2), todo.index, futures)

    def _load(self, todo: "_Todo", memory: NDArray[np.float32]) -> "_Drawn":
        """Write n images, [n, h, w, 3], into their places in the batch."""
        drawn = []
        for i, repeat, out in zip(todo.index.tolist(), todo.repeat.tolist(), memory, strict=True):
            rng = view_rng(self._seed, todo.epoch, i, repeat)
            drawn.append(todo.views.draw(i, self.cache.image, rng, out))
        return drawn


_Drawn = list[tuple[Any, Frame]]


@dataclass(frozen=True)
class _Todo:
    """Images to draw; index and repeat as in `EpochOrder`."""

    views: Views
    epoch: int
    index: NDArray[np.int64]
    repeat: NDArray[np.int64]

    def part(self, which: slice) -> "_Todo":
        return replace(self, index=self.index[which], repeat=self.repeat[which])


@dataclass(frozen=True)
class _Pending:
    """A batch whose images are still being written."""

    images: NDArray[np.float32]
    index: NDArray[np.int64]
    futures: list[Future[_Drawn]]

    def batch(self) -> Batch:
        drawn = [each for future in self.futures for each in future.result()]
        targets, frames = [target for target, _ in drawn], [frame for _, frame in drawn]
        return Batch(self.images, self.index, targets, frames)
