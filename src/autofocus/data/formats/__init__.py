"""Formats other than JSON Lines. A new one is a module and a line here, or docs/extending.md."""

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.coco import Coco
from autofocus.data.formats.csv_table import CsvTable
from autofocus.data.formats.folder import ClassFolders
from autofocus.data.formats.image_folder import ImageFolder
from autofocus.data.formats.masks import MaskImages, ObjectMasks
from autofocus.data.formats.via import Via
from autofocus.data.formats.voc import Voc
from autofocus.data.formats.yolo import Yolo
from autofocus.plugins import with_plugins

__all__ = ["FORMATS", "Format", "RawRow", "known_formats"]

# The last format that knows a source reads it, so the order matters: a folder with a table in it is
# a table, whatever folders lie beside it, and a file that says where objects are goes before a
# table. What is added from outside knows its data better still.
FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        ClassFolders(),
        CsvTable(),
        ImageFolder(),
        ObjectMasks(),
        MaskImages(),
        Yolo(),
        Voc(),
        Via(),
        Coco(),
    )
}


def known_formats() -> list[Format]:
    """Return all formats in the order in which they are asked whether they know a source."""
    return list(reversed(with_plugins(FORMATS, "autofocus.formats", _problem).values()))


def _problem(entry: object) -> str | None:
    return None if isinstance(entry, Format) else f"{entry!r} is no Format object"
