"""JSON Lines: files of rows read in blocks and written row by row. Never holds a file in memory.

A block of whole lines is decoded at once where all its rows are sound. Only a block with an
exception in it is taken apart: each line typed once more, and those that still do not fit are read
by hand (`rules.py`), so that a bad line costs itself and nothing else.
"""

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import orjson

from autofocus.data.rows.ground_truth import named
from autofocus.data.rows.issues import Issue, IssueLog, Severity, short_value
from autofocus.data.rows.records import ImageRecord
from autofocus.data.rows.rules import check_row
from autofocus.data.rows.text import name_binary, sniff_encoding
from autofocus.data.rows.wire import are_named_beside, are_sound, build_row_type, to_record
from autofocus.errors import DataError
from autofocus.runtime import whole_file

# Codes of lines that hold no row at all, which MLTable's `invalid_lines` decides on.
INVALID_LINE_CODES = ("json.invalid", "json.truncated", "line.encoding", "line.too_long")

_HINTS = (
    (rb",\s*[}\]]", "There is a comma before a closing bracket: remove it."),
    (rb"^\s*[{\[]?\s*$", "Each row must stand on one line of its own, not be spread over many."),
    (rb"^\s*\[\s*\{", "One JSON object a line is wanted, not a list of them."),
    (rb"\}\s*\{", "One JSON object a line is wanted; here are several."),
    (rb"^\s*\{\s*'", "JSON wants double quotes: write the file with a JSON library."),
    (rb":\s*(None|True|False)\b", "JSON writes null, true and false."),
    (rb"\r.", "Lines must end with a line feed; this file has carriage returns only."),
)

# Larger blocks are slower: what they decode into leaves the processor's cache.
BLOCK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 26

_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class JsonlFile:
    """A file of rows and how to read it.

    Attributes:
        path: Local path, or URL that fsspec opens.
        encoding: Python's name of the encoding; a byte order mark overrules it.
        invalid_lines: Meaning of a line that is not JSON: an issue like any other, the end of a
            training ("error"), or no more than a warning ("drop").
    """

    path: str
    encoding: str = "utf-8"
    invalid_lines: Literal["issue", "error", "drop"] = "issue"

    @property
    def base_dir(self) -> str:
        """Folder that relative image URLs start from; the current one for a remote file."""
        if "://" in self.path:
            return os.getcwd()
        return os.path.dirname(os.path.abspath(self.path))

    @property
    def severity(self) -> Severity:
        """Severity of a line without a row."""
        return "warning" if self.invalid_lines == "drop" else "error"


@dataclass(frozen=True)
class RowBlock:
    """Rows that stand together in a file.

    Attributes:
        file: Name of the file, for messages.
        base_dir: Folder that relative image URLs start from.
        rows: Rows that can be used: canonical records, or decoded rows that `Schema.record` turns
            into such; both have `image_url` and `label`.
        lines: Line of each row of `rows`, None where there are no lines.
        num_rows: Rows seen, those that cannot be used included.
    """

    file: str
    base_dir: str
    rows: Sequence[Any]
    lines: Sequence[int | None]
    num_rows: int


class Schema:
    """Record type of rows and the names of its columns.

    Args:
        record_type: The record that the task wants.
        image_column: Column with the image's place.
        label_column: Column with the label.
        group_column: Column, or field of `image_details`, with what an image belongs to; None
            where nobody asks.
    """

    def __init__(
        self,
        record_type: type[ImageRecord],
        image_column: str = "image_url",
        label_column: str = "label",
        group_column: str | None = None,
    ) -> None:
        if not image_column or not label_column or image_column == label_column:
            raise DataError(
                "The image column and the label column must be two names, got "
                f"{image_column!r} and {label_column!r}."
            )
        if group_column in ("", image_column, label_column, "image_details"):
            raise DataError(
                f"The group column must be neither the image's, the label's nor image_details, got "
                f"{group_column!r}."
            )
        self.record_type = record_type
        self.image_column = image_column
        self.label_column = label_column
        self.group_column = group_column
        self._decoder = msgspec.json.Decoder(
            build_row_type(record_type, image_column, label_column, group_column)
        )

    def decode_block(self, block: bytes, num_lines: int) -> list[Any] | None:
        """Return the rows of `num_lines` whole lines, or None when one of them is an exception."""
        try:
            rows = self._decoder.decode_lines(block)
        except _DECODE_ERRORS:
            return None
        # Blank lines, and rows on one line, would shift the line numbers.
        if len(rows) != num_lines or not self._are_sound(rows):
            return None
        return rows

    def decode_line(self, line: bytes) -> Any | None:
        """Return the row of one line, or None when it is not sound."""
        try:
            row = self._decoder.decode(line)
        except _DECODE_ERRORS:
            return None
        return row if self._are_sound([row]) else None

    def _are_sound(self, rows: list[Any]) -> bool:
        return not are_named_beside(rows) and are_sound(self.record_type, rows)

    def check(
        self, row: Any, file: str, line: int | None
    ) -> tuple[ImageRecord | None, list[Issue]]:
        """Check a parsed row by hand."""
        names = (self.image_column, self.label_column)
        return check_row(row, self.record_type, *names, file, line, self.group_column)

    def record(self, row: Any) -> ImageRecord:
        """Return the canonical record of what is in `RowBlock.rows`."""
        return row if isinstance(row, ImageRecord) else to_record(self.record_type, row)


