"""A column of groups that no row has: what the rows have instead."""

from collections.abc import Iterator
from itertools import islice

from autofocus.data.rows.issues import IssueLog
from autofocus.data.rows.jsonl import parse_line, read_blocks
from autofocus.data.sources.find import Source
from autofocus.errors import DataError
from autofocus.settings.spelling import did_you_mean

_NUM_ROWS = 1000
_NUM_SHOWN = 12


def unknown_group_column(source: Source, column: str) -> DataError:
    """Return the error of a group column that names no group in any row of a source."""
    names = dict.fromkeys(islice(_names(source), _NUM_ROWS))
    rule = f"{source.place}: the group column must name what images belong to, but no row has a"
    if not names:
        return DataError(
            f"{rule} {column!r}: rows of the kind {source.kind} have no columns. Leave it out, or "
            "write rows as JSON Lines with such a key."
        )
    shown = ", ".join(islice(names, _NUM_SHOWN)) + (", …" if len(names) > _NUM_SHOWN else "")
    hint = did_you_mean(column, names)
    return DataError(f"{rule} value of {column!r}{hint} Rows have: {shown}.")


def _names(source: Source) -> Iterator[str]:
    """Yield the names of columns, those of `image_details` too, again for each row."""
    if source.format is not None:
        yield from source.format.columns(source.path)
    silent = IssueLog()
    for file in source.files:
        for _, _, block in read_blocks(file, silent):
            for line in block.split(b"\n"):
                try:
                    row = parse_line(line)
                except ValueError:
                    continue  # the check itself reports it
                if isinstance(row, dict):
                    details = row.get("image_details")
                    yield from row
                    yield from details if isinstance(details, dict) else ()
