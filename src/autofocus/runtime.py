"""Process and machine: signals, allocator, cores, ranks, whole files, progress. No torch."""

import ctypes
import errno
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Protocol, TypeVar

T = TypeVar("T")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# With more threads than this, waiting for one arena costs more than it saves.
FEW_CORES = 4

# Copies of one signal arrive within this time; people press Ctrl-C again after more.
_SIGNALS_APART_S = 0.5

# Disk full, file too large for the file system or the user's limit, over quota.
DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def _process_age_s() -> float:
    """Return the age of this process; 0 where the system does not tell cheaply."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    # Field 22 counts clock ticks from boot; the command in field 2 may contain anything.
    ticks = int(stat.rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


# Monotonic clock at the start of this process, as near as an import can tell.
PROCESS_STARTED_S = time.monotonic() - _process_age_s()


class Track(Protocol):
    """Progress display, which wraps an iterable; library code calls it, only `cli/` draws."""

    def __call__(
        self, items: Iterable[T], description: str, total: int | None = None
    ) -> Iterable[T]:
        """Return `items` and show progress as they are consumed."""


def no_progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Return `items` unchanged: the `Track` of tests and of `--json`."""
    return items


class StopRequest:
    """Context in which Ctrl-C and SIGTERM are noted, so that work can end cleanly.

    A second signal interrupts at once. `torchrun` repeats signals of the terminal, so under it a
    second one counts only some time after the first. Outside the main thread nothing is noted.
    """

    def __init__(self) -> None:
        self._requested = False
        self._noticed_s = 0.0
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Return whether the user has asked to stop."""
        return self._requested

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        apart_s = _SIGNALS_APART_S if process_count() > 1 else 0.0
        if self._requested and time.monotonic() - self._noticed_s >= apart_s:
            raise KeyboardInterrupt
        if not self._requested:
            self._requested, self._noticed_s = True, time.monotonic()


def keep_big_blocks() -> None:
    """Tell glibc to reuse big blocks instead of returning them to the kernel at every step.

    Tensors above 128 KiB otherwise come from a fresh mmap each time, whose page faults cost CPU
    training up to half its speed. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    mallopt: Callable[[int, int], int] | None = getattr(libc, "mallopt", None)
    if mallopt is None:
        return
    if num_cores() <= FEW_CORES:
        # Arenas of threads return their pages and fault them in again, image after image.
        mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


_num_sharing = 1


def share_machine(num_processes: int) -> None:
    """Set how many processes of one run share the machine; this one takes its part."""
    global _num_sharing
    _num_sharing = num_processes


def num_sharing() -> int:
    """Return how many processes of this run share the machine, with this one."""
    return _num_sharing


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // _num_sharing)


def process_count() -> int:
    """Return how many processes `torchrun` or `accelerate launch` started to train as one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def process_rank() -> int:
    """Return the rank of this process in its group; rank 0 drives the run and prints."""
    return int(os.environ.get("RANK", "0")) if process_count() > 1 else 0


def cache_dir() -> Path:
    """Return the folder for downloads and features: `AUTOFOCUS_CACHE` or the platform's default."""
    if named := os.environ.get("AUTOFOCUS_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "autofocus"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` with `content`; readers see all of it or the old file.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `path` is untouched.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` only once it is complete.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `tempfile`, whose files are private: the umask says who reads run and model folders.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with naming_full_disk(path), temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Add the path that was written to errors of a full disk, in which the system names none."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL and error.filename is None:
            error.filename = str(path)
        raise


def plain(value: Any) -> Any:
    """Return `value` with numpy arrays and scalars turned into lists and Python numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