def read_row_blocks(file: JsonlFile, schema: Schema, log: IssueLog) -> Iterator[RowBlock]:
    """Read and check a file's rows.

    Args:
        file: The file.
        schema: Record type and columns of its rows.
        log: Takes every issue found.

    Yields:
        Blocks in the file's order; one that has no usable row is yielded too.

    Raises:
        DataError: If the file is not there or is no text.
    """
    for first_line, num_lines, block in read_blocks(file, log):
        rows = schema.decode_block(block, num_lines)
        if rows is None:
            yield _read_singly(file, schema, first_line, block, log)
        else:
            lines = range(first_line, first_line + len(rows))
            yield RowBlock(file.path, file.base_dir, rows, lines, len(rows))


def read_blocks(file: JsonlFile, log: IssueLog) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number of the first line, how many, whole lines as UTF-8 without byte order mark).

    A line longer than 64 MiB is reported and left out.
    """
    line = 1
    parts: list[bytes] = []
    num_bytes = 0
    for chunk in _read_chunks(file, log):
        end = chunk.rfind(b"\n") + 1
        if not end:
            num_bytes += len(chunk)
            # Of a line that is too long, only its length is kept.
            parts = [*parts, chunk] if num_bytes <= MAX_LINE_BYTES else []
            continue
        head = memoryview(chunk)[:end]
        if num_bytes > MAX_LINE_BYTES:
            log.add(_too_long_line(file.path, line, num_bytes, file.severity))
            line += 1
            head = head[chunk.index(b"\n") + 1 :]
        block = b"".join([*parts, head])
        parts, num_bytes = [chunk[end:]], len(chunk) - end
        if block:
            num_lines = _count_lines(block)
            yield line, num_lines, block
            line += num_lines
    if num_bytes > MAX_LINE_BYTES:
        log.add(_too_long_line(file.path, line, num_bytes, file.severity))
    elif block := b"".join(parts):
        yield line, 1, block


def _count_lines(block: bytes) -> int:
    # A quarter of the time of `count`, which looks at each byte, where lines are long.
    num_lines, at = 0, block.find(b"\n")
    while at >= 0:
        num_lines, at = num_lines + 1, block.find(b"\n", at + 1)
    return num_lines


def parse_line(line: bytes) -> Any:
    """Parse one line of JSON, NaN and Infinity included: they cost their object, not the line.

    Raises:
        ValueError: If it is no JSON; `JSONDecodeError` and `UnicodeDecodeError` say where.
    """
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as strict:
        text = line.decode()
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except ValueError:
            raise strict from None


def write_jsonl(path: Path, records: Iterable[ImageRecord]) -> int:
    """Write records as rows; `path` appears only when all are written. Returns their number."""
    encoder = msgspec.json.Encoder()
    num_rows = 0
    with whole_file(path) as file:
        for record in records:
            file.write(encoder.encode(record) + b"\n")
            num_rows += 1
    return num_rows


def _read_singly(
    file: JsonlFile, schema: Schema, first_line: int, block: bytes, log: IssueLog
) -> RowBlock:
    rows: list[Any] = []
    lines: list[int | None] = []
    num_rows = 0
    for number, line in enumerate(block.split(b"\n"), first_line):
        if not line.strip():
            continue
        num_rows += 1
        row = schema.decode_line(line)
        if row is None:
            row = _read_by_hand(file, schema, number, line, log)
        if row is not None:
            rows.append(row)
            lines.append(number)
    return RowBlock(file.path, file.base_dir, rows, lines, num_rows)


def _read_by_hand(
    file: JsonlFile, schema: Schema, number: int, line: bytes, log: IssueLog
) -> ImageRecord | None:
    try:
        row = parse_line(line)
    except ValueError as error:
        log.add(_invalid_line(file.path, number, line, error, file.severity))
        return None
    if isinstance(row, dict):
        row = named(row, schema.label_column)
    record, issues = schema.check(row, file.path, number)
    log.add_all(issues)
    return record


def _read_chunks(file: JsonlFile, log: IssueLog) -> Iterator[bytes]:
    """Yield the file's content as UTF-8 without a byte order mark, in chunks of about 64 KiB."""
    with _open(file.path) as stream:
        head = stream.read(BLOCK_BYTES)
        if what := name_binary(head):
            raise DataError(f"{file.path}: must be JSON Lines, but is {what}.")
        head = head.removeprefix(codecs.BOM_UTF8)
        encoding = sniff_encoding(head) or file.encoding
        if codecs.lookup(encoding).name == "utf-8":
            while head:
                yield head
                head = stream.read(BLOCK_BYTES)
            return
        if encoding != file.encoding:
            log.add(_unasked_encoding(file.path, encoding))
        yield from _transcode(stream, head, encoding)


