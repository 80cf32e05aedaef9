"""What a place without data that is known holds, and the way on.

Other tools' files are told by words in their beginning, so that the message names the tool and not
only that nothing was found.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from autofocus.data.formats.layout import entries_of, is_image, is_unread_photo, walk_files

WHAT_IS_DATA = (
    "a JSONL file, a folder with an MLTable file, a CSV of filename,labels, a folder with a folder "
    "of images for each class, or what COCO, Pascal VOC, YOLO, VIA or masks look like"
)
_HOW_ELSE = "Export it as COCO or YOLO"
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
_LABEL_SUFFIXES = (".json", ".xml", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".npy", ".parquet")
_NUM_NAMED = 3


def tool_of(file: Path) -> str | None:
    """Return the tool whose form a file has that is not read here, or None."""
    if file.suffix.lower() not in (".json", ".xml") or not file.is_file():
        return None
    with open(file, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return next((tool for tool, words in _TOOLS.items() if all(w in head for w in words)), None)


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
    for file in _files_nearby(folder):
        if tool := tool_of(file):
            return f"{folder}: {file.name} is a file of {tool}, which is not read. {_HOW_ELSE}."
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


def _files_nearby(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it."""
    for entry in entries_of(folder):
        yield from entries_of(entry) if entry.is_dir() else (entry,)
