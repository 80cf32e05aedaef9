"""Bearer keys: kept only as digests, compared in constant time, read again when they change."""

import codecs
import hashlib
import hmac
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from autofocus.errors import InputError

logger = logging.getLogger(__name__)

_SCHEME = b"bearer "
_COMMENT = b"#"
_OTHERS_MAY = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH


class KeyFile:
    """A key file that is read again when it changes, so that keys rotate without a restart.

    Args:
        path: The file.
        keys: Digests read from it.
    """

    def __init__(self, path: Path, keys: Sequence[bytes]) -> None:
        self._path = path
        self._keys = keys
        self._stamp = _stamp(path)

    def keys(self) -> Sequence[bytes]:
        """Return the digests of now. While the file cannot be read, those read before count."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = read_keys(self._path)
                logger.info("%s has changed: %d keys", self._path, len(self._keys))
            except InputError as error:
                logger.warning("warning: %s The keys read before go on.", error)
        return self._keys


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_keys(path: Path) -> list[bytes]:
    """Return the SHA-256 digests of the keys in `path`, one key a line; `#` starts a comment.

    Raises:
        InputError: If it cannot be read, is no text or holds no key.
    """
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the key file: {error.strerror or error}. "
            "It must hold one key a line."
        ) from error
    lines = [line.strip() for line in _as_utf8(data, path).splitlines()]
    keys = [line for line in lines if line and not line.startswith(_COMMENT)]
    if not keys:
        raise InputError(
            f"{path}: the key file is empty, so every request would be refused. "
            "Write one key a line, or leave --api-key-file out."
        )
    # Windows keeps permissions elsewhere; st_mode says nothing there.
    if os.name == "posix" and mode & _OTHERS_MAY:
        logger.warning(
            "warning: %s can be read or changed by other users; run: chmod 600 %s", path, path
        )
    return [hashlib.sha256(key).digest() for key in keys]


def _as_utf8(data: bytes, path: Path) -> bytes:
    # Windows editors write UTF-16 with a byte order mark.
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    if b"\0" in data:
        raise InputError(f"{path}: the key file is no text in UTF-8; save it as such.")
    return data.removeprefix(codecs.BOM_UTF8)


def is_allowed(authorization: bytes | None, keys: Sequence[bytes]) -> bool:
    """Return whether an Authorization header carries one of the keys.

    Args:
        authorization: The header's value, None when the request has none.
        keys: Digests from `read_keys`; an empty list lets everybody in.
    """
    if not keys:
        return True
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return False
    given = hashlib.sha256(authorization[len(_SCHEME) :].strip()).digest()
    # A sum, not `any`: every key is compared whatever the first one gives.
    return sum(hmac.compare_digest(given, key) for key in keys) > 0
