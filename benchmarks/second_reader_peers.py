"""What other libraries read from the sources of `second_reader.py`; it runs in their own venv.

    pip install datumaro supervision pycocotools 'opencv-python-headless<5'

    python benchmarks/second_reader_peers.py make DATA FOLDER    # writes what other tools write
    python benchmarks/second_reader_peers.py compare CASES.json  # prints a row of JSON a case

An object is (class, box, extent): box (left, top, right, bottom) in pixels, None for a class of the
whole image; extent (area, pixels whose centre is surely inside, those that may be), None where only
a box is told. A mask has no area: its pixels are all that it tells.
"""

import csv
import json
import logging
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datumaro
import numpy as np
import supervision
import yaml
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from shapely import contains_xy, make_valid
from shapely.geometry import Polygon
from shapely.ops import unary_union

Box = tuple[float, float, float, float]
Extent = tuple[float | None, float, float]
Object = tuple[str, Box | None, Extent | None]
Images = dict[str, list[Object]]

# On which side a centre on the edge itself lies is a matter of rounding.
EDGE_PX = 1e-3


def outline(rings: Sequence[Sequence[float]], is_union: bool) -> Extent:
    """Return the extent of rings: of what they cover together, else without what two of them do."""
    shapes = [make_valid(Polygon(np.reshape(ring, (-1, 2)))) for ring in rings]
    whole = unary_union(shapes) if is_union else shapes[0]
    for shape in [] if is_union else shapes[1:]:
        whole = whole.symmetric_difference(shape)
    left, top, right, bottom = np.floor(whole.bounds)
    xs, ys = np.meshgrid(np.arange(left, right + 1) + 0.5, np.arange(top, bottom + 1) + 0.5)
    inner, outer = (contains_xy(whole.buffer(by), xs, ys).sum() for by in (-EDGE_PX, EDGE_PX))
    return float(whole.area), float(inner), float(outer)


def of_pixels(number: int) -> Extent:
    return None, float(number), float(number)


def read_coco(path: Path) -> Images:
    """Read with pycocotools; coordinates all below 1.5 are taken times the image's size."""
    coco = COCO(path)
    numbers = [abs(n) for a in coco.dataset["annotations"] for n in a.get("bbox", [])]
    in_fractions = bool(numbers) and max(numbers) <= 1.5
    found: Images = {}
    for image in coco.loadImgs(coco.getImgIds()):
        size = image["height"], image["width"]
        scale = np.array([size[1], size[0]] * 2 if in_fractions else [1] * 4)
        found[Path(image["file_name"]).stem] = [
            _coco_object(annotation, coco, size, scale)
            # loadAnns goes by ids, and takes one annotation for another that has its id.
            for annotation in coco.imgToAnns[image["id"]]
        ]
    return found


def _coco_object(
    annotation: dict[str, Any], coco: COCO, size: tuple[int, int], scale: np.ndarray
) -> Object:
    name = coco.cats[annotation["category_id"]]["name"]
    said = annotation.get("segmentation")
    extent: Extent | None = None
    if isinstance(said, dict):
        is_plain = isinstance(said["counts"], list)
        runs = run_lengths.frPyObjects(said, *size) if is_plain else said
        extent = of_pixels(int(run_lengths.area(runs)))
    elif said:
        scaled = [np.reshape(ring, (-1, 2)) * scale[:2] for ring in said]
        extent = outline([ring.ravel() for ring in scaled], is_union=True)
    box = annotation.get("bbox")
    if not box:
        return name, None, extent
    left, top, width, height = np.asarray(box) * scale
    return name, (left, top, left + width, top + height), extent


def read_datumaro(path: Path, form: str) -> Images:
    dataset = datumaro.Dataset.import_from(str(path), form)
    labels = dataset.categories()[datumaro.AnnotationType.label]
    found: Images = {}
    for item in dataset:
        groups: defaultdict[object, list[Any]] = defaultdict(list)
        for i, annotation in enumerate(item.annotations):
            groups[annotation.group or f"alone {i}"].append(annotation)
        name = Path(item.id).stem
        # An image that several lists name, such as VOC's val and trainval, is one image.
        found[name] = [
            _datumaro_object(part, labels[part[0].label].name)
            for group in groups.values()
            for part in _told_apart(group)
        ]
    return found


