"""Real and rendered photos as rows, and the parts that judge: for the quality benchmarks.

    fridge            134 photos of 4 classes; 5 folds
    coco-multilabel   coco128 with every category of at least 8 photos, 10 labels; 5 folds
    scenes            rendered photos of 4 classes, 160 to learn from and 160 to judge by
    cells             crops of BCCD: three kinds of blood cell and places without any; at most 100
                      a class from its training photos, judged by its validation and test photos
    coco-objects      crops of coco128's objects of 6 kinds, at most 60 a kind; 3 folds

Crops of one source photo are a group (column `photo`) and stay on one side of each split.
"""

import json
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sklearn.model_selection import StratifiedKFold

from autofocus.data.splits import kfold_indices
from autofocus.tasks import TASKS

SHARED = Path(__file__).parents[2] / "shared" / "data"
MULTICLASS, MULTILABEL, *_ = TASKS
MIN_IMAGES_OF_A_LABEL = 8
GROUP_COLUMN = "photo"
CELLS_A_CLASS, OBJECTS_A_KIND, NUM_KINDS = 100, 60, 6
MIN_CROP_SIDE = 24  # pixels
BACKGROUND = "background"

Row = dict[str, object]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class ImageSet:
    """Photos with classes, and who judges whom.

    Attributes:
        task: Name of the task.
        rows: n rows of the published format, with absolute paths; the group, where there is one, is
            in `GROUP_COLUMN`.
        judges: Positions in `rows` of the photos that judge, one array a run; the run learns from
            the rest.
    """

    task: str
    rows: list[Row]
    judges: Sequence[np.ndarray]

    @property
    def labels(self) -> list[str]:
        """Class names in the order of a model's."""
        return sorted({name for row in self.rows for name in names_of(row)})

    @property
    def groups(self) -> list[str]:
        """Group of each row; a photo of its own is one."""
        return [str(row.get(GROUP_COLUMN, row["image_url"])) for row in self.rows]

    def learners(self, run: int) -> np.ndarray:
        """Return the positions of the photos that run `run` learns from."""
        return np.setdiff1d(np.arange(len(self.rows)), self.judges[run])


def names_of(row: Row) -> list[str]:
    """Return the class names of a row of either task."""
    label = row["label"]
    return [label] if isinstance(label, str) else [str(name) for name in label]


def fridge(work: Path) -> ImageSet:
    """134 photos of four classes."""
    photos = sorted((SHARED / "fridge-multiclass").glob("*/*.jpg"))
    rows: list[Row] = [{"image_url": str(p), "label": p.parent.name} for p in photos]
    # scikit-learn's folds: every figure so far is of these.
    labels = [row["label"] for row in rows]
    splitter = StratifiedKFold(5, shuffle=True, random_state=0)
    return ImageSet(MULTICLASS, rows, [judge for _, judge in splitter.split(labels, labels)])


def coco_multilabel(work: Path) -> ImageSet:
    """Every category that occurs in at least 8 of 128 photos; photos of none have no label."""
    document, categories = _coco()
    labels: dict[int, set[str]] = defaultdict(set)
    for annotation in document["annotations"]:
        labels[annotation["image_id"]].add(categories[annotation["category_id"]]["name"])
    counts = Counter(name for found in labels.values() for name in found)
    frequent = {name for name, count in counts.items() if count >= MIN_IMAGES_OF_A_LABEL}
    images = sorted(document["images"], key=lambda image: image["file_name"])
    rows: list[Row] = [
        {
            "image_url": str(SHARED / "coco128" / "images" / image["file_name"]),
            "label": sorted(labels[image["id"]] & frequent),
        }
        for image in images
    ]
    return ImageSet(MULTILABEL, rows, folds(rows))


def scenes(work: Path) -> ImageSet:
    """Rendered photos, with distractors; one object each."""
    from autofocus.data.rows.records import RECORD_TYPES
    from autofocus.demo import write_scenes

    rows: list[Row] = []
    for seed in (31, 32):
        annotations = write_scenes(work / f"scenes{seed}", RECORD_TYPES[MULTICLASS], 160, seed)
        for line in annotations.read_text().splitlines():
            row = json.loads(line)
            rows.append({**row, "image_url": str(annotations.parent / row["image_url"])})
    return ImageSet(MULTICLASS, rows, [np.arange(160, 320)])


def cells(work: Path) -> ImageSet:
    """Crops of blood cells, and of places between them."""
    rows, numbers = [], []
    for splits in (("train",), ("val", "test")):
        found = [row for split in splits for row in _cell_crops(split, work / "cells" / split)]
        rows += limited(found, CELLS_A_CLASS)
        numbers.append(len(rows))
    return ImageSet(MULTICLASS, rows, [np.arange(*numbers)])


