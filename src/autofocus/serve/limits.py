"""Limits of a request: ids, content type, pixels, and a body of bounded size and duration."""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Iterator, Mapping

from starlette.types import Receive

from autofocus.data.images.header import read_header
from autofocus.errors import ImageError
from autofocus.serve.errors import ClientGoneError, Headers, HttpError, busy

_MAX_ID_CHARS = 100
_ID_HEADERS = (b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id")
_LINGER_S = 3.0
_CLOSE = (b"connection", b"close")
_MAX_LENGTH_DIGITS = 20


class BodyBudget:
    """Bytes of all bodies that one process holds at once, so that many big ones cannot fill memory.

    Args:
        max_bytes: Limit of all bodies together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Count bytes in.

        Raises:
            HttpError: 429 when there is no room; nothing is counted then.
        """
        if self.held_bytes + num_bytes > self._max_bytes:
            raise busy("The server holds too many big requests at once. Try again.", 1, close=True)
        self.held_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Count bytes out."""
        self.held_bytes -= num_bytes


class PixelBudget:
    """Pixels of the images that the threads of one process decode at once.

    Args:
        max_pixels: Limit of one image. Several together have at most half of it, because decoders
            of some formats hold more a pixel.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_together = max_pixels // 2
        self._held = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def held(self, image: bytes | ImageError) -> Iterator[None]:
        """Wait until there is room for an encoded image, and keep it for the block."""
        num_pixels = _num_pixels(image)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    not num_pixels
                    or not self._held
                    or self._held + num_pixels <= self._max_together
                )
            )
            self._held += num_pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= num_pixels
                self._changed.notify_all()


def _num_pixels(image: bytes | ImageError) -> int:
    """Return the pixels that a file announces; 0 where nothing of it will be decoded."""
    if isinstance(image, ImageError):
        return 0
    try:
        header = read_header(image)
    except ImageError:
        return 0
    return header.height * header.width


def reply_ids(headers: Mapping[bytes, bytes]) -> Headers:
    """Return the id headers of the reply: the request's own, `x-request-id` made when missing.

    Raises:
        HttpError: 431 when one is too long, 400 when it is not printable ASCII.
    """
    ids: Headers = []
    for name in _ID_HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        if len(value) > _MAX_ID_CHARS:
            raise HttpError(
                431,
                f"{name.decode()} must have at most {_MAX_ID_CHARS} characters, got {len(value)}.",
            )
        if not value.isascii() or not value.decode("ascii").isprintable():
            raise HttpError(400, f"{name.decode()} must be printable ASCII.")
        ids.append((name, value))
    given = dict(ids)
    if b"x-request-id" not in given:
        ids.insert(0, (b"x-request-id", str(uuid.uuid4()).encode()))
    if b"x-ms-request-id" not in given:
        ids.append((b"x-ms-request-id", dict(ids)[b"x-request-id"]))
    return ids


def check_content_type(headers: Mapping[bytes, bytes]) -> None:
    """Check that the content is `application/json`, with or without parameters.

    Raises:
        HttpError: 415 if it is not.
    """
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise HttpError(415, "Expects Content-Type to be application/json")


async def read_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    max_bytes: int,
    budget: BodyBudget,
    timeout_s: float,
) -> bytes:
    """Return the request's body; the caller gives its length back to `budget`.

    Raises:
        HttpError: 413 when it is too long, by its Content-Length before anything is read; 408
            when it does not arrive in time; 429 when the process holds too many bodies.
        ClientGoneError: When the client closes the connection first.
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        raise HttpError(400, "Content-Length must be a number.", [_CLOSE])
    digits = length.lstrip(b"0") or b"0"
    # Python refuses to read thousands of digits.
    if len(digits) > _MAX_LENGTH_DIGITS or int(digits) > max_bytes:
        raise _too_long(max_bytes)
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                more = message.get("more_body", False)
                if num_bytes + len(chunk) > max_bytes:
                    raise _too_long(max_bytes)
                budget.take(len(chunk))
                num_bytes += len(chunk)
                chunks.append(chunk)
    except BaseException as error:
        budget.give_back(num_bytes)
        if isinstance(error, TimeoutError):
            raise HttpError(
                408, f"The body did not arrive within {timeout_s:g} s.", [_CLOSE]
            ) from None
        raise
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def discard_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> None:
    """Read on a little before a refusal, because most clients send all before they read a reply.

    Those that send slowly get it while they send; their connection is closed later. A client that
    asked first (`Expect: 100-continue`) is waiting for the refusal.
    """
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    if not has_body or b"expect" in headers:
        return
    num_bytes = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while num_bytes <= max_bytes:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _too_long(max_bytes: int) -> HttpError:
    return HttpError(413, f"The body is too long, at most {max_bytes:,} bytes are allowed.")
