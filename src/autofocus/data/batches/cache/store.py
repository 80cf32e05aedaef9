"""Stores of kept images, in memory or in one file: never more than allowed, safe for threads."""

import logging
import mmap
import tempfile
import threading
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)


class Store(Protocol):
    """Bytes by the position of their image."""

    @property
    def used_bytes(self) -> int:
        """Bytes that are kept."""

    def get(self, index: int) -> bytes | memoryview | None:
        """Return the content kept for `index`, whole, or None."""

    def put(self, index: int, content: bytes | memoryview) -> bool:
        """Keep `content`, which no one may change, if there is room; return whether there was."""

    def close(self) -> None:
        """Drop all content."""


class MemoryStore:
    """Bytes in this process's memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: dict[int, bytes | memoryview] = {}
        self._lock = threading.Lock()
        self.used_bytes = 0

    def get(self, index: int) -> bytes | memoryview | None:
        """Return the content kept for `index`, or None."""
        return self._items.get(index)

    def put(self, index: int, content: bytes | memoryview) -> bool:
        """Keep `content` itself, not a copy, if there is room."""
        size = len(content)
        with self._lock:
            if index in self._items or self.used_bytes + size > self._max_bytes:
                return False
            self.used_bytes += size
            self._items[index] = content
            return True

    def close(self) -> None:
        """Drop all content."""
        with self._lock:
            self._items.clear()
            self.used_bytes = 0


class FileStore:
    """Bytes in one unnamed file, read through a memory map.

    The file goes away with the process even when that is killed. It is written by calls, not
    through the map: on a full disk a call fails, where a map would kill the process.

    Raises:
        OSError: If no file can be made in `folder`.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  closed by close()
        self._max_bytes = max_bytes
        self._spans: dict[int, tuple[int, int]] = {}
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        self.used_bytes = 0

    def get(self, index: int) -> memoryview | None:
        """Return the content kept for `index`, without copying it, or None."""
        span = self._spans.get(index)
        if span is None:
            return None
        start, stop = span
        with self._lock:
            if self._file.closed:
                return None
            if self._map is None or len(self._map) < stop:
                # Views of the former map keep it alive as long as they live.
                self._map = mmap.mmap(self._file.fileno(), self.used_bytes, access=mmap.ACCESS_READ)
            return memoryview(self._map)[start:stop]

    def put(self, index: int, content: bytes | memoryview) -> bool:
        """Append `content` if there is room, on the disk too."""
        size = len(content)
        with self._lock:
            if index in self._spans or self.used_bytes + size > self._max_bytes:
                return False
            start = self.used_bytes
            try:
                self._append(memoryview(content))
            except OSError as error:
                log.warning("image cache is full at %d MiB: %s", start >> 20, error.strerror)
                self._max_bytes = start
                return False
            self.used_bytes = start + size
            self._spans[index] = (start, start + size)
            return True

    def _append(self, content: memoryview) -> None:
        self._file.seek(self.used_bytes)
        written = 0
        while written < len(content):
            written += self._file.write(content[written:])

    def close(self) -> None:
        """Remove the file."""
        with self._lock:
            self._spans.clear()
            self._map = None
            self._file.close()
            self.used_bytes = 0
