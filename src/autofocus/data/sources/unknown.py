"""What a place without data that is known holds, and the way on.

A file of its own: finding data is one thing, words about what is none another.
"""

from collections.abc import Sequence
from pathlib import Path

from autofocus.data.formats.layout import is_image, is_unread_photo, walk_files
from autofocus.data.formats.tools import tool_in, tool_of

WHAT_IS_DATA = (
    "a JSONL file, a folder with an MLTable file, a CSV of filename,labels, a folder with a folder "
    "of images for each class, or what COCO, Pascal VOC, YOLO, VIA or masks look like"
)
_HOW_ELSE = "Export it as COCO or YOLO"
_LABEL_SUFFIXES = (".json", ".xml", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".npy", ".parquet")
_NUM_NAMED = 3


def refusal_of_file(file: Path) -> str | None:
    """Return why a file is not read, or None where it may be JSON Lines."""
    if is_image(file.name):
        return f"{file}: is an image. Predict with 'autofocus score MODEL {file}'."
    tool = tool_of(file)
    return None if tool is None else f"{file}: is a file of {tool}, which is not read. {_HOW_ELSE}."


def refusal_of_folder(folder: Path) -> str:
    """Return what a folder is that holds no data that is known, and the way on."""
    names = [file.relative_to(folder).as_posix() for file in walk_files(folder)]
    num_images = sum(map(is_image, names))
    if found := tool_in(folder):
        return f"{folder}: {found}. {_HOW_ELSE}."
    unknown = [name for name in names if name.lower().endswith(_LABEL_SUFFIXES)]
    unread = [name for name in names if is_unread_photo(name)]
    if unread and not num_images:
        return (
            f"{folder}: {len(unread)} photos in a form that is not read: {_first(unread)}. Save "
            "them as JPEG."
        )
    if unknown and not num_images:
        return (
            f"{folder}: no photos, and labels are no data without them: {_first(unknown)}. Export "
            f"them with their images ('Save images' in CVAT), or give {WHAT_IS_DATA}."
        )
    if not num_images:
        return f"{folder}: holds no data that is known. Give {WHAT_IS_DATA}."
    if unknown:
        return (
            f"{folder}: {num_images} photos, no labels that are known; no data by itself: "
            f"{_first(unknown)}. Give {WHAT_IS_DATA}."
        )
    return (
        f"{folder}: {num_images} photos, no labels. Predict with 'autofocus score MODEL {folder} "
        "--draw DIR'; to train, put each class's photos in a folder of its name, or write their "
        "labels as JSON Lines."
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_NAMED]) + (", …" if len(names) > _NUM_NAMED else "")
