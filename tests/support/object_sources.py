"""Small data sets in each format that says where objects are, for the tests."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 20, 40


@dataclass(frozen=True)
class Thing:
    """An object: pixels (left, top, right, bottom), area convention."""

    label: str
    box: tuple[float, float, float, float]


CAN = Thing("can", (4, 5, 14, 15))
CUP = Thing("cup", (20, 0, 40, 10))
OUTSIDE = Thing("can", (30, 5, 60, 15))

Scene = Mapping[str, Sequence[Thing]]


def write_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name makes each image another one.
    rng = np.random.default_rng(sum(path.name.encode()))
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, document: Any) -> Path:
    return write_text(path, json.dumps(document))


def voc_xml(name: str, things: Sequence[Thing], more: str = "", size: str | None = None) -> str:
    objects = "".join(
        f"<object><name>{thing.label}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for thing in things
        for left, top, right, bottom in [thing.box]
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>" if size is None else size
    return f"<annotation><filename>{name}.png</filename>{size}{objects}{more}</annotation>"


def write_voc(folder: Path, scene: Scene) -> Path:
    for name, things in scene.items():
        write_image(folder / "JPEGImages" / f"{name}.png")
        write_text(folder / "Annotations" / f"{name}.xml", voc_xml(name, things))
    return folder


def coco_document(scene: Scene, outlines: bool = True) -> dict[str, Any]:
    labels = sorted({thing.label for things in scene.values() for thing in things})
    # Gaps, and not in the order of names.
    ids = {label: 90 - 7 * i for i, label in enumerate(labels)}
    images = [
        {"id": 100 + i, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
        for i, name in enumerate(scene)
    ]
    annotations: list[dict[str, Any]] = []
    for i, things in enumerate(scene.values()):
        for thing in things:
            left, top, right, bottom = thing.box
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": 100 + i,
                "category_id": ids[thing.label],
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
            if outlines:
                annotation["segmentation"] = [corners(thing)]
            annotations.append(annotation)
    categories = [{"id": key, "name": label} for label, key in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, scene: Scene, outlines: bool = True) -> Path:
    for name in scene:
        write_image(folder / "images" / f"{name}.png")
    write_json(folder / "instances.json", coco_document(scene, outlines))
    return folder


def yolo_line(number: int, thing: Thing) -> str:
    left, top, right, bottom = thing.box
    numbers = (
        (left + right) / 2 / WIDTH,
        (top + bottom) / 2 / HEIGHT,
        (right - left) / WIDTH,
        (bottom - top) / HEIGHT,
    )
    return f"{number} " + " ".join(f"{value:.6f}" for value in numbers)


def write_yolo(folder: Path, scene: Scene, split: str = "train") -> Path:
    labels = ["can", "cup"]
    for name, things in scene.items():
        write_image(folder / "images" / split / f"{name}.png")
        lines = [yolo_line(labels.index(thing.label), thing) for thing in things]
        write_text(folder / "labels" / split / f"{name}.txt", "\n".join(lines))
    write_text(folder / "data.yaml", f"train: images/{split}\nnc: 2\nnames: [can, cup]\n")
    return folder


def corners(thing: Thing) -> list[float]:
    left, top, right, bottom = thing.box
    return [left, top, right, top, right, bottom, left, bottom]


def via_region(thing: Thing, attribute: str = "kind") -> dict[str, Any]:
    points = corners(thing)
    shape = {"name": "polygon", "all_points_x": points[::2], "all_points_y": points[1::2]}
    return {"shape_attributes": shape, "region_attributes": {attribute: thing.label}}


def write_via(folder: Path, scene: Scene) -> Path:
    entries = {}
    for name, things in scene.items():
        write_image(folder / f"{name}.png")
        regions = [via_region(thing) for thing in things]
        entries[f"{name}.png123"] = {"filename": f"{name}.png", "size": 123, "regions": regions}
    write_json(folder / "via_region_data.json", entries)
    return folder


def mask(things: Sequence[Thing]) -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, thing in enumerate(things, 1):
        left, top, right, bottom = thing.box
        ids[int(top) : int(bottom), int(left) : int(right)] = 300 * number
    return ids


def write_mask(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def write_masks(folder: Path, scene: Scene) -> Path:
    for name, things in scene.items():
        write_image(folder / "images" / f"{name}.png")
        write_mask(folder / "masks" / f"{name}.png", mask(things))
    return folder


def write_object_masks(folder: Path, scene: Scene) -> Path:
    for name, things in scene.items():
        write_image(folder / name / "images" / f"{name}.png")
        (folder / name / "masks").mkdir()
        for i, thing in enumerate(things):
            single = (mask([thing]) > 0).astype(np.uint8) * 255
            write_mask(folder / name / "masks" / f"{i}.png", single)
    return folder


def write_csv(folder: Path, scene: Scene) -> Path:
    rows = ["filename,labels"]
    for name, things in scene.items():
        write_image(folder / f"{name}.png")
        rows.append(f'{name}.png,"{",".join(thing.label for thing in things)}"')
    write_text(folder / "labels.csv", "\n".join(rows))
    return folder


def write_folders(folder: Path, scene: Scene) -> Path:
    for name, things in scene.items():
        for thing in things:
            write_image(folder / thing.label / f"{name}.png")
    return folder


def write_image_folder(folder: Path, scene: Scene) -> Path:
    rows = []
    for name, things in scene.items():
        write_image(folder / f"{name}.png")
        boxes = [
            [left, top, right - left, bottom - top]
            for left, top, right, bottom in (thing.box for thing in things)
        ]
        objects = {"bbox": boxes, "categories": [thing.label for thing in things]}
        rows.append({"file_name": f"{name}.png", "objects": objects})
    write_text(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    return folder


WRITERS: dict[str, Callable[[Path, Scene], Path]] = {
    "coco": write_coco,
    "via": write_via,
    "voc": write_voc,
    "yolo": write_yolo,
    "masks": write_masks,
    "object_masks": write_object_masks,
    "imagefolder": write_image_folder,
    "csv": write_csv,
    "folder": write_folders,
}
