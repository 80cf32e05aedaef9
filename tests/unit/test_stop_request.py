"""Ctrl-C and SIGTERM ask for an end; the second one demands it."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from autofocus import runtime
from autofocus.runtime import StopRequest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends signals to whole consoles")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_noticed_and_the_second_one_interrupts(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_under_torchrun_one_ctrl_c_arrives_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    now_s = 100.0
    monkeypatch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: now_s))
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        now_s += 0.1
        signal.raise_signal(signal.SIGINT)
        assert stop()
        now_s += 1.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_outside_the_main_thread_it_notices_nothing() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
