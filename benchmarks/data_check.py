"""`autofocus data check --no-images` beside `orjson.loads` alone over the same file.

    python benchmarks/data_check.py --lines 2000000
    python benchmarks/data_check.py --photos 100000

Each reader is a process of its own, start-up included; they take turns, and the least CPU time of
each counts. Targets (docs/design.md): at most 1.5 times the CPU, less than 60 MB more memory.

With `--photos`: `data check` of a folder a class beside what it cannot do without, which is to read
and hash each file, or with `--decode` to decode it. The photos are those of the fridge, each with a
number behind its end, so that none is a copy of another.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

FLOOR = "import sys, orjson\nfor line in open(sys.argv[1], 'rb'): orjson.loads(line)"
HASH = """
import hashlib, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            hashlib.blake2b(file.read(), digest_size=16).hexdigest()
"""
DECODE = """
import os, sys
from autofocus.data.images.decode import decode
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            decode(file.read())
"""
URL = (
    "azureml://subscriptions/my-subscription-id/resourcegroups/my-resource-group/workspaces/"
    "my-workspace/datastores/my-datastore/paths/image_data/Image_{:07d}.jpg"
)
DETAILS = '"image_details": {{"format": "jpg", "width": "{}px", "height": "{}px"}}'
HEADER = "{:34}{:>9}{:>9}  check s   ratio{:>10} check MB   added"
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
    return line_of(task, path.stat().st_size, commands, num_rounds)


def line_of(name: str, num_bytes: int, commands: dict[str, list[str]], num_rounds: int) -> str:
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(num_rounds):
        for who, command in commands.items():
            runs[who].append(measure(command))
    cpu_s = {who: min(cpu for cpu, _ in found) for who, found in runs.items()}
    rss_mb = {who: max(rss for _, rss in found) for who, found in runs.items()}
    return (
        f"{name:34}{num_bytes / 1e6:>9.0f}{cpu_s['floor']:>9.2f}{cpu_s['ours']:>9.2f}"
        f"{cpu_s['ours'] / cpu_s['floor']:>8.2f}{rss_mb['floor']:>10.0f}{rss_mb['ours']:>9.0f}"
        f"{rss_mb['ours'] - rss_mb['floor']:>8.0f}"
    )


def write_photos(folder: Path, data: Path, num_photos: int) -> int:
    """Write photos into a folder a class; return their bytes."""
    photos = [(file.parent.name, file.read_bytes()) for file in sorted(data.rglob("*.jpg"))]
    for name in {name for name, _ in photos}:
        (folder / name).mkdir(parents=True)
    num_bytes = 0
    for i in range(num_photos):
        name, content = photos[i % len(photos)]
        num_bytes += (folder / name / f"IMG_{i:07d}.jpg").write_bytes(content + b"%07d" % i)
    return num_bytes


def compare_photos(folder: Path, num_bytes: int, num_rounds: int) -> Iterator[str]:
    """Yield a line for files and headers, and one for whole images."""
    check = [sys.executable, "-m", "autofocus", "data", "check", str(folder), "--json"]
    for name, floor, flags in (("headers", HASH, []), ("pixels", DECODE, ["--decode"])):
        commands = {
            "floor": [sys.executable, "-c", floor, str(folder)],
            "ours": [*check, *flags],
        }
        yield line_of(name, num_bytes, commands, num_rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=LABELS, action="append")
    parser.add_argument("--photos", type=int, help="check so many photos instead of rows")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/fridge-multiclass"))
    arguments = parser.parse_args()
    if arguments.photos:
        print(f"{arguments.photos} photos, least CPU of {arguments.rounds} rounds, greatest memory")
        print(HEADER.format("work", "photos MB", "floor s", "floor MB"))
        with tempfile.TemporaryDirectory() as folder:
            num_bytes = write_photos(Path(folder), arguments.data, arguments.photos)
            for line in compare_photos(Path(folder), num_bytes, arguments.rounds):
                print(line, flush=True)
        return
    print(f"{arguments.lines} lines, least CPU of {arguments.rounds} rounds, greatest memory")
    print(HEADER.format("task", "file MB", "orjson s", "orjson MB"))
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
