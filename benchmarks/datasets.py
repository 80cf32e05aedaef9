"""The real photos as rows and stratified folds, for the quality benchmarks."""

import json
from collections import Counter, defaultdict
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared" / "data"
MIN_IMAGES_OF_A_LABEL = 8

Row = dict[str, object]


def fridge_rows() -> list[Row]:
    """134 photos of four classes."""
    photos = sorted((SHARED / "fridge-multiclass").glob("*/*.jpg"))
    return [{"image_url": str(p), "label": p.parent.name} for p in photos]


def coco_multilabel_rows() -> list[Row]:
    """coco128 as multi-label rows: every category that occurs in at least 8 images."""
    document = json.loads((SHARED / "coco128" / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    labels: dict[int, set[str]] = defaultdict(set)
    for annotation in document["annotations"]:
        labels[annotation["image_id"]].add(names[annotation["category_id"]])
    frequent = {
        name
        for name, count in Counter(n for found in labels.values() for n in found).items()
        if count >= MIN_IMAGES_OF_A_LABEL
    }
    return [
        {
            "image_url": str(SHARED / "coco128" / "images" / image["file_name"]),
            "label": sorted(labels[image["id"]] & frequent),
        }
        for image in sorted(document["images"], key=lambda image: image["file_name"])
    ]


def stratified_folds(rows: list[Row], num_folds: int = 5, seed: int = 0) -> list[list[int]]:
    """scikit-learn's stratified folds for one label a row, ours for several."""
    if isinstance(rows[0]["label"], str):
        from sklearn.model_selection import StratifiedKFold

        labels = [row["label"] for row in rows]
        splitter = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
        return [test.tolist() for _, test in splitter.split(labels, labels)]
    from autofocus.data.splits import kfold_indices

    folds = kfold_indices([row["label"] for row in rows], range(len(rows)), num_folds, seed)
    return [fold.tolist() for fold in folds]


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
