"""Ends of a request other than scores, as the status and headers of its reply.

A file of its own: processes that do not serve import it without the server's libraries.
"""

from autofocus.errors import RequestError

Headers = list[tuple[bytes, bytes]]


class HttpError(RequestError):
    """A reply other than 200.

    Args:
        status: HTTP status.
        message: The problem and what is allowed; becomes `{"message": …}`.
        headers: Extra response headers, names in lower case.
    """

    def __init__(self, status: int, message: str, headers: Headers | None = None) -> None:
        super().__init__(message, status)
        self.headers = headers or []


class ClientGoneError(Exception):
    """The client closed the connection; nobody reads a reply."""


def busy(message: str, retry_after_s: int, *, close: bool = False) -> HttpError:
    """Return a 429 that says when to come back."""
    headers = [(b"retry-after", str(retry_after_s).encode())]
    return HttpError(429, message, headers + ([(b"connection", b"close")] if close else []))
