"""Whole files, plain values, and signals: one asks for an end, the second one demands it."""

import errno
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autofocus import runtime
from autofocus.runtime import StopRequest

posix = pytest.mark.skipif(os.name == "nt", reason="Windows sends signals to whole consoles")


def test_write_atomically_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    runtime.write_atomically(path, b"one")
    runtime.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    runtime.write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runtime.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_says_who_reads_a_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        runtime.write_atomically(tmp_path / "a.json", b"one")
        runtime.write_atomically(tmp_path / "a.json", b"two")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode


def write_half(path: Path, error: OSError) -> None:
    with runtime.whole_file(path) as file:
        file.write(b"half")
        raise error


def test_a_full_disk_names_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match="No space left") as caught:
        write_half(path, OSError(errno.ENOSPC, "No space left on device"))
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_other_errors_are_not_blamed_on_the_file_that_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="reset") as caught:
        write_half(tmp_path / "a.json", OSError(errno.ECONNRESET, "connection reset"))
    assert caught.value.filename is None
    assert not list(tmp_path.iterdir())


def test_plain_turns_arrays_into_lists() -> None:
    value = {"probs": np.array([0.5, 0.25], np.float32), "n": np.int64(3), "x": (1, [np.True_])}
    assert runtime.plain(value) == {"probs": [0.5, 0.25], "n": 3, "x": [1, [True]]}


def test_allocator_setting_survives_being_called_twice() -> None:
    runtime.keep_big_blocks()
    runtime.keep_big_blocks()
    assert np.ones(10_000_000).sum() == 10_000_000


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_noticed_and_the_second_one_interrupts(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


@posix
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


@posix
def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


@posix
def test_outside_the_main_thread_it_notices_nothing() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
