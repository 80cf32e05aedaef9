"""Connections: uvicorn's, with limits on what a client may send and how long it may take.

The head of a request (its first line and headers) has a length, a number of headers and a time.
There are only so many connections; of more, one is closed that has waited longest for a request.
Errors of the parser are in the form of all others. Upgrades are not offered, so offers are ignored.
"""

import contextlib
import re
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from autofocus.serve.settings import Settings

_MAX_HEADERS: Final = 128
# Left to others once the process has come to the end of its files.
_SPARE_FILES: Final = 16
# For the client to send what it has begun and read the reply, before the connection is cut.
_TAKE_S: Final = 30.0

_REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Headers Too Large"}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MALFORMED: Final = (400, "The bytes are not an HTTP/1.1 request.")
# Clients that offer HTTP/2, such as Java's, send their request in HTTP/1.1 all the same; the parser
# would take the rest of the connection for the other protocol.
_UPGRADE: Final = re.compile(rb"(\r\n)(upgrade[ \t]*:)", re.IGNORECASE)


class Connections:
    """The connections of one worker, and their limits.

    Args:
        settings: Limits.
        max_connections: Most at once.
        on_closed: Called whenever there is one less.
    """

    def __init__(
        self,
        settings: Settings,
        max_connections: int,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.max_head_bytes = settings.max_header_bytes
        # From the first byte to the end of a head; the same for a new connection's silence.
        self.head_timeout_s = settings.header_timeout_s
        self.too_large = (
            431,
            f"The headers must have at most {self.max_head_bytes:,} bytes and {_MAX_HEADERS}"
            " fields.",
        )
        self.too_slow = (408, f"The headers did not arrive within {self.head_timeout_s:g} s.")
        self._max_connections = max_connections
        self._on_closed = on_closed
        self._open: set[Connection] = set()
        # Those whose request is not there yet as a whole, longest first.
        self._waiting: dict[Connection, None] = {}

    def opened(self, connection: "Connection") -> None:
        """Count one in; close the one that has waited longest where there are too many."""
        self._open.add(connection)
        self.waits(connection)
        if len(self._open) > self._max_connections:
            self._close_longest_waiting(1)

    def shrink(self) -> None:
        """Allow fewer from now on: the process may open no more files than it has."""
        self._max_connections = max(1, len(self._open) - _SPARE_FILES)
        self._close_longest_waiting(_SPARE_FILES)

    def _close_longest_waiting(self, number: int) -> None:
        for oldest in list(islice(self._waiting, number)):
            self.closed(oldest)
            oldest.transport.abort()

    def closed(self, connection: "Connection") -> None:
        """Count one out."""
        self._waiting.pop(connection, None)
        if connection in self._open:
            self._open.discard(connection)
            self._on_closed()

    def waits(self, connection: "Connection") -> None:
        """Note that it waits for a request, from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def works(self, connection: "Connection") -> None:
        """Note that it has one, to the end of its body."""
        self._waiting.pop(connection, None)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    Args:
        args: uvicorn's.
        connections_of_worker: Counts it in and out.
        kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, connections_of_worker: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_worker = connections_of_worker
        self._in_head = True
        # Received since the last part of a body: a head, or what follows a body in chunks.
        self._head_bytes = 0
        self._num_headers = 0
        self._refusal = _MALFORMED
        # Refused bytes are dropped; after a hang-up the parser looks for the end of the request.
        self._is_refused = False
        self._is_hung_up = False
        self._late_refusal: tuple[int, str] | None = None
        self._timer: Any = None
        self._running: Any = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()
        self._of_worker.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._timer.cancel()
        self._of_worker.closed(self)
        super().connection_lost(exc)
        # uvicorn tells only the last of several requests that were sent at once.
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Take bytes, within the limits of a head."""
        if self._is_refused:
            return
        if self._in_head:
            if not self._head_bytes:
                self._wait_for_head()
            data = _without_upgrade(data)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._of_worker.max_head_bytes:
            self._refuse(*self._of_worker.too_large)

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._num_headers = 0
        # For the endpoint: whether anybody waits, and an end for a client that does not read.
        self.scope.update(is_gone=self.transport.is_closing, abort=self.transport.abort)  # type: ignore[call-arg]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header.

        Raises:
            ValueError: To stop the parser, which then refuses the request.
        """
        max_bytes = self._of_worker.max_head_bytes
        self._num_headers += 1
        if self._num_headers > _MAX_HEADERS or len(name) + len(value) > max_bytes:
            self._refusal = self._of_worker.too_large
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request."""
        self._in_head = False
        self._head_bytes = 0
        self._timer.cancel()
        super().on_headers_complete()
        self.cycle.transport = _ReplyTransport(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        super().on_body(body)
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        """End the request's body; what comes next is a head."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0
        self._of_worker.works(self)
        if self._is_hung_up:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Go on with the next request, or close."""
        if not self._is_read:
            self.hang_up()
            return
        is_idle = self._in_head and not self.pipeline
        super().on_response_complete()
        if not is_idle or self.transport.is_closing():
            return
        if self._late_refusal is None:
            self._of_worker.waits(self)
        else:
            self._say(*self._late_refusal)

    @property
    def _is_read(self) -> bool:
        # What is unread may be the next request's.
        return self._in_head or bool(self.pipeline)

    def close(self) -> None:
        """Close the connection after a reply, once the client has had time to take it."""
        if not self._is_read:
            self.hang_up()
            return
        self.transport.close()
        self.loop.call_later(_TAKE_S, self.transport.abort)

    def hang_up(self) -> None:
        """Say that nothing more comes, but read on: most clients send all before they read.

        Closing with bytes unread would reset the connection, and they would never see the reply.
        """
        if self._is_hung_up or self.transport.is_closing():
            return
        self._is_hung_up = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            # A client that has left already hears nothing.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        self.loop.call_later(_TAKE_S, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nobody uses, though its client may not read."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(_TAKE_S, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser, or a limit, has refused."""
        self._refuse(*self._refusal)

    def _wait_for_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._of_worker.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        # A connection that has said nothing is told nothing: browsers open some in advance.
        if self._head_bytes:
            self._refuse(*self._of_worker.too_slow)
        else:
            self.transport.close()

    def _refuse(self, status: int, text: str) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        if self._is_hung_up:
            self.transport.close()
        elif self.cycle is None or self.cycle.response_complete:
            self._say(status, text)
        elif self._in_head:
            # The requests before it are answered first.
            self._late_refusal = (status, text)
        else:
            # Whoever waits for the rest of this request waits no more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._say(status, text)

    def _say(self, status: int, text: str) -> None:
        body = orjson.dumps({"message": text})
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        head = head % (status, _REASONS[status], len(body))
        self.transport.write(head + b"connection: close\r\n\r\n" + body)
        self.hang_up()

    def write(self, data: bytes) -> None:
        """Write, where anything may still be said."""
        if not self._is_hung_up:
            self.transport.write(data)


class _ReplyTransport:
    """A connection's transport for one reply of uvicorn's.

    The head waits for the body's first part: one packet, for which the client wakes up once. What
    is unread is read before a close.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._head = b""
        # Of a reply to HEAD, uvicorn writes nothing else.
        self._has_head = connection.cycle.scope["method"] == "HEAD"
        self.is_closing = connection.transport.is_closing

    def write(self, data: bytes) -> None:
        """Write, but keep a head for later."""
        if self._has_head or data == _CONTINUE:
            self._connection.write(self._head + data)
            self._head = b""
        else:
            self._head, self._has_head = data, True

    def close(self) -> None:
        """Close the connection once it is read, after a head that nothing follows."""
        if self._head:
            self._connection.write(self._head)
        self._connection.close()


def _without_upgrade(data: bytes) -> bytes:
    """Return bytes that start in a head, with the header that offers an upgrade renamed."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if _UPGRADE.search(head) is None:
        return data
    return _UPGRADE.sub(rb"\1x-\2", head) + data[len(head) :]
