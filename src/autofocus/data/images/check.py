"""The image half of `data check`: each row's file, its header and, when asked for, its pixels."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import msgspec

from autofocus.data.images.fetch import LocateError, content_hash, open_bytes
from autofocus.data.images.files import ImageFiles
from autofocus.data.images.header import IMAGE_SUFFIXES, SUFFIXES, ImageHeader, read_header
from autofocus.data.images.limits import check_limits
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, IssueLog, RowIssues
from autofocus.data.rows.jsonl import RowBlock, Schema
from autofocus.data.rows.records import ImageRecord
from autofocus.errors import ImageError
from autofocus.runtime import num_cores

# Of 255: no more than can be told apart on a screen.
_DARK = 16
# Rows whose images are looked at before they are asked for: most formats have blocks of one row.
_NUM_AHEAD = 64


@dataclass(frozen=True)
class _Facts:
    header: ImageHeader
    content: str
    range_of_pixels: tuple[int, int] | None = None  # darkest and brightest; None if not decoded
    used_bits: int | None = None  # of 16-bit samples


# A row's place in its block, and what is seen in its image.
_Looked = tuple[int, Future[_Facts | LocateError | ImageError]]


@dataclass(frozen=True, slots=True)
class _FirstRow:
    file: str
    line: int | None
    image_url: str
    label: bytes


class ImageCheck:
    """Looks at the images of blocks of rows and reports what is wrong with them.

    Args:
        schema: Record type and columns of the rows.
        options: Image root and maps.
        decode: Whether whole images are decoded or only their headers read.
        log: Takes the issues.
    """

    def __init__(self, schema: Schema, options: ReadOptions, decode: bool, log: IssueLog) -> None:
        self._schema = schema
        self._files = ImageFiles(options, log)
        self._column = options.image_column
        self._decode = decode
        self._log = log
        self._pool = ThreadPoolExecutor(max(2, num_cores()))
        self._first_rows: dict[str, _FirstRow] = {}
        self._has_copies = False
        self._used_bits = 0
        self._place = ""

    def usable(self, blocks: Iterable[RowBlock]) -> Iterator[tuple[RowBlock, list[Any]]]:
        """Yield each block and its rows whose images can be used; report the others."""
        ahead: deque[tuple[RowBlock, list[_Looked]]] = deque()
        num_ahead = 0
        for block in blocks:
            ahead.append((block, [*self._begin(block)]))
            num_ahead += len(block.rows)
            while num_ahead >= _NUM_AHEAD:
                first, looked = ahead.popleft()
                num_ahead -= len(first.rows)
                yield first, self._keep(first, looked)
        for block, looked in ahead:
            yield block, self._keep(block, looked)

    def _begin(self, block: RowBlock) -> Iterator[_Looked]:
        for i, (row, line) in enumerate(zip(block.rows, block.lines, strict=True)):
            place = self._files.find(block.base_dir, row.image_url, block.file, line)
            if place is not None:
                yield i, self._pool.submit(self._look, place)

    def _keep(self, block: RowBlock, looked: Iterable[_Looked]) -> list[Any]:
        kept = []
        for i, future in looked:
            row, line, result = block.rows[i], block.lines[i], future.result()
            if isinstance(result, LocateError):
                self._files.refuse(block.base_dir, row.image_url, block.file, line, result)
                continue
            issues = RowIssues(block.file, line)
            if isinstance(result, ImageError):
                message = f"must be an image: {result.message.rstrip('.')}"
                issues.error(result.code, self._column, message, row.image_url)
            else:
                self._compare(row, result, issues)
                _check_pixels(row.image_url, result.range_of_pixels, self._column, issues)
                self._used_bits = max(self._used_bits, result.used_bits or 0)
                self._place = block.file
                kept.append(row)
            self._log.add_all(issues.issues)
        return kept

    def finish(self) -> None:
        """Report what was held back; call it after the last block."""
        self._pool.shutdown()
        self._files.flush()
        if 0 < self._used_bits < 16:
            self._log.add(few_bits(self._place, self._used_bits))
        if self._has_copies and len(self._first_rows) == 1:
            (only,) = self._first_rows.values()
            issues = RowIssues(only.file, None)
            rule = "is the photo of all rows, under several names"
            issues.warning("image.only_one", "", rule, only.image_url, "Nothing is learnt from it.")
            self._log.add_all(issues.issues)

    def _look(self, place: str) -> _Facts | LocateError | ImageError:
        try:
            data = open_bytes(place)
            header = read_header(data)
            check_limits(data, header)
            content = content_hash(data)
            return _decoded(data, header, content) if self._decode else _Facts(header, content)
        except (LocateError, ImageError) as error:
            # It waits for its turn, and the frames of its traceback would keep the file.
            return error.with_traceback(None)

    def _compare(self, row: Any, facts: _Facts, issues: RowIssues) -> None:
        """Compare an image with what its row, its name and the rows before say of it."""
        record = self._schema.record(row)
        _check_suffix(record.image_url, facts.header, self._column, issues)
        _check_orientation(record, facts.header, self._column, issues)
        self._check_content(record, facts.content, issues)

    def _check_content(self, record: Any, content: str, issues: RowIssues) -> None:
        label = msgspec.json.encode(record.label)
        now = _FirstRow(issues.file, issues.line, record.image_url, label)
        first = self._first_rows.setdefault(content, now)
        if first.image_url == now.image_url:
            return  # the same image twice is an issue of its rows
        self._has_copies = True
        if first.label == label:
            message = f"is a copy of {first.image_url!r}"
            issues.info("image.copy", self._column, message, record.image_url)
        else:
            message = f"is a copy of {first.image_url!r}, which has another label"
            hint = (
                "One of the two labels is wrong."
                if first.line is None
                else (f"See line {first.line}; one of the two labels is wrong.")
            )
            issues.warning("image.copy_differs", self._column, message, record.image_url, hint)


def _decoded(data: bytes, header: ImageHeader, content: str) -> _Facts:
    # OpenCV takes 0.1 s to import; headers are read without it.
    from autofocus.data.images.decode import decode, used_bits

    bits = used_bits(data)
    pixels = decode(data) if bits is None else decode(data, sample_bits=bits)
    return _Facts(header, content, (int(pixels.min()), int(pixels.max())), bits)


def few_bits(place: str, bits: int) -> Issue:
    """Return the issue of images whose 16-bit samples use only so many bits."""
    return Issue(
        file=place,
        code="image.few_bits",
        severity="warning",
        value=bits,
        message="should use all 16 bits of its images' samples",
        hint=f"Else all is dark: so {2**bits - 1:,} is white, in training, scoring and serving.",
    )


def _check_pixels(
    image_url: str, seen: tuple[int, int] | None, column: str, issues: RowIssues
) -> None:
    """Warn of an image in which there is nothing to see."""
    if seen is None:
        return
    darkest, brightest = seen
    if darkest == brightest:
        rule = f"shows nothing, all its values are {darkest}"
        issues.warning("image.uniform", column, rule, image_url)
    elif brightest < _DARK:
        rule = f"is nearly black, its brightest value is {brightest} of 255"
        issues.warning("image.dark", column, rule, image_url)


def _check_suffix(image_url: str, header: ImageHeader, column: str, issues: RowIssues) -> None:
    path = urlsplit(image_url).path if "://" in image_url else image_url
    suffix = PurePath(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES and suffix not in SUFFIXES[header.format]:
        message = f"is a {header.format.upper()} image by its content"
        issues.info("image.extension", column, message, image_url, "It is read as what it is.")


def _check_orientation(
    record: ImageRecord, header: ImageHeader, column: str, issues: RowIssues
) -> None:
    details = record.image_details
    if header.orientation != 1:
        issues.info(
            "image.rotated",
            column,
            f"is turned upright by its EXIF orientation {header.orientation}",
            record.image_url,
            "Boxes and polygons count on the upright image.",
        )
    if details is None:
        return
    for side, said, true in (
        ("width", details.width, header.width),
        ("height", details.height, header.height),
    ):
        if said is not None and said != true:
            issues.warning(
                "image.size",
                f"image_details.{side}",
                f"must be the image's {true}",
                said,
                "The image itself counts; is it the one that was labelled?",
            )
