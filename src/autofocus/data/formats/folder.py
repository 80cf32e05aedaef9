"""Image folders: one folder a class, its images anywhere below it.

Any tree of photos looks like that. Names of splits, and parts of layouts that are not read here,
are therefore refused by name, and what is likely no class is one only when the task is named.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import (
    SPLIT_OF,
    entries_of,
    is_image,
    is_unread_photo,
    relative_url,
    walk_files,
    walk_images,
)
from autofocus.data.formats.tools import tool_in
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, Severity, short_value
from autofocus.data.rows.records import ImageRecord, MulticlassRecord, ObjectsRecord
from autofocus.errors import DataError

# Folders that other formats put beside each other; none of them is a class.
_NOT_CLASSES = frozenset(
    {"images", "image", "imgs", "jpegimages", "annotations", "labels", "masks", "imagesets"}
)
# Folders by which layouts that are not read are known, there or in a folder of theirs.
_LAYOUTS = {
    "Pascal VOC's masks": {"segmentationclass", "segmentationobject", "segmentationclassaug"},
    "DOTA": {"labeltxt", "labeltxt-v1.0", "labeltxt-v1.5"},
    "Cityscapes": {"leftimg8bit", "gtfine", "gtcoarse"},
    "KITTI": {"image_2", "image_3", "label_2", "label_3", "velodyne"},
    "CamVid": {"trainannot", "valannot", "testannot"},
    "MVTec AD": {"ground_truth"},
    "Supervisely": {"ann"},
    "a YOLO set without obj.names": {"obj_train_data", "obj_valid_data", "obj_test_data"},
    "labels of images": {"annotations", "annots", "xmls", "labels", "masks"},
}
# Beside another tool's photos it holds no photos; a class of photos may have that name.
_ALSO_CLASSES = frozenset({"ann"})
_LABEL_SUFFIXES = (".txt", ".xml", ".json")
_HOW_ELSE = "Export it as COCO or YOLO, write JSON Lines, or name a folder with a folder a class."


class ClassFolders(Format):
    """A folder a class, with its images anywhere below it."""

    name = "folder"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a folder of class folders."""
        return path.is_dir() and any(True for _ in _class_folders(path))

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return multi-class classification.

        Raises:
            DataError: If the folders are no classes, or may well be something else.
        """
        folders = list(_class_folders(path))
        _refuse_other_layouts(path, folders)
        _refuse_doubtful(path, folders)
        return [MulticlassRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, classes and files in the order of their names.

        Raises:
            DataError: If the task wants more than a class an image, or the folders are no classes.
        """
        if issubclass(record_type, ObjectsRecord):
            raise DataError(
                f"{path}: a folder a class says which class an image has, not where its "
                "objects are. This task needs a JSONL file."
            )
        folders = list(_class_folders(path))
        _refuse_other_layouts(path, folders)
        for stray in walk_files(path, recursive=False):
            if is_image(stray.name):
                yield _issue(
                    path, stray, "image.no_class", "must be in a class's folder", "Ignored."
                )
        if len(folders) == 1 and record_type.min_classes > 1:
            inner, names = _folders_in(folders[0])
            if names:
                yield _one_class(path, folders[0], inner, names)
        for folder in folders:
            stems: set[Path] | None = None
            for file in walk_files(folder):
                if not is_image(file.name):
                    is_unread = is_unread_photo(file.name)
                    if is_unread and stems is None:
                        stems = {image.with_suffix("") for image in walk_images(folder)}
                    # Beside its own copy as JPEG nothing is lost with it.
                    is_lost = is_unread and file.with_suffix("") not in (stems or ())
                    yield (_unread_photo if is_lost else _no_image)(path, file)
                    continue
                # macOS takes names apart that other systems write whole.
                name = unicodedata.normalize("NFC", folder.name)
                label = record_type.label_of_text(name, None)
                values = {"image_url": relative_url(file, path), "label": label}
                yield RawRow(str(path), str(path), None, values)


