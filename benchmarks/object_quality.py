"""Quality of the real command on real photos with objects, on images it has never seen.

    python benchmarks/object_quality.py bccd --budget 15m --kinds automode default
    python benchmarks/object_quality.py nuclei --budget 15m
    python benchmarks/object_quality.py masks-1024 --budget 6m
    python benchmarks/object_quality.py bccd --kinds default --budget 5m --models \
        fcos_tf_efficientnet_lite0_fpn retinanet_tf_efficientnet_lite0_fpn
    python benchmarks/object_quality.py bccd-tune --kinds default --budget 5m --seeds 0 1

    bccd        BCCD with its own splits: 205 to train on, 87 to choose the epoch by, 72 to judge by
    bccd-tune   its 205 training images alone, 160 and 45: recipes are chosen here, where nothing
                that a figure rests on is seen
    nuclei      65 images of nuclei, 45 / 10 / 10, drawn once
    masks-1024  coco128's photos with its three commonest classes, scaled to 1024 px: 50 to learn
                from, the others to judge by
    masks       the same photos as they are

Kinds are `automode`, the command as it is, and `default`, one run of the default recipe. Test mAP
has a 90 % interval, resampled over the test images; a second kind is compared with the first on the
same images. Runs stay in `--work`, so that the same command goes on where it was stopped.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from bootstrap import difference
from datasets import SHARED, write_rows

from autofocus.data.sources.find import find_splits
from autofocus.runtime import no_progress
from autofocus.scoring.evaluate import evaluate_model
from autofocus.study.resolve import resolve
from autofocus.study.sources import read_sources
from autofocus.tasks import TASKS

DETECTION, SEGMENTATION = list(TASKS)[2:]
NUM_DRAWS = 200
METRIC = "mean_average_precision"
KINDS = {"automode": (), "default": ("--set", "limits.max_trials=1")}
Split = dict[str, Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--budget", default="15m")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["automode"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--models", nargs="+", default=[""], help="catalog names; default: ours")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="autofocus-"))
    task, splits = SETS[arguments.set](work)
    for model in arguments.models:
        for seed in arguments.seeds:
            judged: list[Judged] = []
            for kind in arguments.kinds:
                name = f"{arguments.set}-{kind}-{model or 'ours'}-{seed}-{arguments.budget}"
                options = [*KINDS[kind], "--seed", str(seed), "--budget", arguments.budget]
                options += ["--model", model] if model else []
                options += [part for text in arguments.assignments for part in ("--set", text)]
                result = _train(task, splits, work / name, options)
                _print(name, work / name, result)
                if "test-data" in splits:
                    judged.append(_judged(task, result, splits["test-data"]))
                    _compare(task, judged[0], judged[-1])


def _train(task: str, splits: Split, folder: Path, options: list[str]) -> dict[str, Any]:
    given = [part for role, path in splits.items() for part in (f"--{role}", str(path))]
    command = [sys.executable, "-m", "autofocus", "train", "--task", task, *given]
    command += ["--output-dir", str(folder), "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _print(name: str, run: Path, result: dict[str, Any]) -> None:
    job = json.loads((run / "request.json").read_text())["job"]
    share = result["seconds"] / resolve(job).job.budget_s
    print(f"{name}: {result['seconds']:.0f} s, {100 * share:.0f} % of the budget")
    made = [json.loads(line) for line in (run / "decisions.jsonl").read_text().splitlines()]
    for row in result["trials"]:
        network = next(each for each in made if _is_of(each, "network", row["id"]))
        recipe = next(each for each in made if _is_of(each, "recipe", row["id"]))
        served = ", served" if row["id"] == result["best_trial"] else ""
        print(
            f"  trial {row['id']}{served}: {row['model']} {row['parameters']} at "
            f"{max(network['size'])} px, {row['epochs']} of {recipe['num_epochs']} epochs, "
            f"{row['seconds']:.0f} s, {row['reason']}, val {_shown(row['value'])}"
        )
    print(f"  last decision: {json.dumps(made[-1])[:300]}")
    for role in ("metrics", "test_metrics"):
        metrics = result[role]
        if metrics is None:
            continue
        print(
            f"  {'val ' if role == 'metrics' else 'test'} mAP@.5 "
            f"{metrics[METRIC]:.4f}  AP@[.50:.95] {metrics[f'{METRIC}_50_95']:.4f}  "
            f"precision {metrics['precision']:.3f}  recall {metrics['recall']:.3f}"
        )
        for row in metrics["per_label_metrics"]:
            print(
                f"       {row['class_name']:<12} AP@.5 {_shown(row['average_precision'])}  "
                f"AP {_shown(row['average_precision_50_95'])}"
            )
    sys.stdout.flush()


def _is_of(decision: dict[str, Any], what: str, trial: str) -> bool:
    return decision["decision"] == what and decision["trial"] == trial


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


class Judged(NamedTuple):
    """Predictions of a packaged model for the test images."""

    predictions: list[Any]
    targets: list[Any]
    labels: list[str]
    settings: dict[str, Any]


def _judged(task: str, result: dict[str, Any], test: Path) -> Judged:
    data = read_sources(resolve({"task": task, "training_data": str(test)}), no_progress).training
    scorers: list[Any] = []
    found: dict[int, Any] = {}

    def observe(scorer: Any, place: int, image: bytes, prediction: Any) -> None:
        scorers.append(scorer)
        found[place] = prediction

    evaluate_model(Path(result["best_model"]), data, observe=observe)
    scorer, places = scorers[0], sorted(found)
    targets = scorer.task.encode_targets([data.records[place] for place in places], scorer.labels)
    settings = scorer.manifest.settings
    return Judged([found[place] for place in places], list(targets), scorer.labels, settings)


def _compare(task: str, first: Judged, second: Judged) -> None:
    """Print test mAP with its interval, and beside the first kind's on the same images."""

    def value(judged: Judged, rows: np.ndarray) -> float | None:
        chosen = [judged.predictions[i] for i in rows], [judged.targets[i] for i in rows]
        metric: float | None = TASKS[task].evaluate(*chosen, judged.labels, judged.settings)[METRIC]
        return metric

    num_images = len(second.targets)
    alone = difference(lambda rows: 0.0, lambda rows: value(second, rows), num_images, NUM_DRAWS)
    if alone is not None:
        print(f"  test mAP@.5 {alone.after:.4f} [{alone.low:.4f}, {alone.high:.4f}], 90 %")
    if second is not first:
        pair = [lambda rows, one=one: value(one, rows) for one in (first, second)]
        print(f"  beside the first kind: {difference(*pair, num_images, NUM_DRAWS)}")
    sys.stdout.flush()


