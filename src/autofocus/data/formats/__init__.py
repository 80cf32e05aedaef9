"""Formats other than JSON Lines. A new one is a module and a line here.

The order matters: a folder with a table in it is a table, whatever folders lie beside it.
"""

from autofocus.data.formats import csv_table, folder
from autofocus.data.formats.base import Format, RawRow

__all__ = ["FORMATS", "Format", "RawRow"]

FORMATS: dict[str, Format] = {
    "csv": Format(csv_table.is_source, csv_table.guess, csv_table.read_rows),
    "folder": Format(folder.is_source, folder.guess, folder.read_rows),
}
