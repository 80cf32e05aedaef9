"""A request's two directions: what was read of it, and a reply that is to be taken in time."""

import asyncio

import orjson
from starlette.types import Message, Receive, Scope, Send

from autofocus.serve.errors import ClientGoneError, Headers

_JSON = (b"content-type", b"application/json")
_MAX_ERROR_BYTES = 4 << 10
# Written at once; only so much of a reply waits in the connection.
_PIECE_BYTES = 256 << 10
# A client may take so long to accept a reply, and a second more for each of these.
_TAKE_S = 30.0
_TAKE_BYTES_A_SECOND = 256 << 10


class Exchange:
    """Adds ids to the reply, remembers its status, and whether all of the request was read.

    Args:
        scope: The request's scope; `abort` in it closes the connection at once.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._abort = scope.get("abort", _do_nothing)
        self._receive = receive
        self._send = send
        self.has_unread_body = True
        self.ids: Headers = []
        self.status = 0

    @property
    def request_id(self) -> str:
        """The id of the reply; `-` before there is one."""
        return next((v.decode() for k, v in self.ids if k == b"x-request-id"), "-")

    async def receive(self) -> Message:
        """Return the next part of the request."""
        message = await self._receive()
        self.has_unread_body = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the reply, a long body in pieces.

        Raises:
            ClientGoneError: When the client does not take it in time; the connection is closed.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.ids]
        body = message.get("body", b"")
        more = message.get("more_body", False)
        try:
            async with asyncio.timeout(_TAKE_S + len(body) / _TAKE_BYTES_A_SECOND):
                while len(body) > _PIECE_BYTES:
                    piece, body = body[:_PIECE_BYTES], memoryview(body)[_PIECE_BYTES:]
                    await self._send({**message, "body": bytes(piece), "more_body": True})
                await self._send({**message, "body": bytes(body), "more_body": more})
        except TimeoutError:
            self._abort()
            # The connection's own end comes first: it tells the server that nobody reads on.
            await asyncio.sleep(0)
            raise ClientGoneError from None

    async def refuse(self, status: int, text: str, extra: Headers) -> None:
        """Send an error, cut where it is long: no request may make the server write a book."""
        text = text[:_MAX_ERROR_BYTES]
        body = orjson.dumps({"message": text})
        while len(body) > _MAX_ERROR_BYTES:
            text = text[: len(text) * 3 // 4]
            body = orjson.dumps({"message": f"{text} …"})
        await send_json(self.send, status, body, extra)


async def send_json(send: Send, status: int, body: bytes, extra: Headers) -> None:
    """Send a reply of JSON text."""
    headers = [_JSON, (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _do_nothing() -> None:
    return
