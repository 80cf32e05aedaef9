"""Images to score, from whatever names them: files, folders, patterns, lists, MLTables, stores.

What a source may be:

* an image file or URL, there or not; a missing one keeps its place as an error
* a folder: the images in it and below;  a pattern: the images it matches
* `.jsonl`, `.ndjson`, `.manifest`: a row an image;  an MLTable file or folder
* `.txt`, `.lst`: a path or URL a line
* a folder or pattern of an object store: `s3://photos/may/`, `abfs://photos/**/*.jpg`

Everything is yielded as it is found and nothing is kept, so that a list may be of any length.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from autofocus.data.formats.layout import is_image, walk_images
from autofocus.data.images.fetch import (
    REMOTE_SCHEMES,
    LocateError,
    without_query,
)
from autofocus.data.images.header import IMAGE_SUFFIXES
from autofocus.data.images.locate import Locator
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import IssueLog
from autofocus.data.rows.jsonl import JsonlFile, parse_line, read_blocks
from autofocus.data.sources.mltable import FILE_NAME, read_mltable
from autofocus.errors import DataError, ImageError, InputError
from autofocus.scoring.image_paths import expand_images

_ROWS = (".jsonl", ".ndjson", ".manifest")
_LISTS = (".txt", ".lst")


class Entry(NamedTuple):
    """One image of a batch.

    Attributes:
        name: Its `filename` in the output, as the user or the row spelled it; of a URL without
            the query, which often holds a signature that opens the store.
        place: Absolute or relative path or URL to read, or the reason why there is none.
    """

    name: str
    place: str | ImageError


def read_entries(sources: Sequence[str], options: ReadOptions) -> Iterator[Entry]:
    """Yield the images of all sources in their order, a folder's in the order of their names.

    Args:
        sources: As in the module's docstring.
        options: Column of the image, where relative ones start, and maps.

    Raises:
        InputError: If a source has no image, cannot be listed, or needs a package that is not
            installed.
    """
    for source in sources:
        is_empty = True
        for entry in _entries_of(source, options):
            is_empty = False
            yield entry
        if is_empty:
            raise InputError(
                f"{source}: names no image. Image files end in {', '.join(sorted(IMAGE_SUFFIXES))};"
                f" lists in {', '.join(_ROWS + _LISTS)}."
            )


def _entries_of(source: str, options: ReadOptions) -> Iterable[Entry]:
    place = os.path.expanduser(source)
    if "://" in source:
        place = Locator(os.getcwd(), None, options.maps).locate(source)
    if "://" in place:
        return _remote(place, options)
    path = Path(place)
    table = path.parent if path.name == FILE_NAME else path
    if place and (table / FILE_NAME).is_file():
        files = read_mltable(table, options.maps)
        return (entry for file in files for entry in _rows(file, options))
    if path.suffix.lower() in _ROWS and path.is_file():
        return _rows(JsonlFile(place), options)
    if path.suffix.lower() in _LISTS and path.is_file():
        return _lines(JsonlFile(place), options)
    # Of a folder nothing is kept: it may hold millions.
    files_found = walk_images(path) if place and path.is_dir() else expand_images([place])
    return (Entry(_printable(str(file)), str(file)) for file in files_found)


def _remote(url: str, options: ReadOptions) -> Iterable[Entry]:
    path = urlsplit(url, allow_fragments=False).path
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _ROWS:
        return _rows(JsonlFile(url), options)
    if suffix in _LISTS:
        return _lines(JsonlFile(url), options)
    is_http = url.lower().startswith(("http://", "https://"))
    if is_http or (is_image(path) and not glob.has_magic(path)):
        return [Entry(without_query(url), url)]
    return (Entry(found, found) for found in _listed(url) if is_image(found))


def _listed(url: str) -> list[str]:
    """Return the URLs of a store's folder or pattern, sorted.

    Raises:
        InputError: If the store cannot be listed.
    """
    # fsspec takes 50 ms to import; local images never need it.
    import fsspec

    # The user's own spelling is kept: it may name an account that the listing leaves out.
    start, name = url, without_query(url)
    while glob.has_magic(start):
        start = start.rpartition("/")[0]
    try:
        store, path = fsspec.core.url_to_fs(url)
        names = store.glob(path) if start != url else store.find(path)
        stripped = store._strip_protocol(start).rstrip("/")
    except ImportError as error:
        extra = REMOTE_SCHEMES.get(url.partition("://")[0].lower())
        raise InputError(f"{name}: needs one more package: pip install '.[{extra}]'") from error
    except Exception as error:  # every cloud backend raises types of its own
        raise InputError(f"{name}: cannot be listed: {type(error).__name__}: {error}") from error
    return [f"{start.rstrip('/')}/{name[len(stripped) :].lstrip('/')}" for name in sorted(names)]


def _rows(file: JsonlFile, options: ReadOptions) -> Iterator[Entry]:
    """Yield the image of each line of JSON; a line that names none keeps its place."""
    row_type = msgspec.defstruct(
        "ImageRow", [("image", str)], rename=lambda _: options.image_column
    )
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row_type)
    locator = Locator(file.base_dir, options.image_root, options.maps)
    for number, line in _numbered(file):
        try:
            image_url = decoder.decode(line).image
        except (msgspec.DecodeError, RecursionError):
            image_url = _by_hand(line, options.image_column)
        if isinstance(image_url, str):
            yield _located(image_url, locator)
        else:
            why = f"must be a JSON object whose {options.image_column!r} names an image."
            place = f"{without_query(file.path)}:{number}"
            yield Entry(place, ImageError("row.no_image", f"The row {why}"))


def _by_hand(line: bytes, column: str) -> Any:
    """Return the image of a row with something odd in it, such as a NaN; None where there is none.

    What else such a row holds matters to training only.
    """
    try:
        row = parse_line(line)
    except ValueError:
        return None
    return row.get(column) if isinstance(row, dict) else None


def _lines(file: JsonlFile, options: ReadOptions) -> Iterator[Entry]:
    locator = Locator(file.base_dir, options.image_root, options.maps)
    # A path may be any bytes.
    return (_located(os.fsdecode(line.strip()), locator) for _, line in _numbered(file))


def _numbered(file: JsonlFile) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of each line that is not blank.

    Raises:
        DataError: If a line is longer than 64 MiB, or the file cannot be read.
    """
    log = IssueLog()
    for first, _, block in read_blocks(file, log):
        lines = enumerate(block.split(b"\n"), first)
        yield from ((number, line) for number, line in lines if line.strip())
    if log.num_errors:
        raise DataError([issue.text() for issue in log.examples()])


def _located(image_url: str, locator: Locator) -> Entry:
    name = _printable(without_query(image_url))
    try:
        return Entry(name, locator.locate(image_url))
    except LocateError as error:
        return Entry(name, ImageError(error.code, error.message))


def _printable(name: str) -> str:
    """Return a name with undecodable bytes escaped, which JSON cannot hold."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()
