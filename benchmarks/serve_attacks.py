"""A served model and clients that note all that comes back; for `serve_load` and `serve_fuzz`."""

import asyncio
import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from serve_peers import build_model

from autofocus.scoring.model_path import resolve_model

HOST = "127.0.0.1"
START_S = 300.0
# For the end of a connection, after its reply.
END_S = 20.0


class Reply(NamedTuple):
    """What a connection brought.

    Attributes:
        status: HTTP status; 0 where the connection ended before a whole reply.
        headers: Header lines by name, names in lower case.
        body: Body.
        extra: Bytes after the reply.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    extra: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


NOTHING = Reply(0, {}, b"")


class Server:
    """`autofocus serve` as a process of its own, with its log in a file (Linux).

    Attributes:
        port: Its port.
    """

    def __init__(self, model: Path, log: Path, *flags: str) -> None:
        self._log = log
        argv = [sys.executable, "-m", "autofocus", "serve", str(model), "--port", "0", *flags]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(argv, stderr=stderr, stdout=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while not (match := re.search(r":(\d+)/score", log.read_text(errors="replace"))):
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.port = int(match[1])

    def stop(self) -> int:
        """Return the exit status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(120)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return the process ids of the workers, eldest first: they hold the listening socket."""
        inode = next(
            fields[9]
            for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines())
            if fields[3] == "0A" and fields[1].endswith(f":{self.port:04X}")
        )
        return [pid for pid in self._spawned() if f"socket:[{inode}]" in _links(pid)]

    def explainers(self) -> list[int]:
        """Return the process ids of the explaining process: one, or none while it starts anew."""
        workers = self.workers()
        return [pid for pid in self._spawned() if pid not in workers]

    def _spawned(self) -> list[int]:
        pid = self.process.pid
        found = []
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            # One that ended meanwhile is none.
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
        return found


def _links(pid: int) -> set[str]:
    links = set()
    with contextlib.suppress(OSError):
        for file in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.add(os.readlink(file.path))
    return links


def memory_bytes(pid: int) -> tuple[int, int]:
    """Return the resident memory of a process, now and at its most; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    now, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    return (int(now[1]) << 10, int(most[1]) << 10) if now and most else (0, 0)


@contextlib.contextmanager
def served(model: Path | None, *flags: str) -> Iterator[tuple[Server, Path]]:
    """Serve a model, by default a random lite0; yield the server and the model's folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = resolve_model(model) if model else build_model(Path(folder) / "model")
        server = Server(path, Path(folder) / "log.txt", *flags)
        try:
            yield server, path
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()


def draw_photos(number: int, size: tuple[int, int] = (400, 600)) -> list[bytes]:
    """Return JPEGs of smooth noise with something in them, of 20 to 60 KB."""
    photos = []
    for seed in range(number):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, rng.integers(0, 24, image.shape, dtype=np.uint8))
        photos.append(simplejpeg.encode_jpeg(np.ascontiguousarray(image), 80))
    return photos


def text_of(image: bytes) -> str:
    return base64.b64encode(image).decode()


def explain_row(image: bytes, parameters: Any, explains: bool = True) -> str:
    row = {"image_base64": text_of(image), "model_explainability": explains}
    return json.dumps(row | {"xai_parameters": parameters})


def body_of(rows: Sequence[Any]) -> bytes:
    return json.dumps({"input_data": {"columns": ["image"], "data": list(rows)}}).encode()


def request_of(body: bytes, request_id: str = "-", method: str = "POST /score") -> bytes:
    """Return the bytes of a request."""
    head = (
        f"{method} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        f"x-request-id: {request_id}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def exchange(port: int, parts: Sequence[bytes | float], timeout_s: float = 120.0) -> Reply:
    """Send bytes, with pauses in seconds, on a connection of its own; return all that comes.

    The reply is read while the rest is sent, for the server may refuse before it has read all.
    """
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
    sending = asyncio.create_task(_send(writer, parts))
    try:
        async with asyncio.timeout(timeout_s):
            reply = await read_reply(reader)
            if not sending.done():
                sending.cancel()
        with contextlib.suppress(OSError, TimeoutError):
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(END_S):
                reply = reply._replace(extra=await reader.read())
        return reply
    except (OSError, EOFError, TimeoutError, ValueError):
        return NOTHING
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()


async def leave(port: int, parts: Sequence[bytes | float]) -> None:
    """Send bytes and close the connection at once."""
    _, writer = await asyncio.open_connection(HOST, port)
    await _send(writer, parts)
    writer.transport.abort()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Return the next reply of a connection.

    Raises:
        EOFError: If it ends first.
        ValueError: If the bytes are no reply.
    """
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status = int(lines[0].split()[1])
    body = await reader.readexactly(int(headers["content-length"]))
    return Reply(status, headers, body)


async def _send(writer: asyncio.StreamWriter, parts: Sequence[bytes | float]) -> None:
    # A server that has refused reads no more.
    with contextlib.suppress(OSError):
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            else:
                await asyncio.sleep(part)
