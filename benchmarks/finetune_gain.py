"""Gain of fine-tuning over the frozen probe, on images that neither has seen.

    python benchmarks/finetune_gain.py bccd-crops coco-kinds scenes --budget 2m
    python benchmarks/finetune_gain.py coco-multilabel --budget 2m

Both are the real command on the same rows, the default recipe alone: once with the budget, once
with `number_of_epochs=0`. Prints the difference with a bootstrap 90 % interval over images.

    bccd-crops        blood cells cut from BCCD by their boxes (half a box of margin), one a photo
                      and at most 60 a class from its training images; judged on its test images
    coco-kinds        photos of coco128 by the kind (COCO's supercategory) of their largest object
                      or crowd, of kinds with 10 photos or more; 5 folds, judged out of fold
    scenes            rendered photos, 160 to train on, 160 to judge by
    coco-multilabel   5 folds, judged out of fold
"""

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from bootstrap import difference
from datasets import SHARED, Row, coco_multilabel_rows, stratified_folds, write_rows

from autofocus import load
from autofocus.structures.predictions import ClassScores
from autofocus.tasks import TASKS

MULTICLASS, MULTILABEL = list(TASKS)[:2]
CROPS_A_CLASS = 60
MIN_PHOTOS_OF_KIND = 10
NUM_BOOTSTRAPS = 2_000
Parts = Iterator[tuple[list[Row], list[Row]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--budget", default="2m")
    arguments = parser.parse_args()
    for name in arguments.sets:
        task_name, parts = SETS[name]
        with tempfile.TemporaryDirectory() as work:
            _compare(name, task_name, parts(Path(work)), Path(work), arguments.budget)


def _compare(name: str, task_name: str, parts: Parts, work: Path, budget: str) -> None:
    task = TASKS[task_name]
    probs: dict[str, list[np.ndarray]] = {"probe": [], "train": []}
    judged: list[Row] = []
    winners = []
    labels: list[str] = []
    for k, (train, test) in enumerate(parts):
        data = write_rows(work / f"train{k}.jsonl", train)
        labels = sorted({n for row in train for n in _names(row["label"])})
        for kind, options in (
            ("probe", ["--set", "training_parameters.number_of_epochs=0"]),
            ("train", ["--budget", budget]),
        ):
            result = _train(data, task_name, work / f"{kind}{k}", options)
            model = load(result["best_model"])
            replies = model.score([str(row["image_url"]) for row in test])
            assert model.labels == labels
            probs[kind] += [np.array(reply["probs"]) for reply in replies]
        decisions = (Path(result["run"]) / "decisions.jsonl").read_text()
        winners.append('"wins":true' in decisions)
        judged += test
    records = [task.record_type(image_url="x", label=row["label"]) for row in judged]
    targets = task.encode_targets(records, labels)
    print(
        f"{name}: {len(judged)} images judged; fine-tuned published in {sum(winners)} of "
        f"{len(winners)} runs; budget {budget}"
    )
    for metric in ("accuracy", "log_loss", "average_precision_score_macro", "iou"):
        _report(task, metric, np.array(probs["probe"]), np.array(probs["train"]), targets, labels)


def _report(task, metric, probe, trained, targets, labels) -> None:
    def value(probs, rows):
        predictions = [ClassScores(p.astype(np.float32)) for p in probs[rows]]
        return task.evaluate(predictions, targets[rows], labels, {}).get(metric)

    num_draws = NUM_BOOTSTRAPS if metric in ("accuracy", "log_loss") else 300
    text = difference(
        lambda rows: value(probe, rows),
        lambda rows: value(trained, rows),
        len(targets),
        num_draws,
    )
    if text is not None:
        print(f"  {metric:30} probe -> train  {text}", flush=True)


def _train(data: Path, task: str, output: Path, options: list[str]) -> dict:
    command = [sys.executable, "-m", "autofocus", "train", "--task", task, "--data", str(data)]
    command += ["--image-root", "/", "--output-dir", str(output), "--json", *options]
    # Other recipes are AutoMode's; see automode.py.
    command += ["--set", "limits.max_trials=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def _names(label) -> list[str]:
    return [label] if isinstance(label, str) else label


def _bccd_crops(work: Path) -> Parts:
    root = SHARED / "bccd-voc"
    yield tuple(
        _limited(_voc_crops(root, split, work / "crops" / split)) for split in ("train", "test")
    )


def _voc_crops(root: Path, split: str, folder: Path) -> dict[str, list[Row]]:
    """Return the crops of each photo."""
    crops: dict[str, list[Row]] = defaultdict(list)
    folder.mkdir(parents=True)
    for name in (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        image = cv2.imread(str(root / "JPEGImages" / f"{name}.jpg"))
        for i, item in enumerate(ET.parse(root / "Annotations" / f"{name}.xml").iter("object")):
            box = [
                int(float(item.findtext(f"bndbox/{k}"))) for k in ("xmin", "ymin", "xmax", "ymax")
            ]
            path = folder / f"{name}-{i}.png"
            if _write_crop(image, box, path):
                crops[name].append({"image_url": str(path), "label": item.findtext("name")})
    return crops


def _coco_kinds(work: Path) -> Parts:
    folder = SHARED / "coco128"
    document = json.loads((folder / "instances.json").read_text())
    kinds = {c["id"]: c["supercategory"] for c in document["categories"]}
    files = {image["id"]: image["file_name"] for image in document["images"]}
    largest = {a["image_id"]: a for a in sorted(document["annotations"], key=lambda a: a["area"])}
    kind_of = {i: kinds[a["category_id"]] for i, a in sorted(largest.items())}
    num_photos = Counter(kind_of.values())
    yield from _folds(
        [
            {"image_url": str(folder / "images" / files[i]), "label": kind}
            for i, kind in kind_of.items()
            if num_photos[kind] >= MIN_PHOTOS_OF_KIND
        ]
    )


def _write_crop(image: np.ndarray, box: list[int], path: Path) -> bool:
    left, top, right, bottom = box
    if right - left < 8 or bottom - top < 8:
        return False
    margin_x, margin_y = (right - left) // 4, (bottom - top) // 4
    crop = image[
        max(0, top - margin_y) : bottom + margin_y, max(0, left - margin_x) : right + margin_x
    ]
    return bool(cv2.imwrite(str(path), crop))


def _limited(crops: dict[str, list[Row]]) -> list[Row]:
    """Choose one crop a photo, of the class that has fewest so far, and at most 60 a class.

    Crops of one photo look alike: with some of them held out, what learnt the others by heart
    would be chosen.
    """
    by_class: dict[str, list[Row]] = defaultdict(list)
    for photo in sorted(crops):
        row = min(crops[photo], key=lambda row: len(by_class[str(row["label"])]))
        by_class[str(row["label"])].append(row)
    rng = np.random.default_rng(0)
    kept = []
    for label in sorted(by_class):
        order = rng.permutation(len(by_class[label]))[:CROPS_A_CLASS]
        kept += [by_class[label][i] for i in sorted(order)]
    return kept


def _scenes(work: Path) -> Parts:
    from autofocus.data.rows.records import RECORD_TYPES
    from autofocus.demo import write_scenes

    parts = []
    for seed in (31, 32):
        rows = write_scenes(work / f"scenes{seed}", RECORD_TYPES[MULTICLASS], 160, seed)
        parts.append([json.loads(line) for line in rows.read_text().splitlines()])
        for row in parts[-1]:
            row["image_url"] = str(rows.parent / row["image_url"])
    yield parts[0], parts[1]


def _coco_multilabel(work: Path) -> Parts:
    yield from _folds(coco_multilabel_rows())


def _folds(rows: list[Row]) -> Parts:
    for fold in stratified_folds(rows):
        held_out = set(fold)
        yield [r for i, r in enumerate(rows) if i not in held_out], [rows[i] for i in fold]


SETS = {
    "bccd-crops": (MULTICLASS, _bccd_crops),
    "coco-kinds": (MULTICLASS, _coco_kinds),
    "scenes": (MULTICLASS, _scenes),
    "coco-multilabel": (MULTILABEL, _coco_multilabel),
}

if __name__ == "__main__":
    main()
