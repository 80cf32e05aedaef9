"""`autofocus data check --no-images` beside `orjson.loads` alone over the same file.

    python benchmarks/data_check.py --lines 2000000

Each reader is a process of its own, start-up included; they take turns, and the least CPU time of
each counts. Targets (docs/design.md): at most 1.5 times the CPU, less than 60 MB more memory.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FLOOR = "import sys, orjson\nfor line in open(sys.argv[1], 'rb'): orjson.loads(line)"
URL = (
    "azureml://subscriptions/my-subscription-id/resourcegroups/my-resource-group/workspaces/"
    "my-workspace/datastores/my-datastore/paths/image_data/Image_{:07d}.jpg"
)
DETAILS = '"image_details": {{"format": "jpg", "width": "{}px", "height": "{}px"}}'
CLASSES = [f"class_{i}" for i in range(20)]


def multiclass_label(rng: random.Random) -> str:
    return f'"{rng.choice(CLASSES)}"'


def multilabel_label(rng: random.Random) -> str:
    names = rng.sample(CLASSES, rng.randrange(4))
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def box(rng: random.Random) -> str:
    x, y = rng.random() * 0.7, rng.random() * 0.7
    return (
        f'{{"label": "{rng.choice(CLASSES)}", "topX": {x:.4f}, "topY": {y:.4f}, '
        f'"bottomX": {x + 0.2:.4f}, "bottomY": {y + 0.2:.4f}, "isCrowd": 0}}'
    )


def detection_label(rng: random.Random) -> str:
    return "[" + ", ".join(box(rng) for _ in range(8)) + "]"


def polygon(rng: random.Random) -> str:
    numbers = ", ".join(f"{rng.random():.4f}" for _ in range(60))
    return f'{{"label": "{rng.choice(CLASSES)}", "isCrowd": 0, "polygon": [[{numbers}]]}}'


def segmentation_label(rng: random.Random) -> str:
    return "[" + ", ".join(polygon(rng) for _ in range(4)) + "]"


LABELS: dict[str, Callable[[random.Random], str]] = {
    "image_classification": multiclass_label,
    "image_classification_multilabel": multilabel_label,
    "image_object_detection": detection_label,
    "image_instance_segmentation": segmentation_label,
}


def write_rows(path: Path, task: str, num_lines: int) -> None:
    rng = random.Random(0)
    with open(path, "w") as file:
        for i in range(num_lines):
            details = DETAILS.format(rng.randrange(200, 2000), rng.randrange(200, 2000))
            label = LABELS[task](rng)
            file.write(f'{{"image_url": "{URL.format(i)}", {details}, "label": {label}}}\n')


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its CPU seconds and its peak memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command} ended with {process.returncode}")
    per_mb = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / per_mb


def compare(path: Path, task: str, num_rounds: int) -> str:
    autofocus = [sys.executable, "-m", "autofocus", "data", "check", str(path)]
    commands = {
        "floor": [sys.executable, "-c", FLOOR, str(path)],
        "ours": [*autofocus, "--task", task, "--no-images", "--json"],
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(num_rounds):
        for name, command in commands.items():
            runs[name].append(measure(command))
    cpu_s = {name: min(cpu for cpu, _ in found) for name, found in runs.items()}
    rss_mb = {name: max(rss for _, rss in found) for name, found in runs.items()}
    return (
        f"{task:34}{path.stat().st_size / 1e6:>9.0f}{cpu_s['floor']:>9.2f}{cpu_s['ours']:>9.2f}"
        f"{cpu_s['ours'] / cpu_s['floor']:>8.2f}{rss_mb['floor']:>10.0f}{rss_mb['ours']:>9.0f}"
        f"{rss_mb['ours'] - rss_mb['floor']:>8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=LABELS, action="append")
    arguments = parser.parse_args()
    print(f"{arguments.lines} lines, least CPU of {arguments.rounds} rounds, greatest memory")
    print(
        f"{'task':34}{'file MB':>9}{'orjson s':>9}{'check s':>9}{'ratio':>8}"
        f"{'orjson MB':>10}{'check MB':>9}{'added':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        task = next(iter(LABELS))
        write_rows(path, task, 3)
        start = [sys.executable, "-m", "autofocus", "data", "check", str(path), "--task", task]
        start_s = min(measure([*start, "--no-images", "--json"])[0] for _ in range(3))
        print(f"{'start-up of check, included below':52}{start_s:>9.2f}")
        for task in arguments.task or LABELS:
            write_rows(path, task, arguments.lines)
            print(compare(path, task, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
