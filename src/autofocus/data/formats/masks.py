"""Masks of objects in image files, as two formats: numbered in one file, or a file an object.

0 is no object. All objects are of one class, `ReadOptions.class_name`, unless the numbers are those
of classes and `ReadOptions.masks` says so.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.class_masks import (
    BINARY,
    ClassSigns,
    class_names,
    class_table,
    classes_seen,
)
from autofocus.data.formats.layout import (
    entries_of,
    is_image,
    mirrored,
    relative_url,
    split_folders,
    walk_images,
)
from autofocus.data.formats.object_row import ObjectRow, refuse_classes_of_images
from autofocus.data.formats.pixels import ImageSizes, image_details
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues
from autofocus.data.rows.records import ImageRecord, InstanceSegmentationRecord
from autofocus.errors import DataError, ImageError


class MaskImages(Format):
    """`images/x.jpg` with `masks/x.png`, whose pixels are numbers of objects."""

    name = "masks"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` has `images` and `masks`, or is such an `images` folder."""
        images = _image_folder(path)
        return images is not None and next(walk_images(images), None) is not None

    def splits(self, path: Path) -> dict[str, Path]:
        """Return the folders that `images` is divided into."""
        images = _image_folder(path)
        return split_folders(images) if images is not None else {}

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return instance segmentation."""
        return [InstanceSegmentationRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, in the order of their names.

        Raises:
            DataError: If no image has a mask.
        """
        refuse_classes_of_images(record_type, path)
        images = _image_folder(path)
        assert images is not None, "only what is_source accepts is read"
        folders: dict[Path, dict[str, Path]] = {}
        files = list(walk_images(images))
        masks = [_mask_of(file, folders) for file in files]
        if not any(masks):
            raise DataError(f"{path}: no image has a mask of its name in 'masks'.")
        sizes, signs, names = ImageSizes(options), ClassSigns(), class_names(path)
        for file, mask in zip(files, masks, strict=True):
            yield _read_numbered(file, mask, path, record_type, options, sizes, signs, names)
        if options.masks is None and (class_table(path) is not None or signs.are_classes()):
            yield classes_seen(class_table(path) or path)


def _read_numbered(
    file: Path,
    mask: Path | None,
    root: Path,
    record_type: type[ImageRecord],
    options: ReadOptions,
    sizes: ImageSizes,
    signs: ClassSigns,
    names: Mapping[int, str],
) -> RawRow:
    # numpy comes with it: plain rows are checked without.
    from autofocus.data.formats.mask_outlines import outlines_of_ids, outlines_of_parts, read_mask

    image_url = relative_url(file, root)
    issues = RowIssues(str(mask or file), None)
    ids = pixels = None
    if mask is None:
        hint = "An image without objects needs a mask of zeros."
        issues.error("mask.missing", "", "must have a mask of its name in 'masks'", hint=hint)
    elif pixels := sizes.find(root, image_url, None, "", issues):
        try:
            ids = read_mask(mask, pixels.size)
        except ImageError as error:
            issues.error(error.code, "", error.message)
    if ids is None or pixels is None:
        return RawRow(issues.file, str(root), None, None, tuple(issues.issues))
    row = ObjectRow(record_type, issues.file, pixels)
    if options.masks == "classes":
        for number, rings in outlines_of_parts(ids):
            row.add_outline(f"class {number}", names.get(number, str(number)), rings)
        return row.finish(root, image_url, image_details(image_url, pixels.upright_size))
    outlines = outlines_of_ids(ids)
    signs.add(outlines)
    is_binary = len(outlines) == 1 and {*outlines} <= BINARY
    if options.masks is None and is_binary and len(*outlines.values()) > 1:
        hint = "All its parts are one object; '--masks classes' makes each an object."
        row.issues.warning("mask.binary", "", "should number its objects", hint=hint)
    for number, rings in outlines.items():
        row.add_outline(f"object {number}", options.class_name, rings)
    return row.finish(root, image_url, image_details(image_url, pixels.upright_size))


def _image_folder(path: Path) -> Path | None:
    """Return the folder of images that is mirrored by one of masks, or None."""
    return next((p for p in (path / "images", path) if p.is_dir() and mirrored(p, "masks")), None)


def _mask_of(image: Path, folders: dict[Path, dict[str, Path]]) -> Path | None:
    """Return an image's mask; `folders` keeps what was listed."""
    if image.parent not in folders:
        folder = mirrored(image.parent, "masks")
        files = entries_of(folder) if folder is not None else []
        folders[image.parent] = {_plain_stem(file): file for file in files if is_image(file.name)}
    return folders[image.parent].get(_plain_stem(image))


def _plain_stem(file: Path) -> str:
    return unicodedata.normalize("NFC", file.stem)


class ObjectMasks(Format):
    """A folder an image: `x/images/x.png` with `x/masks/*.png`, each an object."""

    name = "object_masks"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a folder of folders with `images` and `masks`."""
        return path.is_dir() and any((folder / "masks").is_dir() for folder in _image_folders(path))

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return instance segmentation."""
        return [InstanceSegmentationRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, in the order of their folders' names.

        Raises:
            DataError: If the task wants one class an image.
        """
        refuse_classes_of_images(record_type, path)
        sizes = ImageSizes(options)
        for folder in _image_folders(path):
            for image in walk_images(folder / "images"):
                yield _read_separate(image, folder / "masks", path, record_type, options, sizes)


def _read_separate(
    image: Path,
    masks: Path,
    root: Path,
    record_type: type[ImageRecord],
    options: ReadOptions,
    sizes: ImageSizes,
) -> RawRow:
    from autofocus.data.formats.mask_outlines import outline_of_mask, read_mask

    image_url = relative_url(image, root)
    issues = RowIssues(str(masks), None)
    pixels = sizes.find(root, image_url, None, "", issues)
    if not masks.is_dir():
        hint = "An image without objects needs an empty folder."
        issues.error("mask.missing", "", "must be a folder of masks", hint=hint)
    if pixels is None or not masks.is_dir():
        return RawRow(issues.file, str(root), None, None, tuple(issues.issues))
    row = ObjectRow(record_type, str(masks), pixels)
    for file in walk_images(masks):
        try:
            rings = outline_of_mask(read_mask(file, pixels.size) > 0)
        except ImageError as error:
            row.lose(error.code, file.name, error.message)
            continue
        if rings:
            row.add_outline(file.name, options.class_name, rings)
        else:
            row.lose("mask.empty", file.name, "must have a pixel that is not 0")
    return row.finish(root, image_url, image_details(image_url, pixels.upright_size))


def _image_folders(path: Path) -> Iterator[Path]:
    return (folder for folder in entries_of(path) if (folder / "images").is_dir())
