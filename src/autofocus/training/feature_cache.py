"""Frozen features on disk, keyed by the image's bytes, the encoder and the view."""

import copy
import logging
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

_LOCK_WAIT_S = 10
_SELECT = "SELECT row FROM features WHERE key = ?"
_INSERT = "INSERT OR REPLACE INTO features VALUES (?, ?)"


class FeatureCache:
    """A table from (encoder, image hash, view) to one float32 row, shared by all runs.

    A cache that cannot be opened or written never fails a run: it warns once and stays empty.

    Args:
        path: The SQLite file; its folder is created.
        encoder: Everything the features depend on besides the image, as one string.
    """

    def __init__(self, path: Path, encoder: str) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Loader threads read rows; `_lock` gives them turns.
            self._db = sqlite3.connect(
                path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            # Not worth waiting for the disk at each commit: a lost row is computed again.
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, row BLOB) WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            self._give_up(path, error)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._db is not None:
            self._db.close()

    def of(self, engine: str) -> "FeatureCache":
        """Return the same cache for features that another engine computes, and rounds its way."""
        other = copy.copy(self)
        other._encoder = f"{self._encoder}/{engine}"
        return other

    def get(self, image_hash: str, views: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the image's features, float32 [v, d], or None if any view is missing."""
        keys = [self._key(image_hash, view) for view in views]
        with self._lock:
            if self._db is None:
                return None
            try:
                found = [self._db.execute(_SELECT, (key,)).fetchone() for key in keys]
            except sqlite3.Error as error:
                self._give_up("features", error)
                return None
        if any(row is None for row in found):
            return None
        return np.stack([np.frombuffer(row[0], dtype=np.float32) for row in found])

    def put(self, rows: Iterable[tuple[str, NDArray[np.float32]]], views: Sequence[str]) -> None:
        """Store rows of (image hash, float32 [v, d])."""
        values = [
            (self._key(image_hash, view), features[i].tobytes())
            for image_hash, features in rows
            for i, view in enumerate(views)
        ]
        with self._lock:
            if self._db is None:
                return
            try:
                self._db.execute("BEGIN")
                self._db.executemany(_INSERT, values)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up("features", error)

    def _key(self, image_hash: str, view: str) -> str:
        return f"{self._encoder}/{image_hash}/{view}"

    def _give_up(self, name: object, error: Exception) -> None:
        log.warning("feature cache %s is not usable (%s); features are computed anew", name, error)
        self._db = None
