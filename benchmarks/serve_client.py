"""A load client of one thread: as little of the machine's time as Python allows.

The clients of one load are sockets in one loop. Each sends the same bytes, waits for its reply and
sends again, over one connection or a new one each time. A server that closes a connection with its
reply gets a new one either way.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 60.0


@dataclass
class Load:
    """Replies that a server has given within a time.

    Attributes:
        seconds: That time.
        latencies_s: From sending a request, or connecting, to its reply's end.
        cpu_s: CPU seconds of the server in that time.
        last_reply: Body of the last reply.
    """

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    last_reply: bytes = b""


def request_bytes(path: str, body: bytes, *, kept_alive: bool) -> bytes:
    """Return a POST of JSON as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([] if kept_alive else ["Connection: close"]),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def drive(
    port: int,
    request: bytes,
    concurrency: int,
    seconds: float = 0.0,
    warm_up_s: float = 0.0,
    cpu_s: Callable[[], float] = lambda: 0.0,
) -> Load:
    """Send requests for a while and return what was answered in it, without the warm-up before.

    The warm-up has as many replies as there are clients at least. What is under way at the end is
    waited for, so that nothing is left to the next load.

    Raises:
        OSError: If the server cannot be reached.
        EOFError: If it closes a connection within a reply.
        SystemExit: If a reply is not 200.
    """
    window = _Window(concurrency, seconds, warm_up_s, cpu_s)
    poll = select.epoll()
    clients: dict[int, _Client] = {}
    try:
        for _ in range(concurrency):
            client = _Client(port, request, poll)
            client.send()
            clients[client.number] = client
        while clients:
            for client in _answered(poll, clients):
                del clients[client.number]
                if window.take(client):
                    client.send()
                    clients[client.number] = client
                else:
                    client.close()
    finally:
        for client in clients.values():
            client.close()
        poll.close()
    return window.load


def _answered(poll: select.epoll, clients: dict[int, "_Client"]) -> Iterator["_Client"]:
    """Wait, and yield the clients whose replies are complete."""
    events = poll.poll(TIMEOUT_S)
    if not events:
        raise SystemExit(f"no reply within {TIMEOUT_S:g} s")
    for number, event in events:
        client = clients[number]
        if event & select.EPOLLOUT:
            client.write()
        if event & ~select.EPOLLOUT and client.read():
            yield client


class _Window:
    """The time that counts, from the end of the warm-up on: it begins and ends with a reply."""

    def __init__(
        self, concurrency: int, seconds: float, warm_up_s: float, cpu_s: Callable[[], float]
    ) -> None:
        self.load = Load()
        self._seconds = seconds
        self._warm_at_s = time.monotonic() + warm_up_s
        self._num_cold = concurrency
        self._read_cpu_s = cpu_s
        self._begin_s = self._cpu_before_s = 0.0

    def take(self, client: "_Client") -> bool:
        """Take note of a reply, and return whether another one is wanted."""
        now = time.monotonic()
        self.load.last_reply = client.body
        if not self._begin_s:
            self._num_cold -= 1
            if self._num_cold > 0 or now < self._warm_at_s:
                return True
            self._begin_s, self._cpu_before_s = now, self._read_cpu_s()
        elif not self.load.seconds:
            self.load.latencies_s.append(now - client.sent_s)
        if now < self._begin_s + self._seconds:
            return True
        if not self.load.seconds:
            self.load.seconds = now - self._begin_s
            self.load.cpu_s = self._read_cpu_s() - self._cpu_before_s
        return False


class _Client:
    """One client and its connection.

    Attributes:
        number: Its file's.
        sent_s: When it began with the request under way.
    """

    def __init__(self, port: int, request: bytes, poll: select.epoll) -> None:
        self._address = ("127.0.0.1", port)
        self._request = memoryview(request)
        self._poll = poll
        self._sock: socket.socket | None = None
        self._unsent = self._request
        self._is_blocked = False
        self._reply = bytearray()
        self._start = self._end = 0
        self._kept_alive = b"\r\nConnection: close\r\n" not in request[:1_000]
        self.number = -1
        self.sent_s = 0.0

    @property
    def body(self) -> bytes:
        """Body of the reply, once it is complete."""
        return bytes(self._reply[self._start : self._end])

    def send(self) -> None:
        """Send the request, over a new connection where there is none."""
        self.sent_s = time.monotonic()
        self._unsent = self._request
        self._reply = bytearray()
        self._start = self._end = 0
        if self._sock is None:
            self._sock = socket.create_connection(self._address, TIMEOUT_S)
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.number = self._sock.fileno()
            self._poll.register(self.number, select.EPOLLIN)
        self.write()

    def write(self) -> None:
        """Send what the connection takes."""
        assert self._sock is not None
        # A full connection says so again.
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        if self._is_blocked != bool(self._unsent):
            self._is_blocked = not self._is_blocked
            writes = select.EPOLLOUT if self._is_blocked else 0
            self._poll.modify(self.number, select.EPOLLIN | writes)

    def read(self) -> bool:
        """Take what has come, and return whether the reply is complete."""
        assert self._sock is not None
        data = self._sock.recv(RECEIVE_BYTES)
        if not data:
            raise EOFError("the server has closed the connection")
        self._reply += data
        if not self._start:
            end = self._reply.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._take_head(bytes(self._reply[:end]).lower(), end + 4)
        if len(self._reply) < self._end:
            return False
        if not self._kept_alive:
            self.close()
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._is_blocked = False

    def _take_head(self, head: bytes, start: int) -> None:
        if head.split(None, 2)[1] != b"200":
            raise SystemExit(f"not 200: {bytes(self._reply[:500])!r}")
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        self._start, self._end = start, start + int(length)
        if b"\r\nconnection: close" in head:
            self._kept_alive = False
