"""What fine-tuning adds to the frozen probe, on images that neither has seen.

    python benchmarks/finetune_gain.py bccd-crops coco-crops scenes --budget 2m
    python benchmarks/finetune_gain.py coco-multilabel --budget 2m

Both are the real command on the same rows, the default recipe alone: once with the budget, once
with `number_of_epochs=0`. Prints the difference with a bootstrap 90 % interval over images.

    bccd-crops        blood cells cut from BCCD by their boxes (half a box of margin), 60 a class
                      from its training images; judged on 60 a class from its test images
    coco-crops        objects cut from coco128, the 6 most frequent categories with both sides
                      above 40 px; images in even places train, the others judge
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


def _voc_crops(root: Path, split: str, folder: Path) -> list[Row]:
    rows: list[Row] = []
    folder.mkdir(parents=True)
    for name in (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        image = cv2.imread(str(root / "JPEGImages" / f"{name}.jpg"))
        for i, item in enumerate(ET.parse(root / "Annotations" / f"{name}.xml").iter("object")):
            box = [
                int(float(item.findtext(f"bndbox/{k}"))) for k in ("xmin", "ymin", "xmax", "ymax")
            ]
            path = folder / f"{name}-{i}.png"
            if _write_crop(image, box, path):
                rows.append({"image_url": str(path), "label": item.findtext("name")})
    return rows


def _coco_crops(work: Path) -> Parts:
    document = json.loads((SHARED / "coco128" / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in document["categories"]}
    files = {image["id"]: image["file_name"] for image in document["images"]}
    places = {image_id: k for k, image_id in enumerate(sorted(files))}
    big = [a for a in document["annotations"] if min(a["bbox"][2:]) > 40 and not a["iscrowd"]]
    frequent = [n for n, _ in Counter(names[a["category_id"]] for a in big).most_common(6)]
    parts: tuple[list[Row], list[Row]] = ([], [])
    (work / "crops").mkdir()
    for a in big:
        if names[a["category_id"]] not in frequent:
            continue
        image = cv2.imread(str(SHARED / "coco128" / "images" / files[a["image_id"]]))
        x, y, w, h = a["bbox"]
        path = work / "crops" / f"{a['id']}.png"
        if _write_crop(image, [int(x), int(y), int(x + w), int(y + h)], path):
            row: Row = {"image_url": str(path), "label": names[a["category_id"]]}
            parts[places[a["image_id"]] % 2].append(row)
    yield _limited(parts[0]), _limited(parts[1])


def _write_crop(image: np.ndarray, box: list[int], path: Path) -> bool:
    left, top, right, bottom = box
    if right - left < 8 or bottom - top < 8:
        return False
    margin_x, margin_y = (right - left) // 4, (bottom - top) // 4
    crop = image[
        max(0, top - margin_y) : bottom + margin_y, max(0, left - margin_x) : right + margin_x
    ]
    return bool(cv2.imwrite(str(path), crop))


def _limited(rows: list[Row]) -> list[Row]:
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[str(row["label"])].append(row)
    rng = np.random.default_rng(0)
    kept = []
    for label in sorted(by_class):
        order = rng.permutation(len(by_class[label]))[:CROPS_A_CLASS]
        kept += [by_class[label][i] for i in sorted(order)]
    return kept


def _scenes(work: Path) -> Parts:
    from autofocus.data.records import RECORD_TYPES
    from autofocus.data.scenes import write_scenes

    parts = []
    for seed in (31, 32):
        rows = write_scenes(work / f"scenes{seed}", RECORD_TYPES[MULTICLASS], 160, seed)
        parts.append([json.loads(line) for line in rows.read_text().splitlines()])
        for row in parts[-1]:
            row["image_url"] = str(rows.parent / row["image_url"])
    yield parts[0], parts[1]


def _coco_multilabel(work: Path) -> Parts:
    rows = coco_multilabel_rows()
    for fold in stratified_folds(rows):
        held_out = set(fold)
        yield [r for i, r in enumerate(rows) if i not in held_out], [rows[i] for i in fold]


SETS = {
    "bccd-crops": (MULTICLASS, _bccd_crops),
    "coco-crops": (MULTICLASS, _coco_crops),
    "scenes": (MULTICLASS, _scenes),
    "coco-multilabel": (MULTILABEL, _coco_multilabel),
}

if __name__ == "__main__":
    main()