def _told_apart(group: list[Any]) -> list[list[Any]]:
    """Return the objects of a group: several boxes are several, of a file that repeats an id."""
    boxes = [annotation for annotation in group if annotation.type.name == "bbox"]
    return [[box] for box in boxes] if len(boxes) > 1 else [group]


def _datumaro_object(group: list[Any], name: str) -> Object:
    kinds = defaultdict(list)
    for annotation in group:
        kinds[annotation.type.name].append(annotation)
    rings = [polygon.points for polygon in kinds["polygon"]]
    extent = outline(rings, is_union=True) if rings else None
    if kinds["mask"]:
        extent = of_pixels(int(kinds["mask"][0].image.sum()))
    shapes = kinds["bbox"] or kinds["polygon"] or kinds["mask"]
    if not shapes:
        return name, None, extent
    boxes = np.array([shape.get_bbox() for shape in shapes], float)
    boxes[:, 2:] += boxes[:, :2]
    lows, highs = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    return name, (*lows, *highs), extent


def read_supervision(dataset: supervision.DetectionDataset) -> Images:
    found: Images = {}
    for path, _, seen in dataset:
        names = [dataset.classes[number] for number in seen.class_id.astype(int)]
        found[Path(path).stem] = [
            (name, tuple(box), None) for name, box in zip(names, seen.xyxy, strict=True)
        ]
    return found


def read_supervision_yolo(path: Path, is_rotated: bool = False) -> Images:
    """Read `images/*` and `labels/*` of a folder."""
    inner = [folder.name for folder in (path / "images").iterdir() if folder.is_dir()] or ["."]
    found: Images = {}
    for name in inner:
        folders = [str(path / kind / name) for kind in ("images", "labels")]
        names = str(path / "data.yaml")
        found |= read_supervision(
            supervision.DetectionDataset.from_yolo(*folders, names, is_obb=is_rotated)
        )
    return found


def read_supervision_voc(images: Path, annotations: Path) -> Images:
    return read_supervision(
        supervision.DetectionDataset.from_pascal_voc(str(images), str(annotations))
    )


def read_supervision_coco(images: Path, file: Path) -> Images:
    return read_supervision(supervision.DetectionDataset.from_coco(str(images), str(file)))


def read_first_five(path: Path) -> Images:
    """Read the boxes of YOLO's lines, whatever follows them."""
    found: Images = {}
    for file in sorted((path / "labels").rglob("*.txt")):
        [photo] = (path / "images").rglob(f"{file.stem}.*")
        width, height = Image.open(photo).size
        found[file.stem] = []
        for line in file.read_text().splitlines():
            number, x, y, w, h = map(float, line.split()[:5])
            name = yaml_names(path)[int(number)]
            box = (
                (x - w / 2) * width,
                (y - h / 2) * height,
                (x + w / 2) * width,
                (y + h / 2) * height,
            )
            found[file.stem].append((name, box, None))
    return found


def yaml_names(path: Path) -> Any:
    return yaml.safe_load((path / "data.yaml").read_text())["names"]


def read_folders(path: Path) -> Images:
    dataset = supervision.ClassificationDataset.from_folder_structure(str(path))
    return {
        # Its names are unique in a class only.
        "/".join(Path(image).parts[-2:]): [(dataset.classes[int(found.class_id[0])], None, None)]
        for image, _, found in dataset
    }


def read_masks(path: Path) -> Images:
    """Read instance numbers with Pillow and numpy."""
    found: Images = {}
    for file in sorted((path / "masks").iterdir()):
        pixels = np.asarray(Image.open(file))
        found[file.stem] = [_of_mask("object", pixels == n) for n in np.unique(pixels[pixels > 0])]
    return found


def _of_mask(name: str, mask: np.ndarray) -> Object:
    ys, xs = np.nonzero(mask)
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    return name, box, of_pixels(int(mask.sum()))


def read_table(path: Path, image: str, label: str, edges: Sequence[str] = ()) -> Images:
    """Read a table with Python's csv; `label` may name several columns of 0 and 1."""
    found: defaultdict[str, list[Object]] = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            box = tuple(float(row[edge]) for edge in edges) or None
            names = [row[label]] if label in row else [n for n in label.split() if row[n] == "1"]
            # A space separates classes in the table of the fridge.
            parts = names if box else [part for name in names for part in name.split()]
            found[Path(row[image]).stem] += [(name, box, None) for name in parts]
    return dict(found)


