"""Quality of the real command on real photos with objects, on images it has never seen.

    python benchmarks/object_quality.py bccd --budget 15m --seeds 0 1
    python benchmarks/object_quality.py bccd --budget 5m --models fcos_tf_efficientnet_lite0_fpn \
        retinanet_tf_efficientnet_lite0_fpn fasterrcnn_tf_efficientnet_lite0_fpn
    python benchmarks/object_quality.py nuclei --budget 15m
    python benchmarks/object_quality.py bccd-tune --budget 5m

    bccd        BCCD with its own splits: 205 to train on, 87 to choose the epoch by, 72 to judge by
    bccd-tune   its 205 training images alone, 160 and 45: recipes are chosen here, where nothing
                that a figure rests on is seen
    nuclei      65 images of nuclei, 45 / 10 / 10, drawn once

Runs one after the other; each prints its line as it ends. Runs stay in `--work`, so that the same
command goes on where it was stopped.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import SHARED

from autofocus.tasks import TASKS

DETECTION, SEGMENTATION = list(TASKS)[2:]
Split = dict[str, Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--budget", default="15m")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--models", nargs="+", default=[""], help="catalog names; default: ours")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="autofocus-"))
    task, splits = SETS[arguments.set](work)
    for model in arguments.models:
        for seed in arguments.seeds:
            name = f"{arguments.set}-{model or 'default'}-{seed}-{arguments.budget}"
            options = ["--seed", str(seed), "--budget", arguments.budget]
            options += ["--model", model] if model else []
            options += [part for text in arguments.assignments for part in ("--set", text)]
            _print(name, _train(task, splits, work / name, options))


def _train(task: str, splits: Split, folder: Path, options: list[str]) -> dict[str, Any]:
    given = [part for role, path in splits.items() for part in (f"--{role}", str(path))]
    command = [sys.executable, "-m", "autofocus", "train", "--task", task, *given]
    # One recipe: what AutoMode adds is for automode.py to say.
    command += ["--output-dir", str(folder), "--json", "--set", "limits.max_trials=1", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _print(name: str, result: dict[str, Any]) -> None:
    (trial,) = result["trials"]
    print(f"{name}: {trial['model']}, {trial['epochs']} epochs, {result['seconds']:.0f} s")
    for role in ("metrics", "test_metrics"):
        metrics = result[role]
        if metrics is None:
            continue
        print(
            f"  {'val ' if role == 'metrics' else 'test'} mAP@.5 "
            f"{metrics['mean_average_precision']:.4f}  AP@[.50:.95] "
            f"{metrics['mean_average_precision_50_95']:.4f}  precision {metrics['precision']:.3f}  "
            f"recall {metrics['recall']:.3f}"
        )
        for row in metrics["per_label_metrics"]:
            print(
                f"       {row['class_name']:<12} AP@.5 {_shown(row['average_precision'])}  "
                f"AP {_shown(row['average_precision_50_95'])}"
            )
    sys.stdout.flush()


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _bccd(work: Path) -> tuple[str, Split]:
    return DETECTION, {"data": SHARED / "bccd-voc"}


def _bccd_tune(work: Path) -> tuple[str, Split]:
    rows = _converted(SHARED / "bccd-voc", DETECTION, work / "bccd")
    return DETECTION, _drawn(rows, work / "bccd", {"data": 160, "validation-data": 45})


def _nuclei(work: Path) -> tuple[str, Split]:
    rows = _converted(SHARED / "nuclei-masks", SEGMENTATION, work / "nuclei")
    sizes = {"data": 45, "validation-data": 10, "test-data": 10}
    return SEGMENTATION, _drawn(rows, work / "nuclei", sizes)


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


SETS = {"bccd": _bccd, "bccd-tune": _bccd_tune, "nuclei": _nuclei}

if __name__ == "__main__":
    main()
