"""Work that processes of one run do one after the other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait until no other process is within; the system lets go even of a killed one.

    Args:
        path: A file that stands for the work; made when missing, and left there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
