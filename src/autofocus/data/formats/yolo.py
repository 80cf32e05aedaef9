"""YOLO: a text file an image, `class x y width height` a line, and `data.yaml` for the rest.

A split of a `data.yaml` is named like a file in it: `data.yaml/val`. Without one, lists of images
(`train.txt`, `valid.txt`, or what darknet's `obj.data` names) are the splits.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import (
    SPLIT_NAMES,
    SPLIT_OF,
    entries_by_name,
    entries_of,
    is_image,
    mirrored,
    relative_url,
    split_folders,
    walk_files,
    walk_images,
)
from autofocus.data.formats.object_row import ObjectRow, finite_numbers, refuse_classes_of_images
from autofocus.data.formats.pixels import ImageSizes, image_details
from autofocus.data.images.locate import normal_form
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues, Severity, short_value
from autofocus.data.rows.records import DetectionRecord, ImageRecord, InstanceSegmentationRecord
from autofocus.errors import DataError

_YAML_SUFFIXES = (".yaml", ".yml")
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "names.txt")
_NUM_PEEKED = 200
_BOX_NUMBERS = 5
_CORNER_NUMBERS = 9
_BODIES = (17 * 2, 17 * 3)  # the points of a body, with or without whether each is seen
_FEW_LINES = 3  # fewer may be alike by chance
_HOW_NAMED = "Name the classes in data.yaml, or in classes.txt, one a line."


@dataclass(frozen=True)
class _Layout:
    """Places of a source's images and names.

    Attributes:
        root: Folder that image URLs start from.
        places: Folders of images and lists of images.
        names: Class names by number.
        place: Name of the whole, for messages.
        has_key_points: Whether lines are boxes followed by key points, which are passed over.
    """

    root: Path
    places: Sequence[Path]
    names: Mapping[int, str]
    place: Path
    has_key_points: bool = False


class Yolo(Format):
    """YOLO: a text file an image, and `data.yaml` for the rest."""

    name = "yolo"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a data.yaml, a split of one, a list, or images with labels."""
        if path.is_dir():
            return _yaml_in(path) is not None or _image_folder(path) is not None
        return _is_yaml(path) or _is_yaml(path.parent) or _is_list(path)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return the splits of a data.yaml, else lists, else the folders that `images` holds.

        Raises:
            DataError: If the data.yaml is damaged.
        """
        file = path if _is_yaml(path) else _yaml_in(path) if path.is_dir() else None
        if file is not None and _says_places(file):
            return _splits_of(file)
        path = path if file is None else file.parent
        if not path.is_dir() or _image_folder(path) is None:
            return {}
        lists = _lists_in(path)
        return lists if "train" in lists else split_folders(path / "images")

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return outlines when one of the first files has a line of more than five numbers.

        Boxes with key points, and rotated boxes of four corners, are boxes.
        """
        layout = _find_layout(path)
        lines = _first_lines(layout)
        if layout.has_key_points or _have_key_points(lines) or _are_rotated(lines):
            return [DetectionRecord]
        are_boxes = all(len(numbers) <= _BOX_NUMBERS for numbers in lines)
        return [DetectionRecord] if are_boxes else [InstanceSegmentationRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, by name or in the list's order; one without labels is a negative.

        Raises:
            DataError: If no image has a label file, or data.yaml is damaged.
        """
        return _read_layout(_find_layout(path), record_type, options)


def _find_layout(path: Path) -> _Layout:
    """Return the places of a source's images and names.

    Raises:
        DataError: If data.yaml is damaged or its folders are missing.
    """
    if path.is_dir() and (file := _yaml_in(path)) is not None:
        path = file
    if _is_yaml(path.parent):
        config = _read_yaml(path.parent)
        root = _root(path.parent, config)
        places = _places(path.parent, root, path.name, config)
        names = _names(path.parent, config)
        return _Layout(root, places, names, path, has_key_points=bool(config.get("kpt_shape")))
    if _is_yaml(path):
        if named := _splits_of(path).get("train"):
            return _find_layout(named)
        if _says_places(path) or (images := _image_folder(path.parent)) is None:
            raise DataError(f"{path}: names no images to train on; add 'train: FOLDER'.")
        config = _read_yaml(path)
        has_key_points = bool(config.get("kpt_shape"))
        return _Layout(path.parent, [images], _names(path, config), path, has_key_points)
    if _is_list(path):
        return _Layout(path.parent, [path], _names_beside(path.parent), path)
    images = _image_folder(path)
    assert images is not None, "only what is_source accepts is read"
    return _Layout(path, [images], _names_beside(path), path)


def _first_lines(layout: _Layout) -> list[list[float]]:
    """Return the numbers in the lines of the first label files; lines that are none left out."""
    files = (_label_file(image) for image, _ in islice(_images_of(layout), _NUM_PEEKED))
    read = (finite_numbers(line.split()) for file in files for line in _lines(file))
    return [numbers for numbers in read if numbers]


def _have_key_points(lines: Sequence[Sequence[float]]) -> bool:
    """Return whether all lines are boxes followed by as many points.

    Outlines have other numbers of points each: the 17 of a body, or points that all lie in their
    box, tell the two.
    """
    if len(lines) < _FEW_LINES or len({len(numbers) for numbers in lines}) > 1:
        return False
    num_more = len(lines[0]) - _BOX_NUMBERS
    if num_more in _BODIES:
        return True
    strides = [stride for stride in (2, 3) if num_more > 0 and num_more % stride == 0]
    return any(
        all(_are_in_box(numbers[1:5], numbers[5::stride], numbers[6::stride]) for numbers in lines)
        for stride in strides
    )


def _are_in_box(box: Sequence[float], xs: Sequence[float], ys: Sequence[float]) -> bool:
    x, y, width, height = box
    return all(
        # A point at 0, 0 is one that cannot be seen.
        (a == 0 and b == 0) or (2 * abs(a - x) <= width + 0.01 and 2 * abs(b - y) <= height + 0.01)
        for a, b in zip(xs, ys, strict=True)
    )


def _are_rotated(lines: Sequence[Sequence[float]]) -> bool:
    """Return whether all lines are a class and four corners, as rotated boxes are."""
    return bool(lines) and all(len(numbers) == _CORNER_NUMBERS for numbers in lines)


def _images_of(layout: _Layout) -> Iterator[tuple[Path, str]]:
    """Yield a layout's images and their URLs, those of a list in its order.

    Raises:
        DataError: If a list is no text.
    """
    for place in layout.places:
        if place.is_dir():
            for image in walk_images(place):
                yield image, relative_url(image, layout.root)
            continue
        for line in _listed(place):
            if name := line.strip().replace("\\", "/"):
                starts = dict.fromkeys((place.parent, layout.root))
                tried = [(start, start / end) for end in _ends(name) for start in starts]
                start, image = next((pair for pair in tried if pair[1].is_file()), tried[0])
                yield image, _listed_url(name, image, start, layout.root)


def _listed_url(name: str, image: Path, start: Path, root: Path) -> str:
    """Return the URL of a listed image; reading refuses a link or `..` that leads out of `start`.

    Unlike what lies in a folder, what a list names is not trusted, but for an absolute path.
    """
    is_whole = os.path.isabs(name) and image == Path(name)
    if is_whole or not os.path.isabs(relative_url(image, start)):
        return relative_url(image, root)
    return Path(os.path.relpath(image, root)).as_posix()


def _ends(name: str) -> list[str]:
    """Return a listed name and what it is where the set was moved from, such as darknet's `data`.

    The folder that an image lies in stays, so that none is taken for one of another folder.
    """
    parts = name.split("/")
    starts = (at for at in range(len(parts)) if at < 2 or len(parts) - at > 1)
    return ["/".join(parts[at:]) for at in starts if not at or parts[at]]


def _is_list(path: Path) -> bool:
    if path.suffix != ".txt" or not path.is_file() or _image_folder(path.parent) is None:
        return False
    return path.absolute() in {file.absolute() for file in _lists_in(path.parent).values()}


def _lists_in(folder: Path) -> dict[str, Path]:
    """Return the lists of images by split: those that `obj.data` names, else those called so."""
    entries = entries_by_name(folder)
    said = _darknet_data(folder / "obj.data")
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        # Darknet's paths start at its own folder, which is not here.
        texts = [said[name] for name in names if name in said] or [f"{name}.txt" for name in names]
        files = (entries.get(text.rpartition("/")[2].lower()) for text in texts)
        file = next((file for file in files if file is not None and _lists_images(file)), None)
        if file is not None and file not in found.values():
            found[split] = file
    return found


def _darknet_data(file: Path) -> dict[str, str]:
    """Return the `key = value` lines of darknet's `obj.data`; none without the file."""
    pairs = (line.partition("=") for line in _lines(file))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _lists_images(file: Path) -> bool:
    first = next((line.strip() for line in _lines(file) if line.strip()), "")
    return file.is_file() and is_image(first)


def _listed(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: must be UTF-8; save it again as UTF-8.") from error


def _label_file(image: Path) -> Path:
    """Return an image's label file: in `labels` for `images`, else beside it."""
    labels = mirrored(image.parent, "labels") or image.parent
    return labels / normal_form(f"{image.stem}.txt", labels)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        return []


def _says_places(file: Path) -> bool:
    """Return whether a data.yaml says where images are; some tools' have names alone."""
    config = _read_yaml(file)
    return any(config.get(name) for name in SPLIT_OF)


def _splits_of(file: Path) -> dict[str, Path]:
    """Return the splits of a data.yaml."""
    config = _read_yaml(file)
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        key = next((name for name in names if config.get(name)), None)
        # Small published sets name one folder twice; validating on it would say nothing.
        if key is not None and config[key] not in [config[p.name] for p in found.values()]:
            found[split] = file / key
    return found if "train" in found else {}


def _is_yaml(path: Path) -> bool:
    if path.suffix.lower() not in _YAML_SUFFIXES or not path.is_file():
        return False
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    keys = {line.partition(":")[0].strip() for line in text.splitlines() if line[:1].isalpha()}
    return "names" in keys and bool(keys & {"train", "val", "test", "nc"})


def _yaml_in(folder: Path) -> Path | None:
    """Return the data.yaml of a folder, whatever it is called, or None.

    Raises:
        DataError: If there are several.
    """
    files = [file for file in entries_of(folder) if _is_yaml(file)]
    if len(files) > 1:
        names = ", ".join(map(str, files))
        raise DataError(f"{folder}: has several files of YOLO's kind ({names}); name one of them.")
    return files[0] if files else None


def _image_folder(path: Path) -> Path | None:
    """Return the folder of images when labels lie beside it or in it, or None."""
    for images in (path / "images", path):
        labels = mirrored(images, "labels") if images.is_dir() else None
        if labels is not None and _has_labels(labels):
            return images
    is_flat = path.is_dir() and any((path / name).is_file() for name in _NAME_FILES)
    return path if is_flat and next(walk_images(path), None) is not None else None


def _has_labels(folder: Path) -> bool:
    return any(file.suffix == ".txt" for file in walk_files(folder))


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(text := file.read_text(encoding="utf-8-sig"))
        # Text as it stands: YAML reads the class names yes, off and 01 as true, false and 1.
        names = yaml.BaseLoader(text).get_single_data()["names"]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: must be YAML: {reason}") from error
    assert isinstance(document, dict), "_is_yaml has seen keys"
    return {**document, "names": names}


def _root(file: Path, config: Mapping[str, Any]) -> Path:
    """Return the folder that `path:` names, as far as it is there, else data.yaml's own."""
    said = config.get("path")
    if isinstance(said, str):
        for start in (file.parent, Path.cwd()):
            if (start / said).is_dir():
                return start / said
    return file.parent


def _places(file: Path, root: Path, key: str, config: Mapping[str, Any]) -> list[Path]:
    given = config.get(key)
    if given is None:
        keys = ", ".join(map(str, config))
        raise DataError(f"{file}: has no key {key!r}; its keys are {keys}.")
    entries = given if isinstance(given, list) else [given]
    problems, found = [], []
    for entry in entries:
        text = str(entry)
        # Exports write `../train/images` for the folder beside data.yaml.
        tried = [root / text, file.parent / text, file.parent / text.removeprefix("../")]
        place = next((path for path in tried if path.exists()), None)
        if place is None:
            looked_at = ", ".join(dict.fromkeys(str(path) for path in tried))
            problems.append(
                f"{file}: {key} must lead to images, got {text!r}; looked at {looked_at}."
            )
        else:
            found.append(place)
    if problems:
        raise DataError(problems)
    return found


def _names(file: Path, config: Mapping[str, Any]) -> dict[int, str]:
    given = config.get("names")
    try:
        if isinstance(given, str) and given:
            raise TypeError("text")
        items = given.items() if isinstance(given, dict) else enumerate(given or [])
        names = {int(number): str(name) for number, name in items}
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: names must be a list, or numbers with names.") from error
    repeated = sorted({name for name in names.values() if [*names.values()].count(name) > 1})
    if repeated:
        raise DataError(f"{file}: several classes are called {', '.join(map(repr, repeated))}.")
    if isinstance(said := config.get("nc"), int) and said != len(names):
        raise DataError(f"{file}: nc must be the number of names, {len(names)}, got {said}.")
    return names


def _names_beside(path: Path) -> dict[int, str]:
    """Return the names of a file for them, in the folder, its labels or up to two above."""
    folders = [
        path,
        path / "labels",
        mirrored(path, "labels") or path,
        *path.absolute().parents[:2],
    ]
    for folder in folders:
        if (file := _yaml_in(folder)) is not None:
            return _names(file, _read_yaml(file))
        for name in _NAME_FILES:
            if (folder / name).is_file():
                lines = [line.strip() for line in _lines(folder / name)]
                return dict(enumerate(line for line in lines if line))
    return {}


def _read_layout(
    layout: _Layout, record_type: type[ImageRecord], options: ReadOptions
) -> Iterator[RawRow | Issue]:
    """Yield a row an image; one with an empty label file, or none, is a negative.

    Raises:
        DataError: If no image has a label file: then they lie elsewhere.
    """
    refuse_classes_of_images(record_type, layout.place)
    images, urls = [], []
    for image, url in _images_of(layout):
        images.append(image)
        urls.append(url)
    labels = [_label_file(image) for image in images]
    if images and not any(file.is_file() for file in labels):
        raise DataError(
            f"{layout.place}: none of {len(images)} images has a label file; the first was looked "
            f"for at {labels[0]}. Labels lie in 'labels' beside 'images', or beside each image."
        )
    if not layout.names:
        yield _issue(layout.place, "class.no_names", "warning", "has no class names", _HOW_NAMED)
    yield from _shared_labels(images, labels)
    lines = [] if layout.has_key_points else _first_lines(layout)
    if _have_key_points(lines):
        layout = replace(layout, has_key_points=True)
        message = "has boxes followed by key points, which are passed over"
        hint = "Say it with kpt_shape in data.yaml."
        yield _issue(layout.place, "labels.key_points", "warning", message, hint)
    elif _are_rotated(lines) and record_type.object_shape == "box":
        message = "has four corners a line: rotated boxes, of which the upright boxes around count"
        hint = "Outlines are for the task of instance segmentation."
        yield _issue(layout.place, "box.rotated", "warning", message, hint)
    sizes = ImageSizes(options)
    for url, file in zip(urls, labels, strict=True):
        yield _read_image(url, file, layout, record_type, sizes)
    yield from _labels_without_image(layout, {*labels})


def _shared_labels(images: Sequence[Path], labels: Sequence[Path]) -> Iterator[Issue]:
    images_of: defaultdict[Path, list[str]] = defaultdict(list)
    for image, file in zip(images, labels, strict=True):
        if image.name not in images_of[file]:
            images_of[file].append(image.name)
    for file, names in images_of.items():
        if len(names) > 1 and file.is_file():
            message = f"stands for several images, {', '.join(names)}"
            hint = "Each gets its objects; rename all but the one that was labelled."
            yield _issue(file, "labels.shared", "warning", message, hint)


def _read_image(
    image_url: str, file: Path, layout: _Layout, record_type: type[ImageRecord], sizes: ImageSizes
) -> RawRow:
    header = sizes.header(layout.root, image_url)
    size = None if header is None else image_details(image_url, (header.height, header.width))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        row = ObjectRow(record_type, str(file))
        hint = "The image is taken as one without objects."
        row.issues.info("labels.missing", "", "is not there", hint=hint)
        return row.finish(layout.root, image_url, size)
    except (OSError, UnicodeDecodeError) as error:
        issues = RowIssues(str(file), None)
        issues.error("labels.unreadable", "", f"must be text: {error}")
        return RawRow(str(file), str(layout.root), None, None, tuple(issues.issues))
    row = ObjectRow(record_type, str(file))
    for number, line in enumerate(lines, 1):
        if line.strip():
            row.issues.line = number
            words = line.split()
            _read_line(words[:_BOX_NUMBERS] if layout.has_key_points else words, layout.names, row)
    row.issues.line = None
    return row.finish(layout.root, image_url, size)


def _read_line(words: list[str], names: Mapping[int, str], row: ObjectRow) -> None:
    given = short_value(" ".join(words))
    numbers = finite_numbers(words)
    if numbers is None or len(numbers) < _BOX_NUMBERS:
        rule = "must be 'class x y width height', or 'class x1 y1 x2 y2 x3 y3 …'"
        row.lose("row.type", "", rule, given)
        return
    name = _name(numbers[0], names)
    if name is None:
        rule = f"must begin with the number of a class, 0 to {max(names, default=0)}"
        row.lose("category_id.unknown", "", rule, given, _HOW_NAMED)
    elif len(numbers) == _BOX_NUMBERS:
        x, y, width, height = numbers[1:]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        row.add_box("box", name, corners, given)
    else:
        row.add_outline("outline", name, [numbers[1:]])


def _name(number: float, names: Mapping[int, str]) -> str | None:
    if number != int(number) or number < 0:
        return None
    return names.get(int(number)) if names else str(int(number))


def _labels_without_image(layout: _Layout, known: set[Path]) -> Iterator[Issue]:
    """Name the label files without an image; a list of images leaves some out on purpose."""
    for folder in layout.places:
        labels = mirrored(folder, "labels") if folder.is_dir() else None
        for file in walk_files(labels) if labels is not None else ():
            is_label = file.suffix == ".txt" and not is_image(file.name)
            if is_label and file not in known and file.name != "classes.txt":
                hint = "The image of that name is missing."
                yield _issue(file, "image.missing", "error", "must belong to an image", hint)


def _issue(file: Path, code: str, severity: Severity, message: str, hint: str) -> Issue:
    return Issue(file=str(file), code=code, severity=severity, message=message, hint=hint)
