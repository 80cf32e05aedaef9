"""AutoMode beside one run of the default recipe and, for classifiers, the frozen probe.

    scripts/bench automode fridge --budget 5m
    scripts/bench automode bccd nuclei --budget 20m

All have the same rows and the same budget, one after the other, each the real command; the packaged
models are judged by images that took no part in training nor in any choice. Differences come with a
paired bootstrap 90 % interval over these images.

    fridge    134 photos in two stratified halves: seed 0 is judged by one, seed 1 by the other
    bccd      its own splits: 205 to learn from, 87 to choose by, 72 to judge by
    nuclei    65 images, 45 / 10 / 10, drawn once

Finished runs stay in `--work` (default: a folder below the system's temporary one) and are read
when the same command is given again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bootstrap import difference
from datasets import fridge_rows, stratified_folds, write_rows
from object_quality import SETS as OBJECT_SETS

from autofocus.data.sources.find import find_splits
from autofocus.runtime import no_progress
from autofocus.scoring.evaluate import evaluate_model
from autofocus.study.resolve import resolve
from autofocus.study.sources import read_sources
from autofocus.tasks import TASKS

MULTICLASS, _, DETECTION, SEGMENTATION = TASKS
NUM_BOOTSTRAPS = 1_000
METRICS = {
    MULTICLASS: ("accuracy", "log_loss"),
    DETECTION: ("mean_average_precision", "mean_average_precision_50_95"),
    SEGMENTATION: ("mean_average_precision", "mean_average_precision_50_95"),
}
# The rows of the fridge have absolute paths.
ROOT = {MULTICLASS: ("--image-root", "/"), DETECTION: (), SEGMENTATION: ()}
ONE = ("--set", "limits.max_trials=1")
KINDS = {
    "probe": (*ONE, "--set", "training_parameters.number_of_epochs=0"),
    "default": ONE,
    "automode": (),
}


@dataclass
class Judged:
    """Predictions of one kind of run for the test images, over all seeds."""

    predictions: list[Any]
    targets: list[Any]
    labels: list[str]
    settings: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", choices=["fridge", "bccd", "nuclei"])
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "automode")
    arguments = parser.parse_args()
    for name in arguments.sets:
        _compare(name, arguments.budget, arguments.work)


def _compare(name: str, budget: str, work: Path) -> None:
    seeds = (0, 1) if name == "fridge" else (0,)
    task_name, first = _split(name, seeds[0], work)
    kinds = KINDS if task_name == MULTICLASS else {k: KINDS[k] for k in ("default", "automode")}
    judged: dict[str, Judged] = {}
    for seed in seeds:
        split = first if seed == seeds[0] else _split(name, seed, work)[1]
        for kind, options in kinds.items():
            folder = work / f"{name}-{seed}-{kind}-{budget}"
            given = [*options, "--seed", str(seed), "--budget", budget]
            result = _trained(task_name, split, folder, given)
            _add(judged, kind, task_name, result, split["test-data"])
            print(f"{folder.name}: {_summary(result, METRICS[task_name])}", flush=True)
    task = TASKS[task_name]
    some = next(iter(judged.values()))
    print(f"{name}, {len(some.predictions)} images judge, budget {budget}:")
    for metric in METRICS[task_name]:
        for other in (kind for kind in kinds if kind != "automode"):
            _report(task, metric, judged[other], judged["automode"], other)


def _split(name: str, seed: int, work: Path) -> tuple[str, dict[str, Path]]:
    if name == "fridge":
        rows = fridge_rows()
        half = set(stratified_folds(rows, 2)[seed])
        folder = work / "fridge"
        return MULTICLASS, {
            "data": write_rows(
                folder / f"train{seed}.jsonl", [r for i, r in enumerate(rows) if i not in half]
            ),
            "test-data": write_rows(
                folder / f"test{seed}.jsonl", [r for i, r in enumerate(rows) if i in half]
            ),
        }
    task_name, split = OBJECT_SETS[name](work)
    if "test-data" not in split:
        found = find_splits(split["data"])
        split = {"data": found["train"], "validation-data": found["validation"]} | {
            "test-data": found["test"]
        }
    return task_name, split


def _trained(task: str, split: dict[str, Path], folder: Path, options: list[str]) -> dict[str, Any]:
    done = folder / "result.json"
    if not done.exists():
        given = [part for role, path in split.items() for part in (f"--{role}", str(path))]
        command = [sys.executable, "-m", "autofocus", "train", "--task", task, *given]
        command += ["--output-dir", str(folder), "--json", *ROOT[task], *options]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    result: dict[str, Any] = json.loads(done.read_bytes())
    return result


def _summary(result: dict[str, Any], metrics: tuple[str, ...]) -> str:
    rows = [f"{row['id']} {row['status']}" for row in result["trials"]]
    parts = [f"best {result['best_trial']} of {', '.join(rows)}, {result['seconds']:.0f} s"]
    for role in ("metrics", "test_metrics"):
        found = " ".join(f"{metric} {result[role][metric]:.4f}" for metric in metrics)
        parts.append(f"{'val ' if role == 'metrics' else 'test'} {found}")
    return "\n  ".join(parts)


def _add(
    judged: dict[str, Judged], kind: str, task: str, result: dict[str, Any], test: Path
) -> None:
    document = {"task": task, "training_data": str(test)}
    document |= {"image_root": "/"} if ROOT[task] else {}
    data = read_sources(resolve(document), no_progress).training
    scorers: list[Any] = []
    predictions: dict[int, Any] = {}

    def observe(scorer: Any, place: int, image: bytes, prediction: Any) -> None:
        scorers.append(scorer)
        predictions[place] = prediction

    evaluate_model(Path(result["best_model"]), data, observe=observe)
    scorer = scorers[0]
    records = [data.records[place] for place in sorted(predictions)]
    into = judged.setdefault(kind, Judged([], [], scorer.labels, scorer.manifest.settings))
    into.predictions += [predictions[place] for place in sorted(predictions)]
    into.targets += list(scorer.task.encode_targets(records, scorer.labels))


def _report(task: Any, metric: str, other: Judged, auto: Judged, name: str) -> None:
    def value(judged: Judged, rows: np.ndarray) -> float | None:
        targets: Any = [judged.targets[i] for i in rows]
        targets = np.asarray(targets) if np.isscalar(judged.targets[0]) else targets
        predictions = [judged.predictions[i] for i in rows]
        return task.evaluate(predictions, targets, judged.labels, judged.settings)[metric]

    is_quick = np.isscalar(auto.targets[0])
    text = difference(
        lambda rows: value(other, rows),
        lambda rows: value(auto, rows),
        len(auto.targets),
        NUM_BOOTSTRAPS if is_quick else NUM_BOOTSTRAPS // 5,
    )
    print(f"  {metric:30} {name} -> automode  {text}", flush=True)


if __name__ == "__main__":
    main()
