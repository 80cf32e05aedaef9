"""One mask a file: `x/images/x.png` with `x/masks/*.png`, each an object, a folder an image.

All objects are of one class, `ReadOptions.class_name`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import place, walk_images
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues
from autofocus.data.rows.records import ImageRecord, InstanceSegmentationRecord
from autofocus.errors import ImageError

if TYPE_CHECKING:
    from autofocus.data.formats.image_sizes import ImageSizes


class ObjectMasks(Format):
    """A folder an image: `x/images/x.png` with `x/masks/*.png`, each an object."""

    name = "object_masks"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a folder of folders with `images` and `masks`."""
        return path.is_dir() and any((folder / "masks").is_dir() for folder in _image_folders(path))

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return what masks are drawn for."""
        return [InstanceSegmentationRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, in the order of their folders' names.

        Raises:
            DataError: If the task wants one class an image.
        """
        from autofocus.data.formats.image_sizes import ImageSizes
        from autofocus.data.formats.object_row import refuse_classes_of_images

        refuse_classes_of_images(record_type, path)
        sizes = ImageSizes(options)
        for folder in _image_folders(path):
            for image in walk_images(folder / "images"):
                yield _read_image(image, folder / "masks", path, record_type, options, sizes)


def _read_image(
    image: Path,
    masks: Path,
    root: Path,
    record_type: type[ImageRecord],
    options: ReadOptions,
    sizes: "ImageSizes",
) -> RawRow:
    from autofocus.data.formats.image_sizes import image_details
    from autofocus.data.formats.mask_files import read_mask
    from autofocus.data.formats.mask_outlines import outline_of_mask
    from autofocus.data.formats.object_row import ObjectRow

    image_url = place(image, root)
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
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for folder in (path / name for name in names if not name.startswith(".")):
        if (folder / "images").is_dir():
            yield folder
