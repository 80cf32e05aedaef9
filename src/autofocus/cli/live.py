"""Live view of a run at the lower end of a terminal: its trials, and progress bars.

Log lines scroll above it. The view is read from the run folder, so that a run looks the same from
the terminal that trains it and from any other.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar, cast

from rich.console import Console, Group, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.text import Text

from autofocus.cli.bars import make_bars
from autofocus.cli.view import view
from autofocus.data.batches.cache.budget import free_memory_bytes
from autofocus.study.folder.reader import RunReader, RunView

log = logging.getLogger(__name__)

T = TypeVar("T")

# Time between two pictures, in which bars move.
FRAME_S = 0.25
# Time between two readings of the run folder, and of the memory.
LOOK_S = 1.0
MEMORY_S = 3.0
# Share of a core that drawing may take: a slow terminal or a big run gets fewer pictures, with the
# longest time between two.
CPU_SHARE = 0.01
LONGEST_S = 2.0
# Room for the echo of Ctrl-C, which must not break the last line.
MARGIN = 3
GIB = 1 << 30


class LiveRun:
    """Live view of the run that this process trains.

    Only its bars are shown until `follow` names its folder.

    Args:
        console: Terminal; None: stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or SteadyConsole(stderr=True, highlight=False)
        self._bars = make_bars(self._console, auto_refresh=False)
        self._is_broken = False
        self._board = Board(self._console)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=self._picture,
        )
        # Printing above the picture and drawing it exclude each other.
        self._screen_lock = threading.RLock()
        self._is_over = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="live view", daemon=True)
        self._streams = _print_above(self._console, self._screen_lock)

    def __enter__(self) -> "LiveRun":
        self._live.start()
        self._streams.__enter__()
        self._painter.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        try:
            self._painter.join()
        finally:
            # A closed terminal must not lose the result of the run.
            with suppress(OSError):
                self._leave()
            self._streams.__exit__(None, None, None)

    def follow(self, folder: Path) -> None:
        """Show the trials of the run folder that this process holds."""
        self._board.follow(folder, os.getpid())

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Show a bar while items are consumed; see `Track`."""
        bar = self._bars.add_task(description, total=total)
        try:
            for item in items:
                yield item
                self._bars.advance(bar)
        finally:
            self._bars.remove_task(bar)

    def _paint(self) -> None:
        try:
            wait_s = FRAME_S
            while not self._is_over.wait(wait_s):
                started_s = time.thread_time()
                self._board.look()
                # A closed terminal shows nothing, and training goes on.
                with suppress(OSError), self._screen_lock:
                    self._live.refresh()
                spent_s = time.thread_time() - started_s
                wait_s = min(LONGEST_S, max(FRAME_S, spent_s / CPU_SHARE))
            self._board.look(at_once=True)
        except Exception:
            self._is_broken = True
            log.exception("nothing is shown of the trials any more; training goes on")

    def _leave(self) -> None:
        """Leave the last picture of the trials on the terminal, or nothing where there are none."""
        for bar in self._bars.task_ids:
            self._bars.remove_task(bar)
        self._board.is_over = True
        self._live.transient = self._is_broken or not self._board.is_shown
        self._live.stop()

    def _picture(self) -> RenderableType:
        bars = [self._bars] if self._bars.tasks else []
        if self._is_broken or not self._board.is_shown:
            return Group(*bars)
        # A line that comes and goes with each bar would make all others jump.
        idle = [] if bars or self._board.is_over else [Text(" ")]
        return Group(self._board.picture(), *bars, *idle)


class Board:
    """Table of a run's trials, as of the last reading of its folder.

    Args:
        console: Terminal, whose size limits the table.
        always: Whether to show even a run that has one trial only.

    Attributes:
        is_over: Whether the run has ended.
    """

    def __init__(self, console: Console, *, always: bool = False) -> None:
        self._always = always
        self.is_over = False
        self._console = console
        self._reader: RunReader | None = None
        self._run: RunView | None = None
        self._looked_s = self._weighed_s = -LONGEST_S * 10
        self._memory = ""

    def follow(self, path: Path, process: int | None = None) -> None:
        """Read a run folder from now on.

        Args:
            path: The folder.
            process: Its driver, where that is known.
        """
        self._reader = RunReader(path, process)

    @property
    def is_shown(self) -> bool:
        """Whether there are trials to show; of a single trial, bars say everything."""
        return self._run is not None and (self._always or self._run.is_several)

    def look(self, *, at_once: bool = False) -> RunView | None:
        """Read the folder, unless that was done just now; return the run's latest state."""
        now_s = time.monotonic()
        if self._reader is None or (now_s - self._looked_s < LOOK_S and not at_once):
            return self._run
        self._looked_s = now_s
        self._run = self._reader.read()
        if self.is_shown and now_s - self._weighed_s >= MEMORY_S:
            self._weighed_s = now_s
            self._memory = memory_text(self._run.process)
        return self._run

    def picture(self) -> Group:
        """Return the table as it is now."""
        run = self._run
        assert run is not None, "it was looked at"
        width, height = self._console.size
        is_running = run.status == "running" and not self.is_over
        memory = self._memory if is_running else ""
        drawn = view(run, memory, width - MARGIN, height, time.time())
        if is_running and (text := run.progress.get("text")):
            drawn.renderables.append(Text(f"now: {text}", no_wrap=True))
        return drawn


