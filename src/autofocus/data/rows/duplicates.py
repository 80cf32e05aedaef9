"""Rows that name the same image twice, found in little memory.

Of rows of whole images the last one counts; of rows with objects, all objects do
(`ImageRecord.after`).
"""

from array import array
from collections.abc import Callable, Iterable

from autofocus.data.rows.issues import KEPT_PER_CODE, Issue, IssueLog
from autofocus.data.rows.jsonl import RowBlock
from autofocus.data.rows.records import ImageRecord, ObjectsRecord

CODE = "image_url.repeated"

# Hashes that fit into a set for less than numpy costs.
_FEW = 100_000


def repeated_issue(
    record_type: type[ImageRecord],
    column: str,
    place: tuple[str, int | None],
    first: tuple[str, int | None],
    image_url: str,
) -> Issue:
    """Return the issue of a row whose image an earlier row has named.

    Args:
        record_type: Record type of the rows.
        column: Name of the image column.
        place: File and line of this row.
        first: File and line of the first row with this image.
        image_url: The image.
    """
    merges = issubclass(record_type, ObjectsRecord)
    where = f"line {first[1]}" if first[0] == place[0] else f"{first[0]}:{first[1]}"
    return Issue(
        file=place[0],
        line=place[1],
        path=column,
        code=CODE,
        severity="warning",
        value=image_url,
        message=f"must name an image once, and {where} has it too",
        hint="All their objects count." if merges else "The last row counts.",
    )


class RepeatedUrls:
    """Finds repeated image URLs with 8 bytes a row.

    64-bit hashes of all URLs are kept and sorted at the end; only when some are equal are the rows
    read once more to say where. At 10 million rows two URLs share a hash by chance once in 400,000
    runs.
    """

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, urls: Iterable[str]) -> None:
        """Add the URLs of some rows."""
        self._hashes.extend(map(hash, urls))

    def report(
        self,
        record_type: type[ImageRecord],
        column: str,
        read_again: Callable[[], Iterable[RowBlock]],
        log: IssueLog,
    ) -> None:
        """Count repeated URLs, and find as many examples as the log keeps or writes.

        Args:
            record_type: Record type of the rows.
            column: Name of the image column.
            read_again: Reads the same rows once more.
            log: Takes the issues.
        """
        if len(self._hashes) <= _FEW and len(set(self._hashes)) == len(self._hashes):
            return
        # numpy takes 15 MB and 0.1 s to import; nothing else needs it to check rows.
        import numpy as np

        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        hashes.sort()  # in place: no second 8 bytes a row
        is_repeat = hashes[1:] == hashes[:-1]
        num_repeats = int(np.count_nonzero(is_repeat))
        if not num_repeats:
            return
        log.add_count(CODE, "warning", num_repeats)
        num_left = num_repeats if log.has_sink else min(num_repeats, KEPT_PER_CODE)
        # Each repeated hash once: where a run of equal ones begins.
        is_repeat[1:] &= ~is_repeat[:-1]
        repeated = hashes[1:][is_repeat]
        firsts: dict[int, tuple[str, int | None]] = {}
        for block in read_again():
            urls = [row.image_url for row in block.rows]
            found = np.fromiter(map(hash, urls), np.int64, len(urls))
            at = np.minimum(np.searchsorted(repeated, found), len(repeated) - 1)
            for i in np.flatnonzero(repeated[at] == found).tolist():
                place = (block.file, block.lines[i])
                key = int(found[i])
                if key in firsts:
                    log.add_uncounted(
                        repeated_issue(record_type, column, place, firsts[key], urls[i])
                    )
                    num_left -= 1
                elif log.has_sink or len(firsts) < KEPT_PER_CODE:
                    firsts[key] = place
                if not num_left:
                    return
