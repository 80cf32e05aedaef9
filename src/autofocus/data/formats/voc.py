"""Pascal VOC: an XML file an image, lists of the splits in `ImageSets/Main`.

Pixels count from 1 and the last one belongs to the box: a box is [xmin - 1, xmax] x
[ymin - 1, ymax] in the area convention. Tools that count from 0 write [xmin, xmax] x [ymin, ymax]:
a left or upper edge of 0, or of a fraction, anywhere in a set, in any of its splits, shows that it
is one of theirs.
"""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import entries_of, is_image, relative_url, split_folders
from autofocus.data.formats.object_row import ObjectRow, finite_numbers, refuse_classes_of_images
from autofocus.data.formats.pixels import (
    ImageSizes,
    are_fractions,
    fractions_read,
    image_details,
)
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues, short_value
from autofocus.data.rows.records import DetectionRecord, ImageRecord
from autofocus.data.rows.text import sniff_encoding
from autofocus.data.rows.values import read_flag
from autofocus.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


_ANNOTATION_FOLDERS = ("Annotations", "annotations", "annotations/xmls", ".")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "image", "imgs", ".")
_LIST_FOLDERS = ("ImageSets/Main", "ImageSets")
_LISTS = {
    "train": ("train", "trainval"),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_HEAD_BYTES = 4096
_ROOT = re.compile(r"<annotation[\s>]")
_NUM_PEEKED = 20

_ZERO_EDGE = re.compile(rb"min>\s*(?:0+(?:\.\d*)?|\d*\.\d*[1-9]\d*)\s*<")
_SAID_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""")
# As browsers read them: what says GB2312 was written in one of the sets that hold it.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}


class Voc(Format):
    """Pascal VOC: an XML file an image, and lists of the splits."""

    name = "voc"
    counts_pixels = True

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a folder of VOC files, or a list of `ImageSets`."""
        return _root_of_list(path) is not None or (path.is_dir() and _annotations(path) is not None)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return the lists of `ImageSets` by split.

        Raises:
            DataError: If there are several lists but none says what to train on.
        """
        if not path.is_dir() or _annotations(path) is None:
            return {}
        for folder in (path / name for name in _LIST_FOLDERS):
            lists = {
                split: folder / f"{name}.txt"
                for split, names in _LISTS.items()
                for name in reversed(names)
                if (folder / f"{name}.txt").is_file()
            }
            if "train" not in lists and len(lists) > 1:
                names = ", ".join(str(file) for file in lists.values())
                raise DataError(f"{path}: has no list to train on; name one of {names}.")
            if lists.get("train", folder).stem == "trainval":
                # It holds the images of the validation list.
                lists.pop("validation", None)
            if lists:
                return lists if "train" in lists else {}
        return {}

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return detection: VOC files hold boxes."""
        return [DetectionRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an annotated image, in the order of the list or of the names.

        Raises:
            DataError: If the task wants outlines or a class an image.
        """
        refuse_classes_of_images(record_type, path)
        if record_type.object_shape == "outline":
            raise DataError(f"{path}: VOC files hold boxes; this task wants outlines.")
        layout = _Layout(root := _root_of_list(path) or path, options.image_root)
        sizes = ImageSizes(options)
        in_fractions = are_fractions(_coordinates(layout), options)
        if in_fractions and options.coordinates is None:
            yield fractions_read(root)
        from_one = not in_fractions and not any(map(_counts_from_zero, _whole(layout)))
        if not in_fractions and not from_one:
            yield _zero_based(root)
        is_list = path != root
        used = set()
        for name in _listed(path, layout.stems) if is_list else layout.stems:
            if isinstance(name, Issue):
                yield name
                continue
            file = layout.annotations / f"{name}.xml"
            row = _read_image(file, layout, record_type, sizes, in_fractions, from_one)
            used.add(row.values and row.values["image_url"])
            yield row
        if not is_list:
            yield from _left_out(root, sorted({*layout.images.values()} - used))


@dataclass(frozen=True)
class _Layout:
    root: Path
    image_root: Path | None

    @cached_property
    def annotations(self) -> Path:
        folder = _annotations(self.root)
        if folder is None:
            raise DataError(f"{self.root}: has no VOC files in Annotations.")
        return folder

    @cached_property
    def stems(self) -> dict[str, None]:
        return dict.fromkeys(file.name[:-4] for file in _xml_files(self.annotations))

    @cached_property
    def images(self) -> dict[str, str]:
        """URLs of images by file name and by stem; earlier folders win."""
        start = self.image_root or self.root
        folders = [self.root / name for name in _IMAGE_FOLDERS]
        found: dict[str, str] = {}
        for folder in [start] if self.image_root else [*folders, self.annotations]:
            for file in entries_of(folder):
                if is_image(file.name):
                    url = relative_url(file, start)
                    found.setdefault(_plain(file.name), url)
                    found.setdefault(_plain(file.stem), url)
        return found

    def image_url(self, stem: str, filename: str) -> str:
        """Return the image that is named like the annotation, else the one that it names.

        Of several that are named like it, it is the one that it names.
        """
        name = _plain(filename.replace("\\", "/").rpartition("/")[2])
        stem = _plain(stem)
        like_it = self.images.get(name if os.path.splitext(name)[0] == stem else stem)
        return like_it or self.images.get(stem) or self.images.get(name) or name or f"{stem}.jpg"


def _plain(name: str) -> str:
    """Return a name in one Unicode form: macOS takes apart what other systems write whole."""
    return unicodedata.normalize("NFC", name)


def _xml_files(folder: Path) -> list[Path]:
    return [file for file in entries_of(folder) if file.suffix.lower() == ".xml"]


def _root_of_list(path: Path) -> Path | None:
    """Return the folder that `ImageSets` lies in when `path` is one of its lists."""
    parents = path.absolute().parents
    if path.suffix != ".txt" or not path.is_file():
        return None
    if parents[0].name == "ImageSets":
        return path.parent.parent
    return path.parent.parent.parent if parents[1].name == "ImageSets" else None


def _annotations(root: Path) -> Path | None:
    """Return the folder of `root` that holds VOC's XML files, or None."""
    for folder in (root / name for name in _ANNOTATION_FOLDERS):
        if any(map(_is_annotation, _xml_files(folder)[:_NUM_PEEKED])):
            return folder
    return None


def _is_annotation(file: Path) -> bool:
    with open(file, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    # CVAT's own form begins with <annotations>.
    return bool(_ROOT.search(head.decode(sniff_encoding(head) or "utf-8", "replace")))


def _zero_based(root: Path) -> Issue:
    return Issue(
        file=str(root),
        code="box.zero_based",
        severity="info",
        message="counts pixels from 0: a left or upper edge is 0 or a fraction",
        hint="Pascal VOC counts from 1; these boxes are taken as they are.",
    )


def _left_out(root: Path, image_urls: Iterable[str]) -> Iterator[Issue]:
    for url in image_urls:
        yield Issue(
            file=str(root),
            code="image.no_annotation",
            severity="info",
            value=url,
            message="has an image without an XML file that can be used",
            hint="It is left out; an image without objects needs an XML file without any.",
        )


def _listed(path: Path, stems: dict[str, None]) -> Iterator[str | Issue]:
    text = path.read_text(encoding="utf-8-sig", errors="backslashreplace")
    by_name = {_plain(stem): stem for stem in stems}
    for number, line in enumerate(text.splitlines(), 1):
        if not (name := line.strip()):
            continue
        # `name`, `name.jpg`, or `name 1` as the lists of a class have it.
        forms = (name, os.path.splitext(name)[0], name.split()[0])
        stem = next((by_name[form] for form in map(_plain, forms) if form in by_name), None)
        if stem is not None:
            yield stem
            continue
        yield Issue(
            file=str(path),
            line=number,
            code="annotation.missing",
            severity="error",
            value=short_value(name),
            message="must name an annotation",
            hint="There is no XML file of that name; the image is left out.",
        )


def _read_image(
    file: Path,
    layout: _Layout,
    record_type: type[ImageRecord],
    sizes: ImageSizes,
    in_fractions: bool,
    from_one: bool,
) -> RawRow:
    issues = RowIssues(str(file), None)
    try:
        root = _parse(file)
    except ValueError as error:
        issues.error("xml.invalid", "", f"must be XML: {error}")
        return RawRow(str(file), str(layout.root), None, None, tuple(issues.issues))
    image_url = layout.image_url(file.stem, _text(root, "filename"))
    pixels = sizes.find(layout.root, image_url, _said_size(root), "size", issues)
    if pixels is None:
        return RawRow(str(file), str(layout.root), None, None, tuple(issues.issues))
    row = ObjectRow(record_type, str(file), pixels.as_fractions() if in_fractions else pixels)
    row.issues.issues += issues.issues
    for i, item in enumerate(root.findall("object")):
        _read_object(item, f"object[{i}]", row, from_one)
    return row.finish(layout.root, image_url, image_details(image_url, pixels.upright_size))


def _parse(file: Path) -> "Element":
    """Parse XML, in the encodings too that expat lacks: those of several bytes a character.

    Raises:
        ValueError: If it is none.
    """
    from xml.etree.ElementTree import ParseError, fromstring

    try:
        data = file.read_bytes()
        said = _SAID_ENCODING.match(data)
        name = "utf-16" if said is None else codecs.lookup(said[1].decode()).name
        # What says UTF-16 in a byte a character is none: expat says so.
        is_told = name.startswith("utf-16")
        return fromstring(data if is_told else data.decode(_WIDER.get(name, name)))
    except (ParseError, OSError, UnicodeError, LookupError) as error:
        raise ValueError(str(error)) from error


def _coordinates(layout: _Layout) -> Iterator[float]:
    """Yield the edges of all boxes of a set, file by file."""
    for stem in layout.stems:
        try:
            root = _parse(layout.annotations / f"{stem}.xml")
        except ValueError:  # reading names it
            continue
        for box in root.iterfind("object/bndbox"):
            yield from finite_numbers(_text(box, edge) for edge in _EDGES) or ()


def _whole(layout: _Layout) -> Iterator[_Layout]:
    """Yield a layout, and those of the other splits where its folder is one: a tool wrote all."""
    yield layout
    folder = layout.root.absolute()
    splits = [path.absolute() for path in split_folders(folder.parent).values()]
    for path in splits if folder in splits else ():
        if path != folder and _annotations(path) is not None:
            yield _Layout(path, None)


def _counts_from_zero(layout: _Layout) -> bool:
    """Return whether an upper or left edge of 0 or of a fraction shows that pixels count from 0."""
    for stem in layout.stems:
        file = layout.annotations / f"{stem}.xml"
        if not _ZERO_EDGE.search(file.read_bytes()):
            continue
        try:
            root = _parse(file)
        except ValueError:  # reading names it
            continue
        for box in root.iterfind("object/bndbox"):
            edges = finite_numbers(_text(box, edge) for edge in _EDGES[:2]) or ()
            if any(edge == 0 or edge != int(edge) for edge in edges):
                return True
    return False


def _read_object(item: "Element", path: str, row: ObjectRow, from_one: bool) -> None:
    name = _text(item, "name")
    if not name:
        row.lose("label.missing", f"{path}.name", "is missing")
        return
    box = item.find("bndbox")
    texts = [] if box is None else [_text(box, edge) for edge in _EDGES]
    given = ", ".join(f"{edge} {text or '?'}" for edge, text in zip(_EDGES, texts, strict=False))
    path = f"{path}.bndbox"
    if not texts:
        row.lose("coordinate.missing", path, "is missing")
        return
    numbers = finite_numbers(texts)
    if numbers is None:
        row.lose("coordinate.type", path, "must hold four finite numbers", given)
        return
    left, top, right, bottom = numbers
    if left == right or top == bottom:
        # By the letter a pixel wide; in practice a slip of the mouse.
        row.lose("box.empty", path, "must have a width and a height above 0", given)
        return
    is_crowd = read_flag(_text(item, "difficult") or None, f"{path}.difficult", row.issues)
    if from_one:
        left, top = left - 1, top - 1
    row.add_box(path, name, (left, top, right, bottom), given, is_crowd)


def _said_size(root: "Element") -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    numbers = finite_numbers([_text(size, "height"), _text(size, "width")])
    if numbers is None or min(numbers) < 1:
        return None
    return int(numbers[0]), int(numbers[1])


def _text(item: "Element", name: str) -> str:
    return (item.findtext(name) or "").strip()