def coco_objects(work: Path) -> ImageSet:
    """Crops of objects by their kind, COCO's supercategory."""
    rows: list[Row] = []
    for i, (photo, category, box) in enumerate(coco_boxes()):
        path = work / "coco-objects" / f"{i}.png"
        _write_crop(photo, box, path)
        row = {"image_url": str(path), "label": category["supercategory"]}
        rows.append({**row, GROUP_COLUMN: photo.stem})
    kinds = [kind for kind, _ in Counter(row["label"] for row in rows).most_common(NUM_KINDS)]
    rows = limited([row for row in rows if row["label"] in kinds], OBJECTS_A_KIND)
    return ImageSet(MULTICLASS, rows, folds(rows, 3))


SETS: dict[str, Callable[[Path], ImageSet]] = {
    "fridge": fridge,
    "coco-multilabel": coco_multilabel,
    "scenes": scenes,
    "cells": cells,
    "coco-objects": coco_objects,
}


def folds(rows: list[Row], num_folds: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Return stratified folds that keep groups together."""
    groups = [str(row.get(GROUP_COLUMN, row["image_url"])) for row in rows]
    return kfold_indices([names_of(row) for row in rows], groups, num_folds, seed)


def limited(rows: list[Row], num_a_class: int) -> list[Row]:
    """Return at most so many rows of each class, drawn the same on every call."""
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[str(row["label"])].append(row)
    rng = np.random.default_rng(0)
    kept = []
    for label in sorted(by_class):
        order = rng.permutation(len(by_class[label]))[:num_a_class]
        kept += [by_class[label][i] for i in sorted(order)]
    return kept


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def coco_boxes() -> Iterator[tuple[Path, dict, Box]]:
    """Yield photo, category and box of coco128's single objects of at least 24 px."""
    document, categories = _coco()
    files = {image["id"]: image["file_name"] for image in document["images"]}
    for annotation in document["annotations"]:
        left, top, width, height = map(int, annotation["bbox"])
        box = (left, top, left + width, top + height)
        if not annotation.get("iscrowd") and is_large(box):
            photo = SHARED / "coco128" / "images" / files[annotation["image_id"]]
            yield photo, categories[annotation["category_id"]], box


def is_large(box: Box) -> bool:
    """Return whether a box shows something; two of BCCD's are empty."""
    left, top, right, bottom = box
    return min(right - left, bottom - top) >= MIN_CROP_SIDE


def voc_boxes(split: str) -> Iterator[tuple[Path, str, Box]]:
    """Yield photo, class and box of the cells of one of BCCD's splits."""
    root = SHARED / "bccd-voc"
    for name in (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        for item in ET.parse(root / "Annotations" / f"{name}.xml").iter("object"):
            yield root / "JPEGImages" / f"{name}.jpg", str(item.findtext("name")), _voc_box(item)


def _coco() -> tuple[dict, dict]:
    document = json.loads((SHARED / "coco128" / "instances.json").read_text())
    return document, {category["id"]: category for category in document["categories"]}


def _cell_crops(split: str, folder: Path) -> list[Row]:
    """Write crops of all cells, and of up to one place a photo that has none."""
    rng, by_photo, rows = np.random.default_rng(0), defaultdict(list), []
    for photo, label, box in voc_boxes(split):
        by_photo[photo].append((label, box))
    for photo, found in by_photo.items():
        free = [(BACKGROUND, box) for box in _free_boxes(rng, [box for _, box in found])]
        for i, (label, box) in enumerate([*found, *free]):
            if is_large(box):
                path = folder / f"{photo.stem}-{i}.png"
                _write_crop(photo, box, path)
                rows.append({"image_url": str(path), "label": label, GROUP_COLUMN: photo.stem})
    return rows


def _voc_box(item: ET.Element) -> Box:
    sides = (item.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    left, top, right, bottom = (int(float(side or 0)) for side in sides)
    return left, top, right, bottom


def _free_boxes(rng: np.random.Generator, boxes: list[Box]) -> list[Box]:
    """Return up to one place of a 640 x 480 photo of cells that touches no box."""
    for _ in range(20):
        side = int(rng.integers(30, 90))
        left, top = int(rng.integers(0, 640 - side)), int(rng.integers(0, 480 - side))
        right, bottom = left + side, top + side
        if not any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in boxes):
            return [(left, top, right, bottom)]
    return []


def _write_crop(photo: Path, box: Box, path: Path) -> None:
    """Write a box with a quarter of its size around it, as PNG."""
    if path.exists():
        return
    image = cv2.imread(str(photo))
    left, top, right, bottom = box
    margin_x, margin_y = (right - left) // 4, (bottom - top) // 4
    rows = slice(max(0, top - margin_y), bottom + margin_y)
    columns = slice(max(0, left - margin_x), right + margin_x)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[rows, columns])
