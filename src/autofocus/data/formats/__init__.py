"""Formats other than JSON Lines. A new one is a module and a line here."""

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.coco import Coco
from autofocus.data.formats.csv_table import CsvTable
from autofocus.data.formats.folder import ClassFolders
from autofocus.data.formats.masks import MaskImages, ObjectMasks
from autofocus.data.formats.via import Via
from autofocus.data.formats.voc import Voc
from autofocus.data.formats.yolo import Yolo

__all__ = ["FORMATS", "Format", "RawRow"]

# The first format that knows a source reads it, so the order matters: a file that says where
# objects are goes before a table, and a folder with a table in it is a table, whatever folders lie
# beside it.
FORMATS: tuple[Format, ...] = (
    Coco(),
    Via(),
    Voc(),
    Yolo(),
    MaskImages(),
    ObjectMasks(),
    CsvTable(),
    ClassFolders(),
)
