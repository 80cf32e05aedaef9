"""Atomic files, plain values."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from autofocus import runtime


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


def test_plain_turns_arrays_into_lists() -> None:
    value = {"probs": np.array([0.5, 0.25], np.float32), "n": np.int64(3), "x": (1, [np.True_])}
    assert runtime.plain(value) == {"probs": [0.5, 0.25], "n": 3, "x": [1, [True]]}


def test_allocator_setting_survives_being_called_twice() -> None:
    runtime.keep_big_blocks()
    runtime.keep_big_blocks()
    assert np.ones(10_000_000).sum() == 10_000_000
