"""Calls of several threads joined into batches, for networks on an accelerator.

An accelerator takes little longer for sixteen images than for one. So calls that come while it
works are joined; a call that finds it idle runs at once, alone.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Outputs = dict[str, NDArray[Any]]


class Backend(Protocol):
    """Runs the network."""

    def run(self, images: NDArray[np.float32]) -> Outputs:
        """Return outputs by name for normalised images [n, 3, h, w]."""


@dataclass(frozen=True)
class _Call:
    images: NDArray[np.float32]
    result: Future[Outputs] = field(default_factory=Future)
    came_s: float = field(default_factory=time.monotonic)


class JoinedBackend:
    """Runs the calls of several threads as batches of one backend.

    Args:
        backend: Runs each batch; called in one thread of its own.
        max_images: Images in a batch; a call of more runs alone.
        max_wait_s: Time that a call may wait for others, counted from when it came, where it found
            the backend at work.
    """

    def __init__(self, backend: Backend, max_images: int, max_wait_s: float = 0.003) -> None:
        self._backend = backend
        self._max_images = max_images
        self._max_wait_s = max_wait_s
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        # Taken from the queue, but too much for the batch before.
        self._next: _Call | None = None
        threading.Thread(target=self._work, name="batches", daemon=True).start()

    def run(self, images: NDArray[np.float32]) -> Outputs:
        """Return the outputs by name for normalised images [n, 3, h, w].

        Raises:
            RuntimeError: If the network does not take them.
        """
        call = _Call(images)
        self._calls.put(call)
        return call.result.result()

    def _work(self) -> None:
        while True:
            self._run(self._batch())

    def _batch(self) -> list[_Call]:
        """Wait for a call and return it with those that join it."""
        is_idle = self._next is None and self._calls.empty()
        first = self._next or self._calls.get()
        self._next = None
        until_s = 0.0 if is_idle else first.came_s + self._max_wait_s
        batch, num_images = [first], len(first.images)
        while num_images < self._max_images:
            try:
                call = self._calls.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                break
            num_images += len(call.images)
            if num_images > self._max_images:
                self._next = call
                break
            batch.append(call)
        return batch

    def _run(self, batch: Sequence[_Call]) -> None:
        try:
            outputs = self._backend.run(np.concatenate([call.images for call in batch]))
        # Whatever a runtime throws: nobody's images are to fail another's.
        except Exception as error:
            logger.exception("a batch of %d calls failed", len(batch))
            if len(batch) == 1:
                batch[0].result.set_exception(error)
                return
            for call in batch:
                self._run([call])
            return
        start = 0
        for call in batch:
            end = start + len(call.images)
            call.result.set_result({name: values[start:end] for name, values in outputs.items()})
            start = end
