"""Distributed training: rank 0 runs the job, the other ranks take their share of its training.

`torchrun` and `accelerate launch` start the same command several times. Only the first process
reads data, writes files, packages and talks. Each time it trains it sends the others what to
train; they take their share of every batch and wait for the next task, until they are dismissed.
"""

import atexit
import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from autofocus.errors import AutofocusError, TrainingError
from autofocus.runtime import StopRequest, no_progress, process_count, process_rank
from autofocus.training.device import make_accelerator, prepare_torch

# The others wait while the first one packages or looks at its data; lost processes are noticed
# by their closed connections, not by silence.
_TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class _Task:
    """What to take part in: `run(kind(**fields, accelerator=…), *rest)`."""

    run: Callable[..., object]
    kind: Callable[..., Any]
    fields: dict[str, Any]
    device_type: str
    rest: tuple[Any, ...]

    def execute(self) -> None:
        accelerator = make_accelerator(torch.device(self.device_type))
        self.run(self.kind(**self.fields, accelerator=accelerator), *self.rest)


@dataclass(frozen=True)
class _Shutdown:
    """The run is over; `result` is None where it failed, of which the first process says why."""

    result: dict[str, Any] | None


# Set once processes may be at different points of their work: nothing can be said to them then.
_is_broken = False


def connect() -> None:
    """Connect this process with the others; does nothing when it has been or is alone."""
    if process_count() == 1 or distributed.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Disconnect; no process closes its connections while another may still read from them."""
    if not _is_broken:
        # One that was killed cannot be waited for.
        with suppress(RuntimeError):
            distributed.barrier()
    distributed.destroy_process_group()


@contextmanager
def on_all_ranks(run: Callable[..., object], job: Any, *rest: Any) -> Iterator[None]:
    """Let the other ranks run the same training as this one does within.

    Args:
        run: A function of a module, that takes `job` and `rest`.
        job: A dataclass with `accelerator`, `should_stop`, `on_epoch` and `track`, for which each
            process has its own.
        *rest: Whatever else `run` takes; can be pickled, as the rest of `job` can.

    Raises:
        TrainingError: If an earlier error has left the others behind.
    """
    global _is_broken
    if process_count() == 1 or process_rank() > 0:
        yield
        return
    if _is_broken:
        raise TrainingError("the other processes were lost when an earlier trial failed.")
    fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    device_type = fields.pop("accelerator").device.type
    fields |= {"should_stop": _never, "on_epoch": _never, "track": no_progress}
    _send(_Task(run, type(job), fields, device_type, rest))
    try:
        yield
    except BaseException:
        _is_broken = True
        raise


def shutdown(result: dict[str, Any] | None) -> None:
    """End the other ranks.

    Args:
        result: What the run came to, which they return; None where it failed.
    """
    if process_count() > 1 and not _is_broken:
        connect()
        _send(_Shutdown(result))


def run_worker() -> dict[str, Any]:
    """Run the tasks that rank 0 sends, and return the result of its run.

    Raises:
        SystemExit: If the run failed; the first process says why.
    """
    prepare_torch()
    connect()
    logger = logging.getLogger("autofocus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # Whether the user has asked to stop is for the first process to notice.
    with StopRequest():
        try:
            while isinstance(task := receive(), _Task):
                task.execute()
        except AutofocusError as error:
            # The first process has met it too.
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


def _never(*_: object) -> bool:
    return False
