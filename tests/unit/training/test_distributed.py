"""What the first of several processes tells the others, and what they make of it.

That they train as one is tested with real processes: test_ddp.py, tests/e2e/test_torchrun.py.
"""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autofocus.errors import JobError, TrainingError
from autofocus.runtime import no_progress, process_count, process_rank
from autofocus.study import run as study_run
from autofocus.training import distributed
from autofocus.training.trial import RunContext

SEEN: list[Any] = []


def take_part(context: RunContext, number: int) -> None:
    SEEN.append((context, number))


def fail(context: RunContext, number: int) -> None:
    raise JobError("as the first process says too")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the first process has sent, pickled and back."""
    messages: list[Any] = []
    monkeypatch.setattr(distributed, "_is_broken", False)
    monkeypatch.setattr(distributed, "connect", lambda: None)
    monkeypatch.setattr(
        distributed, "_send", lambda message: messages.append(pickle.loads(pickle.dumps(message)))
    )
    monkeypatch.setattr(distributed, "receive", lambda: messages.pop(0))
    SEEN.clear()
    return messages


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", str(rank)), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)


def of_others() -> RunContext:
    context = RunContext(Path("x"), 9.0, lambda: True, lambda report: True, track=print)
    return context.on_worker()


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert (process_count(), process_rank()) == (1, 0)
    # What a batch system sets is no launcher yet.
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (process_count(), process_rank()) == (1, 0)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert (process_count(), process_rank()) == (4, 3)


def test_alone_there_is_no_one_to_tell(sent: list[Any]) -> None:
    with distributed.on_all_ranks(take_part, of_others(), 3):
        pass
    distributed.shutdown({})
    assert sent == []


def test_the_others_do_the_same_with_hooks_of_their_own(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = of_others()
    as_process(monkeypatch, 0)
    for number in (3, 4):
        with distributed.on_all_ranks(take_part, context, number):
            pass
    distributed.shutdown({"value": 1})
    assert len(sent) == 3
    monkeypatch.setattr(distributed, "prepare_torch", lambda: None)
    as_process(monkeypatch, 1)
    level = logging.getLogger("autofocus").level
    assert distributed.run_worker() == {"value": 1}
    assert [number for _, number in SEEN] == [3, 4]
    theirs = SEEN[0][0]
    assert (theirs.folder, theirs.deadline_s) == (Path("x"), 9.0)
    assert theirs.track is no_progress
    # Only the first process decides when it is over.
    assert not theirs.should_stop()
    assert not theirs.on_epoch({})
    assert logging.getLogger("autofocus").level == level


@pytest.mark.parametrize(("run", "status"), [(take_part, 1), (fail, 2)])
def test_they_leave_quietly_when_the_first_one_failed(
    sent: list[Any], run: Callable[..., None], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = of_others()
    as_process(monkeypatch, 0)
    with distributed.on_all_ranks(run, context, 3):
        pass
    distributed.shutdown(None)
    monkeypatch.setattr(distributed, "prepare_torch", lambda: None)
    with pytest.raises(SystemExit) as left:
        distributed.run_worker()
    assert left.value.code == status


def test_after_an_error_within_training_nothing_is_said_to_them(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may wait for gradients: another message would be taken for those."""
    context = of_others()
    as_process(monkeypatch, 0)
    with pytest.raises(OSError, match="full"), distributed.on_all_ranks(take_part, context, 3):
        raise OSError("the disk is full")
    with (
        pytest.raises(TrainingError, match="were lost"),
        distributed.on_all_ranks(take_part, context, 4),
    ):
        pytest.fail("there is no one to train with")
    distributed.shutdown(None)
    assert len(sent) == 1


@pytest.mark.parametrize("error", [None, JobError("wrong"), KeyboardInterrupt()])
def test_whatever_becomes_of_a_run_the_others_are_dismissed(
    sent: list[Any], error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_process(monkeypatch, 0)
    if error is None:
        with study_run._leading_others() as results:
            results.append({"value": 1})
    else:
        with pytest.raises(type(error)), study_run._leading_others():
            raise error
    (shutdown,) = sent
    assert shutdown.result == (None if error is not None else {"value": 1})
    monkeypatch.setattr(distributed, "run_worker", lambda: {"followed": True})
    as_process(monkeypatch, 1)
    assert study_run.run({}) == {"followed": True}
