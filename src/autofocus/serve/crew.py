"""A worker's crew: threads that score the rows of one request side by side while cores are free.

A worker scores on one thread, so that as many requests run at once as there are cores. A request of
many images that is alone on the server would leave all cores but one idle. So its rows are shared
with helpers, one row at a time: no more threads score than there are workers, but for the rows that
run when another request comes. A core is free when its worker has scored nothing for a moment, so
that clients who send one photo after another keep theirs.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from autofocus.serve.accept import Counts

T = TypeVar("T")
ItemT = TypeVar("ItemT")


class Crew:
    """The scoring threads of one worker: its lane's, and helpers.

    Args:
        counts: Scoring threads of all workers.
        worker: The worker.
    """

    def __init__(self, counts: Counts, worker: int) -> None:
        self._counts = counts
        self._worker = worker
        self._lock = threading.Lock()
        self.widen(1)

    def widen(self, num_threads: int) -> None:
        """Let so many threads a worker score from now on; before any has helped."""
        self._num_seats = num_threads * self._counts.num_workers
        # Threads start when they are first needed.
        self._helpers = ThreadPoolExecutor(self._num_seats, thread_name_prefix="helper")

    def map(self, work: Callable[[ItemT], T], items: Sequence[ItemT]) -> list[T]:
        """Return what `work` returns for each item, in order. A thread of the lane calls it.

        Raises:
            Exception: One that `work` raised; items that had not begun are dropped.
        """
        results: dict[int, T] = {}
        # Threads share it: each `next` is one step of the interpreter.
        waiting = iter(range(len(items)))

        def do(i: int) -> None:
            try:
                results[i] = work(items[i])
            except BaseException:
                for _ in waiting:
                    pass
                raise

        helpers: list[Future[None]] = []
        self._count(1)
        try:
            for i in waiting:
                num_more = len(items) - i - 1
                num_scoring = self._counts.num_scoring(self._worker) if num_more else 0
                for _ in range(min(num_more, self._num_seats - num_scoring)):
                    self._count(1)
                    helpers.append(self._helpers.submit(self._help, do, waiting))
                do(i)
        finally:
            self._count(-1)
            wait(helpers)
        for helper in helpers:
            helper.result()
        return [results[i] for i in range(len(items))]

    def _help(self, do: Callable[[int], None], waiting: Iterator[int]) -> None:
        try:
            while self._counts.num_scoring(self._worker) <= self._num_seats:
                i = next(waiting, None)
                if i is None:
                    return
                do(i)
        finally:
            self._count(-1)

    def _count(self, number: int) -> None:
        with self._lock:
            self._counts.score(self._worker, number)
