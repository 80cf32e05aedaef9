"""What a run holds in memory, where the system tells."""

import os
import sys
from pathlib import Path

from autofocus.data.batches.cache.budget import free_memory_bytes

GIB = 1 << 30


def memory_text(process: int | None) -> str:
    """Return what a process and those it started hold, and what is free; empty where unknown.

    Args:
        process: None says only what is free.
    """
    # Elsewhere `free_memory_bytes` guesses, which is good enough for a cache and not for people.
    if not sys.platform.startswith("linux"):
        return ""
    held = None if process is None else tree_bytes(process)
    texts = [] if held is None else [f"{held / GIB:.1f} GiB held"]
    return f"memory: {', '.join([*texts, f'{free_memory_bytes() / GIB:.1f} GiB free'])}"


def tree_bytes(process: int) -> int | None:
    """Return what a process and all below it hold in memory; None where the system hides it.

    What they share, such as torch's code and mapped images, counts once.
    """
    if not Path("/proc/thread-self/children").exists():
        return None
    own_bytes = shared_bytes = 0
    waiting = [process]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        words = _text(folder / "statm").split()
        if not words:
            # It has just ended.
            continue
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        own_bytes += (int(words[1]) - int(words[2])) * page_bytes
        shared_bytes = max(shared_bytes, int(words[2]) * page_bytes)
        waiting += _children(folder / "task")
    return own_bytes + shared_bytes or None


def _children(tasks: Path) -> list[int]:
    """Return the processes that the threads of one have started."""
    try:
        threads = os.listdir(tasks)
    except OSError:
        return []
    return [int(word) for thread in threads for word in _text(tasks / thread / "children").split()]


def _text(path: Path) -> str:
    """Return what a file of /proc says; empty once its process or thread is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""
