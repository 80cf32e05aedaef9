"""Output of commands: exit statuses, one JSON document, lines, progress."""

import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import orjson
import typer

from autofocus.errors import AutofocusError, InputError
from autofocus.runtime import DISK_FULL, Track, no_progress, process_rank

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

INTERRUPTED = 130

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn a command's expected errors into lines; see `reporting_errors`."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with reporting_errors(as_json=bool(kwargs.get("as_json"))):
            return function(*args, **kwargs)

    return wrapped


@contextmanager
def reporting_errors(*, as_json: bool) -> Iterator[None]:
    """Turn expected errors into lines on stderr and the exit status of design §1.

    Args:
        as_json: Whether stdout carries `{"error": {"type", "problems"}}` instead of a result, so
            that a machine always reads exactly one document.

    Raises:
        typer.Exit: With that status.
    """
    _configure_logging()
    try:
        yield
    except AutofocusError as error:
        _fail(error, as_json)
    except BrokenPipeError:
        # The reader went away (`| head`), which is no error.
        sys.stderr.close()
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        note("stopped")
        if as_json:
            emit_json({"error": {"type": "StoppedError", "problems": ["stopped"]}})
        raise typer.Exit(INTERRUPTED) from None
    except MemoryError as error:
        _fail(AutofocusError(f"out of memory: {error}"), as_json)
    except OSError as error:
        _fail(AutofocusError(_os_message(error)), as_json)


def refuse_usage(error: typer.TyperException, *, as_json: bool) -> int:
    """Print in one line which argument is wrong; return the exit status."""
    problem = error.format_message().strip()
    context = getattr(error, "ctx", None)
    if context is not None and problem:
        problem = f"{problem.rstrip('.')}. '{context.command_path} --help' says what it takes."
    # Without arguments the help was printed instead, and there is no message.
    if problem:
        _report("UsageError", (problem,), as_json)
    return error.exit_code


def never_fail_on_a_character() -> None:
    """Let stdout escape characters that its encoding lacks, as stderr does by itself.

    Windows writes files and pipes in a code page; a file name may be any bytes.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
        out.reconfigure(errors="backslashreplace")


def emit_json(document: Any) -> None:
    """Write one JSON document to stdout; of several processes only rank 0 does."""
    if process_rank() > 0:
        return
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    try:
        content = orjson.dumps(document, option=options)
    except orjson.JSONEncodeError:
        content = orjson.dumps(_escaped(document), option=options)
    with writing_stdout():
        sys.stdout.buffer.write(content)


def emit(line: str = "") -> None:
    """Write one line of result to stdout; of several processes only rank 0 does."""
    if process_rank() > 0:
        return
    with writing_stdout():
        sys.stdout.write(line + "\n")


@contextmanager
def writing_stdout() -> Iterator[None]:
    """Flush stdout at the end; after a failure what is still to be written to it is dropped.

    Raises:
        OSError: If stdout is full, or its reader has gone.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError:
        # Or the document of this very error, and Python at its exit, would fail once more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise


def note(line: str) -> None:
    """Write one line for a person to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def progress() -> Track:
    """Return a progress bar with rate and ETA, or none where stderr is not a terminal."""
    return _bar if sys.stderr.isatty() else no_progress


def line_progress() -> Track:
    """Return progress for results that are printed line by line: no bar where lines show it.

    On a terminal a bar would write over the lines.
    """
    return no_progress if sys.stdout.isatty() else progress()


@contextmanager
def showing_run(*, as_json: bool) -> Iterator[tuple[Track, Callable[[Path], None] | None]]:
    """Show the run that is trained in this process; yield `track` and `on_folder` of `api.train`.

    Args:
        as_json: Whether to show progress bars only, as on a dumb terminal.
    """
    if as_json or process_rank() > 0 or not _is_smart_terminal():
        yield progress(), None
        return
    from autofocus.cli.live import LiveRun

    with LiveRun() as live:
        yield live.track, live.follow


def _is_smart_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _bar(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    from rich.console import Console

    from autofocus.cli.bars import make_bars

    with make_bars(Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=description)


def _escaped(value: Any) -> Any:
    """Return the value with undecodable bytes in its texts escaped, as in file names."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _fail(error: AutofocusError, as_json: bool) -> NoReturn:
    problems = error.problems if isinstance(error, InputError) else (str(error),)
    _report(type(error).__name__, problems, as_json)
    raise typer.Exit(error.exit_status) from error


def _report(kind: str, problems: Sequence[str], as_json: bool) -> None:
    for problem in problems:
        note(f"error: {problem}")
    if as_json:
        # Where stdout is full or closed, the lines on stderr are all that can be said.
        with suppress(OSError):
            emit_json({"error": {"type": kind, "problems": list(problems)}})


def _os_message(error: OSError) -> str:
    file = f"{error.filename}: " if error.filename else ""
    way_on = " Make room, or write elsewhere." if error.errno in DISK_FULL else ""
    return f"{file}{error.strerror or error}.{way_on}"


def _configure_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    # Libraries log at INFO too, which nobody asked for.
    is_first = process_rank() == 0
    logging.getLogger("autofocus").setLevel(logging.INFO if is_first else logging.ERROR)
