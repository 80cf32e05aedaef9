"""An image's bytes, from wherever they are, and their hash. Images cross the network only here.

A tag tells, without reading a file, whether it is still the one that was read: its size, its time
of change and its number on the disk, or the ETag of a URL. Where tags differ, contents need not.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from typing import Any, BinaryIO
from urllib.parse import quote

from autofocus.errors import DataError

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
MAX_BYTES = 1 << 29
HTTP_TIMEOUT_S = 30.0

# Scheme -> the extra of this package that brings its fsspec backend; None where none is needed.
REMOTE_SCHEMES: dict[str, str | None] = {
    "http": None,
    "https": None,
    "memory": None,
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
}
# Of a tag in the headers of HTTP, and in what stores say of an object.
_TAG_NAMES = ("ETag", "etag", "md5Hash", "content_md5", "Last-Modified")
_URL_SAFE = "%/:=&?~#+!$,;'@()*[]|"


class LocateError(DataError):
    """An `image_url` leads nowhere, somewhere it may not, or to what is not a readable file.

    Args:
        code: Stable machine name, such as `url.outside_root`.
        message: Rule, value and next step, for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def open_bytes(location: str) -> bytes:
    """Read what `Locator.locate` returned.

    Raises:
        LocateError: If it is missing, a folder, not a regular file, larger than 512 MiB, not
            reachable, or needs a package that is not installed.
    """
    return open_tagged(location)[0]


def open_tagged(location: str) -> tuple[bytes, str]:
    """Read a file; return its bytes and its tag, "" where the store has none; see `open_bytes`."""
    match = SCHEME.match(location)
    if match is None:
        return _read_file(location)
    scheme = match[1].lower()
    if scheme in ("http", "https"):
        return _read_http(location)
    return _read_remote(location, scheme)


def tag_of(location: str) -> str:
    """Return the tag that a file has now, without reading it; "" where there is none to be had."""
    match = SCHEME.match(location)
    try:
        if match is None:
            return _tag_of_file(os.stat(location))
        return _ask_for_tag(location, match[1].lower())
    except (LocateError, OSError, ValueError):
        return ""


def _ask_for_tag(url: str, scheme: str) -> str:
    try:
        if scheme in ("http", "https"):
            import urllib.request

            request = urllib.request.Request(quote(url, safe=_URL_SAFE), method="HEAD")
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as reply:
                return _tag_in(reply.headers)
        import fsspec

        store, path = fsspec.core.url_to_fs(url)
        return _tag_in(store.info(path))
    except Exception as error:  # every cloud backend raises types of its own
        reason = f"{type(error).__name__}: {error}"
        raise LocateError("url.unreachable", f"{without_query(url)}: {reason}") from error


def _tag_of_file(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _tag_in(facts: Mapping[str, Any]) -> str:
    return next((str(facts[name]) for name in _TAG_NAMES if facts.get(name)), "")


def content_hash(data: bytes) -> str:
    """Return a name of `data`'s content: 32 hex digits of BLAKE2b.

    Keys the feature cache and groups identical images for splits. The Python binding releases the
    interpreter lock, so threads hash in parallel.
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read_file(path: str) -> tuple[bytes, str]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise LocateError("file.directory", f"{path}: is a folder, not an image file.")
        if not stat.S_ISREG(status.st_mode):
            raise LocateError("file.not_regular", f"{path}: is a pipe or device, not a file.")
        if status.st_size > MAX_BYTES:
            raise _too_large(path)
        with open(path, "rb") as file:
            return _read_bounded(file, path), _tag_of_file(status)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LocateError("file.missing", f"{path}: no such file.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LocateError("file.unreadable", f"{path}: cannot be read: {reason}.") from error


def _read_http(url: str) -> tuple[bytes, str]:
    # The standard library's HTTP takes 30 ms to import; local data never needs it.
    import http.client
    import urllib.error
    import urllib.request

    name = without_query(url)
    try:
        with urllib.request.urlopen(quote(url, safe=_URL_SAFE), timeout=HTTP_TIMEOUT_S) as reply:
            data = _read_bounded(reply, name)
            # A bounded read does not complain when the connection breaks early.
            if reply.length:
                raise http.client.IncompleteRead(data, reply.length)
            return data, _tag_in(reply.headers)
    except urllib.error.HTTPError as error:
        error.close()
        codes = {404: "file.missing", 410: "file.missing", 401: "file.unreadable"}
        code = codes.get(error.code, "file.unreadable" if error.code == 403 else "url.unreachable")
        raise LocateError(code, f"{name}: the server answered {error.code}.") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise LocateError("url.unreachable", f"{name}: cannot be fetched: {reason}.") from error


def _read_remote(url: str, scheme: str) -> tuple[bytes, str]:
    # fsspec takes 50 ms to import; local data never needs it.
    import fsspec

    name = without_query(url)
    try:
        with fsspec.open(url, "rb") as file:
            return _read_bounded(file, name), _tag_in(getattr(file, "details", None) or {})
    except LocateError:
        raise
    except ImportError as error:
        extra = REMOTE_SCHEMES.get(scheme)
        raise LocateError(
            "url.needs_extra", f"{name}: {scheme}:// needs one more package: {_install(extra)}"
        ) from error
    except FileNotFoundError as error:
        raise LocateError("file.missing", f"{name}: no such object.") from error
    except IsADirectoryError as error:
        raise LocateError("file.directory", f"{name}: is a folder, not an image.") from error
    except Exception as error:  # every cloud backend raises types of its own
        raise LocateError(
            "url.unreachable", f"{name}: cannot be fetched: {type(error).__name__}: {error}"
        ) from error


def _install(extra: str | None) -> str:
    return f"pip install '.[{extra}]'" if extra else "pip install fsspec"


def _read_bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large(name)
    return data


def _too_large(name: str) -> LocateError:
    return LocateError("file.too_large", f"{name}: an image file may have at most 512 MiB.")


def without_query(url: str) -> str:
    """Return `url` without its query, which often holds a signature that opens the store."""
    return url.partition("?")[0] if SCHEME.match(url) else url
