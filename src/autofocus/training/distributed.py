"""Distributed training: rank 0 runs the job, the other ranks take their share of its training.

`torchrun` and `accelerate launch` start the same command several times. Only the first process
reads data, writes files, packages and logs. For each training run it sends the others a task;
they take their share of every batch and wait for the next task, until they are shut down.
"""

import atexit
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from autofocus.errors import AutofocusError, TrainingError
from autofocus.runtime import StopRequest, process_count, process_rank
from autofocus.training.device import prepare_torch

# The others wait while the first one packages or looks at its data; lost processes are noticed
# by their closed connections, not by silence.
_TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class _Task:
    """A call to take part in: `run(*arguments)`."""

    run: Callable[..., object]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Shutdown:
    """The end of the run; `result` is None if it failed: the first process reports why."""

    result: dict[str, Any] | None


# Set once processes may be at different points of their work: none can take a message then.
_is_broken = False


def connect() -> None:
    """Connect this process with the others; do nothing if it is connected or alone."""
    if process_count() == 1 or distributed.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Disconnect; no process closes its connections while another may still read from them."""
    if not _is_broken:
        # The barrier fails if a process was killed.
        with suppress(RuntimeError):
            distributed.barrier()
    distributed.destroy_process_group()


@contextmanager
def on_all_ranks(run: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """Let the other ranks run the same training as this one does in the context.

    Args:
        run: Module-level function that trains; it makes its own accelerator.
        *arguments: Its arguments; can be pickled.

    Raises:
        TrainingError: If an earlier error has lost the others.
    """
    global _is_broken
    if process_count() == 1 or process_rank() > 0:
        yield
        return
    if _is_broken:
        raise TrainingError("the other processes were lost when an earlier trial failed.")
    _send(_Task(run, arguments))
    try:
        yield
    except BaseException:
        _is_broken = True
        raise


def shutdown(result: dict[str, Any] | None) -> None:
    """End the other ranks.

    Args:
        result: Result of the run, which they return; None if it failed.
    """
    if process_count() > 1 and not _is_broken:
        connect()
        _send(_Shutdown(result))


def run_worker() -> dict[str, Any]:
    """Run the tasks that rank 0 sends, and return the result of its run.

    Raises:
        SystemExit: If the run failed; the first process reports why.
    """
    prepare_torch()
    connect()
    logger = logging.getLogger("autofocus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # Only the first process reacts to the user's request to stop.
    with StopRequest():
        try:
            while isinstance(task := receive(), _Task):
                task.run(*task.arguments)
        except AutofocusError as error:
            # The first process has the same error and reports it.
            raise SystemExit(error.exit_status) from error
        finally:
            logger.setLevel(level)
    if task.result is None:
        raise SystemExit(1)
    return task.result


def receive() -> _Task | _Shutdown:
    """Wait for the next message of rank 0."""
    box: list[Any] = [None]
    distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    task: _Task | _Shutdown = box[0]
    return task


def _send(message: _Task | _Shutdown) -> None:
    distributed.broadcast_object_list([message], src=0, device=torch.device("cpu"))
