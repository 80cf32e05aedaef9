"""Encodings of text files, as far as the first bytes give them away."""

import codecs

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3", "a database"),
)


def sniff_encoding(head: bytes) -> str | None:
    """Return the encoding other than UTF-8 that a file's first bytes show, or None."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # Rows and tables begin with an ASCII character: a zero byte beside it says how wide it is.
    if len(head) >= 2 and head[0] and not head[1]:
        return "utf-16-le"
    if len(head) >= 2 and head[1] and not head[0]:
        return "utf-16-be"
    return None


def name_binary(head: bytes) -> str | None:
    """Return the name of a binary format that the bytes begin like, or None."""
    return next((what for magic, what in _NOT_TEXT if head.startswith(magic)), None)
