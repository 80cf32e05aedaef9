"""Work done by several threads at once, its results in order, and only so much of it in memory.

Threads and not processes: decoders, OpenCV and ONNX Runtime leave the interpreter while they work,
and its lock is held for at most 0.15 of the 7.5 ms that a photo takes with a small network. One
process has the model once, copies no result, and leaves nothing behind when it is killed.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items begun or waiting, for each thread: the slowest image holds up no other for long.
_AHEAD = 4


def in_order(
    work: Callable[[T], R], items: Iterable[T], num_threads: int
) -> Generator[R, None, None]:
    """Yield `work(item)` in the order of the items, which are taken as results are.

    Where it is closed early, or an item fails, what has begun ends and no more begins.

    Args:
        work: Called in `num_threads` threads at once.
        items: Taken by the calling thread.
        num_threads: Number of threads.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(num_threads, "autofocus-batch") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _AHEAD * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`; the last one may be shorter."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


class Cores:
    """Lets as many threads compute as there are cores, so that others may wait for files."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = threading.BoundedSemaphore(number)

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._free.release()