def read_lines(files: Sequence[Path], image: str, label: Callable[[Any], str]) -> Images:
    """Read JSON Lines with Python's json."""
    return {
        Path(row[image]).stem: [(label(row), None, None)]
        for file in files
        for row in map(json.loads, file.read_text().splitlines())
    }


def readers(path: Path) -> dict[str, Callable[[], Images]]:
    """Return the readers by name, for a source at `path`."""
    from_yolo = read_supervision_yolo
    forms = ("coco_instances", "voc_detection", "yolo", "roboflow_voc", "cvat")
    return {
        **{f"datumaro {form}": lambda form=form: read_datumaro(path, form) for form in forms},
        "pycocotools": lambda: read_coco(path),
        "supervision yolo": lambda: from_yolo(path),
        "text yolo": lambda: read_first_five(path),
        "supervision obb": lambda: from_yolo(path, is_rotated=True),
        "supervision voc": lambda: read_supervision_voc(path / "JPEGImages", path / "Annotations"),
        "supervision flat voc": lambda: {
            key: objects
            for folder in sorted(path.iterdir())
            for key, objects in read_supervision_voc(folder, folder).items()
        },
        "supervision voc of labelImg": lambda: read_supervision_voc(
            path / "images", path / "annotations"
        ),
        "supervision coco": lambda: read_supervision_coco(path.parent / "images", path),
        "supervision folders": lambda: read_folders(path),
        "numpy": lambda: read_masks(path),
        "csv labels": lambda: read_table(path, "filename", "labels"),
        "csv label": lambda: read_table(path, "filename", "label"),
        "csv flags": lambda: read_table(path, "image", "person bus chair"),
        "csv boxes": lambda: read_table(path, "filename", "class", ("x1", "y1", "x2", "y2")),
        "json rows": lambda: read_lines(sorted(path.rglob("*.jsonl")), "image_url", _label),
        "json images": lambda: read_lines(sorted(path.rglob("*.jsonl")), "file_name", _label),
        "json manifest": lambda: read_lines(
            [path], "source-ref", lambda row: row["anomaly-metadata"]["class-name"]
        ),
    }


def _label(row: Any) -> str:
    return str(row["label"])