def _bccd(work: Path) -> tuple[str, Split]:
    found = find_splits(SHARED / "bccd-voc")
    return DETECTION, {
        "data": found["train"],
        "validation-data": found["validation"],
        "test-data": found["test"],
    }


def _bccd_tune(work: Path) -> tuple[str, Split]:
    rows = _converted(SHARED / "bccd-voc", DETECTION, work / "bccd")
    return DETECTION, _drawn(rows, work / "bccd", {"data": 160, "validation-data": 45})


def _nuclei(work: Path) -> tuple[str, Split]:
    rows = _converted(SHARED / "nuclei-masks", SEGMENTATION, work / "nuclei")
    sizes = {"data": 45, "validation-data": 10, "test-data": 10}
    return SEGMENTATION, _drawn(rows, work / "nuclei", sizes)


def _masks(work: Path, side: int | None = None) -> tuple[str, Split]:
    folder = work / f"masks-{side}"
    rows = [json.loads(row) for row in _converted(SHARED / "coco128", SEGMENTATION, work / "coco")]
    counts = Counter(name for row in rows for name in {one["label"] for one in row["label"]})
    names = {name for name, _ in counts.most_common(3)}
    for row in rows:
        row["label"] = [one for one in row["label"] if one["label"] in names]
    rows = [_scaled(row, work / "coco", folder, side) for row in rows if row["label"]]
    order = random.Random(5).sample(rows, len(rows))
    return SEGMENTATION, {
        "data": write_rows(folder / "train.jsonl", order[:50]),
        "test-data": write_rows(folder / "test.jsonl", order[50:]),
    }


def _scaled(row: dict[str, Any], source: Path, folder: Path, side: int | None) -> dict[str, Any]:
    """Write a row's photo with this longer side; outlines are in fractions and stay."""
    path = source / row["image_url"]
    pixels = cv2.imread(str(path))
    scale = 1.0 if side is None else side / max(pixels.shape[:2])
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{path.stem}.jpg"
    height, width = (round(scale * each) for each in pixels.shape[:2])
    scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / name), scaled)
    details = {"format": "jpg", "width": width, "height": height}
    return {"image_url": name, "image_details": details, "label": row["label"]}


def _converted(source: Path, task: str, folder: Path) -> list[str]:
    """Return the rows of a source's training split."""
    if not (folder / "train.jsonl").exists():
        command = [sys.executable, "-m", "autofocus", "data", "convert", str(source)]
        command += ["--to", "jsonl", "--task", task, "-o", str(folder)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (folder / "train.jsonl").read_text().splitlines()


def _drawn(rows: list[str], folder: Path, sizes: dict[str, int]) -> Split:
    """Split rows at random, the same on every call."""
    order = random.Random(5).sample(rows, len(rows))
    splits = {}
    for role, size in sizes.items():
        part, order = order[:size], order[size:]
        splits[role] = folder / f"{role}.jsonl"
        splits[role].write_text("\n".join(part) + "\n")
    return splits


SETS = {
    "bccd": _bccd,
    "bccd-tune": _bccd_tune,
    "nuclei": _nuclei,
    "masks": _masks,
    "masks-1024": lambda work: _masks(work, 1024),
}

if __name__ == "__main__":
    main()