def _class_folders(path: Path) -> Iterator[Path]:
    """Yield the subfolders that have a photo somewhere below them, be it one that is not read."""
    for folder in entries_of(path):
        is_class = folder.name.lower() not in _NOT_CLASSES and folder.is_dir()
        if is_class and any(
            is_image(file.name) or is_unread_photo(file.name) for file in walk_files(folder)
        ):
            yield folder


def _folders_in(folder: Path) -> tuple[Path, list[str]]:
    """Return where photos part into folders, in `folder` or in the only ones below, and those."""
    while len(deeper := list(_class_folders(folder))) == 1:
        folder = deeper[0]
    return folder, [inner.name for inner in deeper]


def _refuse_other_layouts(path: Path, folders: Sequence[Path]) -> None:
    """Raise DataError where folders of images are known to be something else than classes."""
    for folder in folders:
        inner = [entry.name for entry in entries_of(folder) if entry.is_dir()]
        own = [] if folder.name.lower() in _NOT_CLASSES | _ALSO_CLASSES else [folder.name]
        for name in (*own, *inner):
            layout = next((key for key, parts in _LAYOUTS.items() if name.lower() in parts), None)
            if layout is not None:
                place = name if name in own else f"{folder.name}/{name}"
                raise DataError(
                    f"{path}: its folder {place} is part of {layout}, no class. {_HOW_ELSE}"
                )
    names = [folder.name for folder in folders]
    splits = {SPLIT_OF[stem] for name in names if (stem := _stem(name)) in SPLIT_OF}
    if len(splits) > 1 or (splits and all(_stem(name) in SPLIT_OF for name in names)):
        if found := tool_in(path):
            raise DataError(f"{path}: {found}. Export it as COCO or YOLO.")
        raise DataError(
            f"{path}: its folders {', '.join(names)} are splits, no classes, and what lies in them "
            f"has no labels that are known, or there is none to train on. {_HOW_ELSE}"
        )


def _refuse_doubtful(path: Path, folders: Sequence[Path]) -> None:
    """Raise DataError where folders are classes only if the user says so by naming the task."""
    if found := tool_in(path):
        raise DataError(
            f"{path}: {found}. Export it as COCO or YOLO. If names of folders are the classes, say "
            "so with --task."
        )
    if len(folders) == 1:
        inner, names = _folders_in(folders[0])
        way_on = (
            f"Where the classes are folders in it, name {inner}"
            if names
            else "Photos without labels are no data: put each class's in a folder of its name"
        )
        raise DataError(
            f"{path}: has one folder of images only, {folders[0].name!r}. {way_on}; if it is a "
            "class, say so with --task."
        )
    for folder in folders:
        files = list(walk_files(folder))
        stems = {file.with_suffix("") for file in files if is_image(file.name)}
        for file in files:
            if file.suffix.lower() in _LABEL_SUFFIXES and file.with_suffix("") in stems:
                raise DataError(
                    f"{path}: {file.relative_to(path)} lies beside an image of its name and looks "
                    f"like its label. {_HOW_ELSE} If names of folders are the classes, say so "
                    "with --task."
                )


def _stem(name: str) -> str:
    return name.lower().rstrip("0123456789_-")


def _no_image(root: Path, file: Path) -> Issue:
    hint = "Its name has no image's end."
    return _issue(root, file, "file.no_image", "should be an image", hint)


def _unread_photo(root: Path, file: Path) -> Issue:
    rule = "must be a photo in a form that is read"
    return _issue(root, file, "image.unknown_format", rule, "Save it as JPEG.", "error")


def _one_class(root: Path, folder: Path, inner: Path, names: Sequence[str]) -> Issue:
    return Issue(
        file=str(root),
        code="class.only_one",
        severity="warning",
        value=short_value(", ".join(names)),
        message=f"has only one class, {folder.name!r}, and folders of photos in it",
        hint=f"Where those are the classes, name {inner}.",
    )


def _issue(
    root: Path, file: Path, code: str, message: str, hint: str, severity: Severity = "warning"
) -> Issue:
    return Issue(
        file=str(root),
        code=code,
        severity=severity,
        value=short_value(file.relative_to(root).as_posix()),
        message=message,
        hint=hint,
    )
