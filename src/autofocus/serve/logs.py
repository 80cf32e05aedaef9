"""Log lines that never block: a thread of its own writes them, and drops them where nobody reads.

A server whose log goes to a pipe that nobody empties, or to a disk that is full, goes on serving.
"""

import logging
import os
import queue
import threading
import time
from typing import Final

# Lines that wait to be written; more are dropped, and counted.
_NUM_WAITING: Final = 10_000
# Of the lines that came meanwhile one write is made: a thread that wakes up for each is slow.
_PAUSE_S: Final = 0.05
# What a pipe takes as one, so that lines of several processes do not mix.
_WRITE_BYTES: Final = 4096
_FLUSH_S: Final = 1.0
_STDERR: Final = 2


def log_without_blocking(level: int | None = None) -> None:
    """Let all of this process's log go to stderr through one `NonBlockingHandler`.

    Args:
        level: Lowest level that is logged; None leaves what is set.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(NonBlockingHandler(_STDERR))
    if level is not None:
        root.setLevel(level)


class NonBlockingHandler(logging.Handler):
    """Writes records to a file descriptor, from a thread of its own.

    Args:
        descriptor: Where to.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[str] = queue.Queue(_NUM_WAITING)
        self._num_dropped = 0
        # Daemonic: one that hangs in a write must not hold up the end of the process.
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, or drop it when too many wait."""
        try:
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._num_dropped += 1
        # Arguments that do not fit their text, which the standard library reports.
        except (TypeError, ValueError):
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all is written, but not for long."""
        until = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(_PAUSE_S / 10)

    def _write_on(self) -> None:
        while True:
            lines = [self._lines.get()]
            time.sleep(_PAUSE_S)
            for _ in range(self._lines.qsize()):
                lines.append(self._lines.get())
            num_lines = len(lines)
            if self._num_dropped:
                lines.append(f"warning: {self._num_dropped} log lines were dropped\n")
                self._num_dropped = 0
            self._write(lines)
            for _ in range(num_lines):
                self._lines.task_done()

    def _write(self, lines: list[str]) -> None:
        block = b""
        for line in lines:
            encoded = line.encode(errors="backslashreplace")
            if block and len(block) + len(encoded) > _WRITE_BYTES:
                self._write_block(block)
                block = b""
            block += encoded
        self._write_block(block)

    def _write_block(self, block: bytes) -> None:
        try:
            while block:
                block = block[os.write(self._descriptor, block) :]
        except OSError:
            # The disk is full or the reader has left: there is nowhere to say so.
            return
