import logging
import os
import time
from collections.abc import Iterator

import pytest

from autofocus.serve.logs import NonBlockingHandler


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def log(handler: NonBlockingHandler, text: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": text}))


def test_lines_arrive_in_order(pipe: tuple[int, int]) -> None:
    handler = NonBlockingHandler(pipe[1])
    for i in range(100):
        log(handler, f"line {i}")
    handler.flush()
    assert os.read(pipe[0], 65_536).decode().splitlines() == [f"line {i}" for i in range(100)]


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_the_dropped_are_counted(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autofocus.serve.logs._NUM_WAITING", 50)
    monkeypatch.setattr("autofocus.serve.logs._FLUSH_S", 0.1)
    handler = NonBlockingHandler(pipe[1])
    started = time.monotonic()
    for _ in range(200):
        log(handler, "x" * 1_000)
        time.sleep(0.001)
    handler.flush()
    assert time.monotonic() - started < 5
    log(handler, "goes on")
    read = b""
    while b"were dropped" not in read:
        read += os.read(pipe[0], 65_536)
    assert b"log lines were dropped" in read


def test_a_reader_that_has_left_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    handler = NonBlockingHandler(pipe[1])
    log(handler, "to nobody")
    handler.flush()
    log(handler, "still")
    handler.flush()
