"""The output of a batch, which a kill at any moment leaves so that the same command goes on.

    out.jsonl.partial      a line an image so far, in the order of the input
    out.jsonl.batch.json   model, sources, options; once it is complete, its images too
    out.jsonl              appears only when it is complete

A last line that a kill cut off is removed before others follow. Whatever the format, it is lines
until all are there: only then a table is made of them.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson
from filelock import FileLock, Timeout

from autofocus.batch.entries import Entry
from autofocus.errors import InputError
from autofocus.runtime import naming_full_disk, write_atomically

PARTIAL = ".partial"
ABOUT = ".batch.json"
# Whether another process holds the lock is told in this time.
_LOOK_S = 0.2
# What a crash of the machine may cost at most; a kill of the process costs nothing written.
_SYNC_BYTES = 64 << 20


class WrittenLine(msgspec.Struct):
    """What is read of a line again."""

    filename: str
    error: dict[str, str] | None = None


class Survey:
    """Counts the images of all sources and names them by one number."""

    def __init__(self) -> None:
        self.num_images = 0
        self.num_remote = 0
        self._digest = hashlib.sha256()

    def counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the images, counted."""
        for entry in entries:
            self.num_images += 1
            self.num_remote += isinstance(entry.place, str) and "://" in entry.place
            self._digest.update(entry.name.encode() + b"\n")
            yield entry

    def document(self) -> dict[str, Any]:
        """Return what tells these images from others."""
        return {"num_images": self.num_images, "sha256_of_names": self._digest.hexdigest()}


class BatchOutput:
    """The files of one output, held by one process.

    Args:
        path: The output once it is complete.
        identity: What must be the same in every command that goes on with it, by its name.
        overwrite: Whether what is there is deleted, once all else is sound.

    Raises:
        InputError: If another process writes it, or what is there is of something else.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self._about = path.with_name(path.name + ABOUT)
        self._identity = dict(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _hold(path)
        try:
            self._known = {} if overwrite else self._adopt()
        except BaseException:
            self._lock.release()
            raise
        self._overwrite = overwrite
        self._file: BinaryIO | None = None
        self._unsynced_bytes = 0

    def __enter__(self) -> "BatchOutput":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def summary(self, survey: Survey) -> dict[str, Any] | None:
        """Return `{"num_images", "num_failed"}` of a complete output, or None while it is not.

        Raises:
            InputError: If it is complete, but the sources have other images now.
        """
        if self._overwrite or not self.path.exists():
            return None
        known, now = self._known["images"], survey.document()
        if known != now:
            raise InputError(
                f"{self.path}: is complete with {known['num_images']:,} images, the sources have "
                f"{now['num_images']:,} or others by now. Give another --output, or --overwrite."
            )
        # A kill may have come before it was deleted.
        self.partial.unlink(missing_ok=True)
        summary: dict[str, Any] = self._known["summary"]
        return summary

    def resume(self, entries: Iterator[Entry]) -> tuple[int, int]:
        """Open the output for writing after what is there; take its images from `entries`.

        Returns:
            The number of images that are there, and how many of them could not be read.

        Raises:
            InputError: If the lines are not of the first images of `entries`.
        """
        if self._overwrite:
            for file in (self.path, self.partial):
                file.unlink(missing_ok=True)
        write_atomically(self._about, _json({"of": self._identity}))
        self._file = self.partial.open("a+b", buffering=0)
        with self.partial.open("rb") as lines:
            num_done, num_failed, end = self._read_again(lines, entries)
        self._file.truncate(end)
        return num_done, num_failed

    def write(self, lines: Iterable[bytes]) -> None:
        """Append whole lines."""
        assert self._file is not None, "resume comes first"
        content = memoryview(b"".join(lines))
        self._unsynced_bytes += len(content)
        with naming_full_disk(self.partial):
            # The system may take a part of what it is given.
            while content:
                content = content[self._file.write(content) :]
            if self._unsynced_bytes >= _SYNC_BYTES:
                os.fsync(self._file.fileno())
                self._unsynced_bytes = 0

    def finish(
        self,
        survey: Survey,
        summary: Mapping[str, Any],
        convert: Callable[[Path, Path], None] | None,
    ) -> None:
        """Let the complete output appear.

        Args:
            survey: Images that were written, all of them.
            summary: What `summary` returns later.
            convert: Makes another format of the lines in the first file; None for lines.
        """
        assert self._file is not None, "resume comes first"
        os.fsync(self._file.fileno())
        # Windows renames no file that is open.
        self._file.close()
        # Before the output itself: complete is what is there and described so.
        about = {"of": self._identity, "images": survey.document(), "summary": dict(summary)}
        write_atomically(self._about, _json(about))
        if convert is None:
            os.replace(self.partial, self.path)
        else:
            convert(self.partial, self.path)
            self.partial.unlink()
        # Windows keeps a file that is open; there the empty lock stays.
        with suppress(OSError):
            os.unlink(self._lock.lock_file)

    def _adopt(self) -> dict[str, Any]:
        try:
            known = _read_about(self._about)
        except msgspec.DecodeError as error:
            raise InputError(
                f"{self._about}: is damaged: {error}. Give another --output, or --overwrite."
            ) from error
        before = known.get("of")
        if before is None and (self.path.exists() or self.partial.exists()):
            raise InputError(
                f"{self.path if self.path.exists() else self.partial}: is there already, and not of"
                " a batch that could go on. Give another --output, or --overwrite."
            )
        if before is not None and self.path.exists() and "images" not in known:
            raise InputError(
                f"{self.path}: is not of the batch that is half done in {self.partial.name}. Move "
                "it away, give another --output, or --overwrite."
            )
        if before is not None and before != self._identity:
            changed = [
                f"{name} was {_short(before.get(name))}, now {_short(self._identity.get(name))}"
                for name in dict.fromkeys([*before, *self._identity])
                if before.get(name) != self._identity.get(name)
            ]
            raise InputError(
                f"{self.path}: is of another batch: {'; '.join(changed)}. Give another --output,"
                " --overwrite, or the same command as before to go on."
            )
        return known

    def _read_again(self, lines: Iterable[bytes], entries: Iterator[Entry]) -> tuple[int, int, int]:
        """Return how many images are there, how many failed, and where the last whole line ends."""
        decoder = msgspec.json.Decoder(WrittenLine)
        num_done = num_failed = end = 0
        for line in lines:
            head = _head(decoder, line)
            if head is None:
                break
            entry = next(entries, None)
            if entry is None or entry.name != head.filename:
                now = "is not there any more" if entry is None else f"is {entry.name} by now"
                raise InputError(
                    f"{self.partial}: line {num_done + 1} is of {head.filename}, and image"
                    f" {num_done + 1} of the sources {now}. Give another --output, or --overwrite."
                )
            num_done += 1
            num_failed += head.error is not None
            end += len(line)
        return num_done, num_failed, end


def _head(decoder: "msgspec.json.Decoder[WrittenLine]", line: bytes) -> WrittenLine | None:
    """Return the head of a line, or None if it is not whole: a kill or a crash came meanwhile."""
    if not line.endswith(b"\n"):
        return None
    try:
        return decoder.decode(line)
    except msgspec.DecodeError:
        return None


def _hold(path: Path) -> FileLock:
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOOK_S, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{path}: another autofocus is writing it. Wait for it, or give another --output."
        ) from None
    return lock


def _read_about(path: Path) -> dict[str, Any]:
    """Return what a file says of its output, {} without one."""
    if not path.exists():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
