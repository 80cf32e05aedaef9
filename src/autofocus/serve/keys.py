"""Bearer keys: read once, kept only as digests, compared in constant time."""

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


def read_keys(path: Path) -> list[bytes]:
    """Return the SHA-256 digests of the keys in `path`, one key a line.

    Raises:
        InputError: If it cannot be read or holds no key.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the key file: {error.strerror or error}. "
            "It must hold one key a line."
        ) from error
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise InputError(
            f"{path}: the key file is empty, so every request would be refused. "
            "Write one key a line, or leave --api-key-file out."
        )
    # Windows keeps permissions elsewhere; st_mode says nothing there.
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("warning: %s can be read by other users; run: chmod 600 %s", path, path)
    return [hashlib.sha256(key).digest() for key in keys]


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
