"""Memory and disk that a cache may take: shares of what is free."""

import ctypes
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from autofocus.runtime import num_sharing

MIB = 1 << 20

# A quarter leaves room for the network, for a second trial and for the rest of the machine.
_MEMORY_SHARE = 0.25
_DISK_SHARE = 0.1
# A file that memory cannot hold is read from disk each epoch: no faster than decoding again.
_MAPPED_SHARE = 0.5
# Free memory where the system does not tell: as much as any machine has to spare.
_UNKNOWN_MEMORY_BYTES = 1024 * MIB

# Version 2 and 1 of control groups: folder, limit, what is used, and the name in memory.stat of
# the part of it that is dropped when memory runs short.
_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


@dataclass(frozen=True, slots=True)
class CacheBudget:
    """The most that one cache may take.

    Attributes:
        ram_bytes: Bytes in the process's own memory.
        disk_bytes: Bytes in files; counts only with a folder.
        folder: Folder of the files. They are gone when the cache is closed or the process ends,
            however it ends.
    """

    ram_bytes: int = 0
    disk_bytes: int = 0
    folder: Path | None = None


def free_budget(folder: Path | None = None) -> CacheBudget:
    """Return a quarter of the free memory and a tenth of the free disk under `folder`.

    Processes of one run that share the machine share them too.
    """
    memory = free_memory_bytes() // num_sharing()
    disk = 0
    if folder is not None:
        disk = int(
            min(
                _DISK_SHARE * shutil.disk_usage(folder).free / num_sharing(), _MAPPED_SHARE * memory
            )
        )
    return CacheBudget(int(_MEMORY_SHARE * memory), disk, folder)


def free_memory_bytes() -> int:
    """Return the memory that can be had without swapping, within the container's limit."""
    if sys.platform == "win32":
        return _free_memory_windows()
    if not sys.platform.startswith("linux"):
        return _free_memory_unix()
    return min(_free_memory_linux(), _free_in_container())


def _free_memory_unix() -> int:
    try:
        # macOS does not say what is free in a call; half of all is rarely too much.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError):
        return _UNKNOWN_MEMORY_BYTES


def _free_memory_linux() -> int:
    available = _read_numbers("/proc/meminfo").get("MemAvailable:")
    return _UNKNOWN_MEMORY_BYTES if available is None else available * 1024


def _free_in_container() -> int:
    """Return the bytes that the control group leaves free; the greatest number without a limit."""
    for folder, limit, used, droppable in _CGROUPS:
        limit_bytes = _read_numbers(f"{folder}/{limit}").get("")
        used_bytes = _read_numbers(f"{folder}/{used}").get("")
        if limit_bytes is not None and used_bytes is not None:
            droppable_bytes = _read_numbers(f"{folder}/memory.stat").get(droppable, 0)
            return max(0, limit_bytes - used_bytes + droppable_bytes)
    return sys.maxsize


def _read_numbers(path: str) -> dict[str, int]:
    """Return the first number of each line by the word before it; a file of one number by ""."""
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines()]
    except OSError:
        return {}
    pairs = [("", *words) if len(words) == 1 else tuple(words) for words in lines]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _free_memory_windows() -> int:
    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total", ctypes.c_ulonglong),
            ("available", ctypes.c_ulonglong),
            ("rest", ctypes.c_ulonglong * 5),
        )

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  only there on Windows
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return _UNKNOWN_MEMORY_BYTES
    return int(status.available)