class SteadyConsole(Console):
    """A console that never hides the cursor: a killed process could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing."""
        return False


def follow_run(path: Path, console: Console) -> None:
    """Show a run until it ends, on any terminal."""
    board = Board(console, always=True)
    board.follow(path)
    found = board.look(at_once=True)
    live = Live(console=console, auto_refresh=False, get_renderable=board.picture)
    # Ctrl-C ends the view, not the run.
    with live, suppress(KeyboardInterrupt):
        while found is not None and found.status == "running":
            live.refresh()
            time.sleep(LOOK_S)
            found = board.look(at_once=True)
        board.is_over = True


class _AbovePicture(FileProxy):
    """Stream whose lines appear above the picture."""

    def __init__(
        self, console: Console, file: IO[str], lock: AbstractContextManager[object]
    ) -> None:
        super().__init__(console, file)
        self._lock = lock

    def write(self, text: str) -> int:
        with self._lock:
            return super().write(text)

    def flush(self) -> None:
        with self._lock:
            super().flush()


@contextmanager
def _print_above(console: Console, lock: AbstractContextManager[object]) -> Iterator[None]:
    """Print what is written to the terminal, log lines too, above the picture."""
    before = sys.stdout, sys.stderr
    above = cast(IO[str], _AbovePicture(console, sys.stderr, lock))
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    sys.stderr = above
    if sys.stdout.isatty():
        sys.stdout = cast(IO[str], _AbovePicture(console, sys.stdout, lock))
    for handler in handlers:
        handler.setStream(above)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(before[1])
        sys.stdout, sys.stderr = before


def memory_text(process: int | None) -> str:
    """Return the memory of a process tree and the free memory as text; empty where unknown.

    Args:
        process: Root of the tree; None: only the free memory.
    """
    # Elsewhere `free_memory_bytes` guesses, which is good enough for a cache and not for people.
    if not sys.platform.startswith("linux"):
        return ""
    held = None if process is None else tree_bytes(process)
    texts = [] if held is None else [f"{held / GIB:.1f} GiB held"]
    return f"memory: {', '.join([*texts, f'{free_memory_bytes() / GIB:.1f} GiB free'])}"


def tree_bytes(process: int) -> int | None:
    """Return the resident memory of a process tree; None where the system hides it.

    Shared pages, such as torch's code and mapped images, count once.
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
    """Return the child processes of all threads of a process."""
    try:
        threads = os.listdir(tasks)
    except OSError:
        return []
    return [int(word) for thread in threads for word in _text(tasks / thread / "children").split()]


def _text(path: Path) -> str:
    """Return the text of a file of /proc; empty once its process or thread is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""