def compare(case: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a case: how many, and the largest differences."""
    theirs = readers(Path(case["path"]))[case["reader"]]()
    ours = {
        name: [
            (label, box, outline(rings, is_union=False) if rings else None)
            for label, box, rings in objects
        ]
        for name, objects in case["ours"].items()
    }
    shift = np.array(case["shift"])
    num_empty = 0
    for name, objects in theirs.items():
        moved = [
            (label, None if box is None else tuple(np.array(box) + shift), extent)
            for label, box, extent in objects
        ]
        theirs[name] = [item for item in moved if not _is_empty(item[1], case["thinnest"])]
        num_empty += len(objects) - len(theirs[name])
    box_diff, area_diff, num_unlabelled, problems = 0.0, 0.0, 0, []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours and not theirs[name] and num_unlabelled < case["unlabelled"]:
            num_unlabelled += 1
            continue
        if name not in ours or name not in theirs:
            problems.append(f"{name} is read by {'us' if name in ours else 'them'} only")
            continue
        result = match(ours[name], theirs[name])
        if isinstance(result, str):
            problems.append(f"{name}: {result}")
        else:
            box_diff, area_diff = max(box_diff, result[0]), max(area_diff, result[1])
    return {
        "images": [len(ours), len(theirs)],
        "objects": [sum(map(len, images.values())) for images in (ours, theirs)],
        "classes": [
            len({item[0] for objects in images.values() for item in objects})
            for images in (ours, theirs)
        ],
        "empty": num_empty,
        "box_px": box_diff,
        "area": area_diff,
        "problems": problems,
    }


def _is_empty(box: Box | None, thinnest: float) -> bool:
    return box is not None and min(box[2] - box[0], box[3] - box[1]) <= thinnest


def match(ours: list[Object], theirs: list[Object]) -> tuple[float, float] | str:
    """Return the largest differences of boxes, px, and of extents, a share; or what is missing."""
    left = list(theirs)
    box_diff, area_diff = 0.0, 0.0
    for label, box, extent in ours:
        rivals = [
            (_distance(box, other), i) for i, (name, other, _) in enumerate(left) if name == label
        ]
        if not rivals:
            return f"they have no more {label!r}"
        distance, at = min(rivals)
        _, _, other = left.pop(at)
        box_diff = max(box_diff, distance)
        if extent is not None and other is not None:
            area_diff = max(area_diff, _difference(extent, other))
    return f"they have {len(left)} more" if left else (box_diff, area_diff)


def _difference(extent: Extent, other: Extent) -> float:
    """Return by how much two differ, in their areas or in their pixels, whichever is less.

    Rings around a mask cut its corners, and keep its pixels.
    """
    (area, low, high), (other_area, other_low, other_high) = extent, other
    pixels = max(0.0, low - other_high, other_low - high) / max(other_low, 1.0)
    if area is None or other_area is None:
        return pixels
    return min(pixels, abs(area - other_area) / max(other_area, 1.0))


def _distance(box: Box | None, other: Box | None) -> float:
    if box is None or other is None:
        return 0.0
    return float(np.abs(np.subtract(box, other)).max())


def make(data: Path, folder: Path) -> None:
    """Write coco128 as datumaro and supervision write it, and lay out what datumaro wants."""
    photos, file = data / "coco128/images", data / "coco128/instances.json"
    whole = datumaro.Dataset.import_from(
        str(stage(file, photos, folder / "coco128")), "coco_instances"
    )
    # Of an object with a box and outlines they would write several boxes.
    document = json.loads(file.read_text())
    for annotation in document["annotations"]:
        annotation["segmentation"] = []
    file = folder / "boxes.json"
    file.write_text(json.dumps(document))
    staged = stage(file, photos, folder / "coco128 boxes")
    boxes = datumaro.Dataset.import_from(str(staged), "coco_instances")
    boxes.export(str(folder / "yolo by datumaro"), "yolo", save_media=True)
    boxes.export(str(folder / "voc by datumaro"), "voc_detection", save_media=True)
    parts = [("train", 0.6), ("val", 0.2), ("test", 0.2)]
    split = datumaro.Dataset.import_from(str(staged), "coco_instances")
    split = split.transform("random_split", splits=parts, seed=0)
    split.export(str(folder / "yolo splits by datumaro"), "yolo", save_media=True)
    split.export(str(folder / "coco splits by datumaro"), "coco_instances", save_media=True)
    split.export(str(folder / "ultralytics by datumaro"), "yolo_ultralytics", save_media=True)
    whole.export(str(folder / "coco by datumaro"), "coco_instances", save_media=True)
    seen = supervision.DetectionDataset.from_coco(str(photos), str(file))
    out = folder / "yolo by supervision"
    seen.as_yolo(str(out / "images"), str(out / "labels"), str(out / "data.yaml"))
    out = folder / "voc by supervision"
    seen.as_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    out = folder / "coco by supervision"
    seen.as_coco(str(out / "images"), str(out / "instances.json"))
    bccd = folder / "bccd"
    bccd.mkdir()
    for name in ("Annotations", "JPEGImages", "ImageSets"):
        (bccd / name).symlink_to(data / "bccd-voc" / name)
    names = "".join(f"{name}:{i},0,0::\n" for i, name in enumerate(("RBC", "WBC", "Platelets"), 1))
    (bccd / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{names}")


def stage(file: Path, photos: Path, folder: Path) -> Path:
    """Lay a COCO file and its photos out as datumaro wants them."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    shutil.copyfile(file, folder / "annotations/instances_train.json")
    (folder / "images/train").symlink_to(photos)
    return folder


def main() -> None:
    logging.disable(logging.WARNING)
    what, *arguments = sys.argv[1:]
    if what == "make":
        make(Path(arguments[0]).resolve(), Path(arguments[1]))
        return
    stdout, sys.stdout = sys.stdout, sys.stderr  # pycocotools prints
    for case in json.loads(Path(arguments[0]).read_text()):
        print(json.dumps(compare(case)), file=stdout, flush=True)


if __name__ == "__main__":
    main()
