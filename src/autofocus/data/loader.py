"""Batches of network input, made by threads while the network computes.

Threads, not processes: OpenCV and simplejpeg leave the interpreter while they work, nothing is
copied between processes, and no worker can outlive a killed run.

An epoch is a function of (seed, epoch): the same images in the same order and, drawn from
(seed, epoch, image) alone, the same views, whatever the number of threads and wherever it starts.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from autofocus.data.augment import Augmentation, draw_view
from autofocus.data.cache import CacheBudget, ImageCache, RungName
from autofocus.data.kept import evaluation_square, training_image
from autofocus.data.normalize import normalize
from autofocus.data.order import epoch_order, view_rng
from autofocus.manifest import ResizeCrop
from autofocus.runtime import num_cores

# Batches made ahead of the one that is wanted; more would only take memory.
NUM_PREFETCHED = 2
# Images that a thread makes at a time: handing each over by itself costs a tenth of its making.
_NUM_TOGETHER = 4


@dataclass(frozen=True)
class Batch:
    """n images, ready for the network.

    Attributes:
        images: float32 [n, 3, s, s], normalised. Its memory is channels-last, so that
            `torch.from_numpy(images)` is a channels-last tensor without a copy.
        index: int64 [n], their positions in the data set.
    """

    images: NDArray[np.float32]
    index: NDArray[np.int64]


class Loader:
    """Makes the batches of any epoch, from any batch on.

    Close it, or use it in `with`, to let go of what its cache keeps.

    Args:
        locations: Where the images are; all of them known to be images.
        spec: Size and normalisation of the network's input.
        augmentation: How views are drawn; None gives exactly what `preprocess` gives.
        batch_size: Images a step, over all ranks.
        seed: Of the run, not negative.
        num_threads: That read, decode and draw; None takes the machine's cores.
        cache: What may be taken to keep images between epochs; None keeps nothing.
        rung: Form that images are kept in, when it was decided before; see `ImageCache`.
        shuffle: Whether each epoch has an order of its own.
        drop_last: Whether to leave out a last batch that is not full, unless it is the only one.
        weights: [number of images], how often each image is wanted relative to the others; at
            least one above 0. None shows each image once an epoch.
        rank: Which of several training processes this is; it gets its share of each batch.
        num_ranks: How many there are.
    """

    def __init__(
        self,
        locations: Sequence[str],
        spec: ResizeCrop,
        augmentation: Augmentation | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        num_threads: int | None = None,
        cache: CacheBudget | None = None,
        rung: RungName | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        assert batch_size >= num_ranks > rank >= 0, "each rank gets at least one image a batch"
        assert weights is None or len(weights) == len(locations), "one weight an image"
        kept = (
            evaluation_square(spec) if augmentation is None else training_image(spec, augmentation)
        )
        self.cache = ImageCache(locations, kept, cache, rung)
        self._num_images = len(locations)
        self._spec = spec
        self._augmentation = augmentation
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the cache keeps; the loader is of no more use."""
        self.cache.close()

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        num_full, rest = divmod(self._num_images, self._batch_size)
        return num_full + (rest > 0 and not (self._drop_last and num_full))

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Make the batches of an epoch, in order.

        The threads end with the iterator: when it is exhausted, closed or dropped.

        Args:
            epoch: Counted from 0.
            start_batch: Batches to leave out, because they were used before an interruption.

        Raises:
            ImageError: If an image cannot be decoded; names the file.
            LocateError: If it cannot be read.
        """
        order = epoch_order(self._num_images, self._seed, epoch, self._shuffle, self._weights)
        waiting: deque[_Pending] = deque()
        pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="autofocus-loader")
        try:
            for number in range(start_batch, self.num_batches):
                start = number * self._batch_size
                part = slice(start + self._rank, start + self._batch_size, self._num_ranks)
                waiting.append(self._submit(pool, epoch, order.index[part], order.repeat[part]))
                if len(waiting) > NUM_PREFETCHED:
                    yield waiting.popleft().batch()
            while waiting:
                yield waiting.popleft().batch()
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        epoch: int,
        index: NDArray[np.int64],
        repeat: NDArray[np.int64],
    ) -> "_Pending":
        size = self._spec.crop_size
        memory = np.empty((len(index), size, size, 3), np.float32)
        parts = [
            slice(start, start + _NUM_TOGETHER) for start in range(0, len(index), _NUM_TOGETHER)
        ]
        futures = [
            pool.submit(
                self._load, epoch, index[part].tolist(), repeat[part].tolist(), memory[part]
            )
            for part in parts
        ]
        return _Pending(Batch(memory.transpose(0, 3, 1, 2), index), futures)

    def _load(
        self, epoch: int, index: list[int], repeat: list[int], memory: NDArray[np.float32]
    ) -> None:
        """Write n images, [n, s, s, 3], into their places in the batch."""
        for i, times, out in zip(index, repeat, memory, strict=True):
            image = self.cache.pixels(i)
            if self._augmentation is None:
                normalize(image, self._spec, out)
            else:
                rng = view_rng(self._seed, epoch, i, times)
                draw_view(image, rng, self._augmentation, self._spec, out)


@dataclass(frozen=True)
class _Pending:
    """A batch whose images are still being written."""

    result: Batch
    futures: list[Future[None]]

    def batch(self) -> Batch:
        for future in self.futures:
            future.result()
        return self.result
