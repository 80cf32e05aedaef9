"""Tools whose files are not read, told by words in a file's beginning.

So a message names the tool, and not only that nothing was found.
"""

from collections.abc import Iterator
from pathlib import Path

from autofocus.data.formats.layout import entries_of

_HEAD_BYTES = 1 << 16
# All of these stand in a file's beginning. The first that fits has its name.
_TOOLS = {
    "labelme": (b'"shapes"', b'"imagePath"'),
    "CreateML": (b'"annotation', b'"coordinates"', b'"label"'),
    "Label Studio": (b'"annotations"', b'"result"', b'"data"'),
    "Label Studio (JSON-MIN)": (b'"annotator"', b'"annotation_id"'),
    "Supervisely": (b'"objects"', b'"exterior"'),
    "Datumaro": (b'"categories"', b'"items"'),
    "CVAT for images": (b"<annotations", b"<image "),
}


def tool_of(file: Path) -> str | None:
    """Return the tool whose form a file has that is not read here, or None."""
    if file.suffix.lower() not in (".json", ".xml") or not file.is_file():
        return None
    with open(file, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return next((tool for tool, words in _TOOLS.items() if all(w in head for w in words)), None)


def tool_in(folder: Path) -> str | None:
    """Return which file in a folder, or a folder of it, is of a tool that is not read, or None."""
    for file in _files_nearby(folder):
        if tool := tool_of(file):
            return f"{file.relative_to(folder)} is a file of {tool}, which is not read"
    return None


def _files_nearby(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it."""
    for entry in entries_of(folder):
        yield from entries_of(entry) if entry.is_dir() else (entry,)