def _open(path: str) -> BinaryIO:
    try:
        if "://" not in path:
            return open(path, "rb", buffering=0)
        # fsspec takes 50 ms to import; local data never needs it.
        import fsspec

        remote: BinaryIO = fsspec.open(path, "rb").open()
        return remote
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; name the JSONL file in it.") from error
    except (OSError, ImportError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}.") from error


def _transcode(stream: BinaryIO, head: bytes, encoding: str) -> Iterator[bytes]:
    # backslashreplace: a byte that is no character makes invalid JSON, so its line is reported.
    decoder = codecs.getincrementaldecoder(encoding)(errors="backslashreplace")
    while head:
        yield decoder.decode(head).encode("utf-8", "backslashreplace")
        head = stream.read(BLOCK_BYTES)
    yield decoder.decode(b"", final=True).encode("utf-8", "backslashreplace")


def _unasked_encoding(path: str, encoding: str) -> Issue:
    return Issue(
        file=path,
        code="file.encoding",
        severity="info",
        value=encoding,
        message="should be UTF-8",
        hint="It was read in its own encoding.",
    )


def _invalid_line(
    file: str, number: int, line: bytes, error: ValueError, severity: Severity
) -> Issue:
    """Return the issue of a line that `parse_line` refused with `error`."""
    code, message, value, hint = _explain(line, error)
    return Issue(
        file=file,
        line=number,
        code=code,
        severity=severity,
        value=value,
        message=message,
        hint=hint,
    )


def _too_long_line(file: str, number: int, num_bytes: int, severity: Severity) -> Issue:
    """Return the issue of a line that was not read because of its length."""
    return Issue(
        file=file,
        line=number,
        code="line.too_long",
        severity=severity,
        value=f"{num_bytes} bytes",
        message="a line must have at most 64 MiB",
        hint="Is this JSON Lines, one object a line?",
    )


def _explain(line: bytes, error: ValueError) -> tuple[str, str, str | None, str]:
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        hint = "Save the file as UTF-8, or name its encoding in an MLTable file."
        return "line.encoding", "must be UTF-8", found, hint
    if not isinstance(error, orjson.JSONDecodeError):
        return "json.invalid", f"must be JSON; {error}", None, ""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, line)), "")
    if not hint and not line.rstrip().endswith((b"}", b"]")):
        message = "must be JSON; the line ends in the middle of the row"
        tail = str(short_value(line.rstrip()[-30:].decode(errors="replace")))
        return "json.truncated", message, f"…{tail}", "Was the file cut off while it was copied?"
    message = f"must be JSON; column {error.pos + 1}: {error.msg}"
    near = line[max(0, error.pos - 20) : error.pos + 20].strip().decode(errors="replace")
    return "json.invalid", message, str(short_value(near)), hint
