"""Fixtures for tests that serve: servers as processes, and requests to them. No torch."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def request_for(*rows: bytes | str) -> dict[str, Any]:
    """Return the published request: images as bytes, or rows as they are sent."""
    data = [base64.encodebytes(row).decode() if isinstance(row, bytes) else row for row in rows]
    return {"input_data": {"columns": ["image"], "data": data}}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ServerProcess:
    """A server on a free port of 127.0.0.1."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]
    reader: threading.Thread

    def request(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        request = urllib.request.Request(self.url + path, body, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def score(self, document: Any, headers: dict[str, str] | None = None) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("/score", body, {"Content-Type": "application/json", **(headers or {})})

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit status and all of stderr."""
        self.process.send_signal(sig)
        status = self.process.wait(timeout=30)
        self.reader.join(timeout=10)
        return status, "".join(self.lines)


StartServer = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def start_server() -> Iterator[StartServer]:
    """Start `autofocus serve` (or a given command) and wait for its first line."""
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def start(
        *arguments: str | Path, command: list[str] | None = None, env: dict[str, str] | None = None
    ) -> ServerProcess:
        argv = command or [sys.executable, "-m", "autofocus", "serve"]
        process = subprocess.Popen(
            [*argv, *map(str, arguments)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(env or {})},
        )
        lines: list[str] = []
        # Somebody must read on, or a long log would stop the server.
        reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
        reader.start()
        started.append((process, reader))
        while True:
            if match := re.search(r"(http://\S+?:\d+)/score", "".join(lines)):
                return ServerProcess(process, match.group(1), lines, reader)
            if not reader.is_alive():
                raise AssertionError(f"the server ended before it was ready:\n{''.join(lines)}")
            time.sleep(0.02)

    yield start
    for process, _ in started:
        if process.poll() is None:
            process.kill()
    for process, reader in started:
        process.wait()
        # Until its workers have seen that they are alone, and left.
        reader.join(timeout=10)
        assert process.stderr is not None
        process.stderr.close()


def _read_lines(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    for line in iter(process.stderr.readline, ""):
        lines.append(line)


@pytest.fixture(scope="session")
def server(start_server: StartServer, tiny_model: Path) -> ServerProcess:
    """One server with two workers for all tests that only ask."""
    return start_server(tiny_model, "--port", "0", "--workers", "2")
