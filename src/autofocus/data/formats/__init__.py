"""Formats other than JSON Lines. A new one is a module and a line here.

The order matters: what says where objects are goes before a table, and a folder with a table in
it is a table, whatever folders lie beside it.
"""

from autofocus.data.formats import (
    coco,
    csv_table,
    folder,
    masks,
    object_masks,
    via,
    voc,
    yolo,
)
from autofocus.data.formats.base import Format, RawRow

__all__ = ["FORMATS", "Format", "RawRow"]

FORMATS: dict[str, Format] = {
    "coco": Format(coco.is_source, coco.guess, coco.read_rows, coco.splits),
    "via": Format(via.is_source, via.guess, via.read_rows),
    "voc": Format(voc.is_source, voc.guess, voc.read_rows, voc.splits),
    "yolo": Format(yolo.is_source, yolo.guess, yolo.read_rows, yolo.splits),
    "masks": Format(masks.is_source, masks.guess, masks.read_rows, masks.splits),
    "object_masks": Format(object_masks.is_source, object_masks.guess, object_masks.read_rows),
    "csv": Format(csv_table.is_source, csv_table.guess, csv_table.read_rows),
    "folder": Format(folder.is_source, folder.guess, folder.read_rows),
}
