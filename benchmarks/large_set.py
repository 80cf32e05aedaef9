"""`autofocus train` on 100,000 small JPEG files: time to the first model, memory, images a second.

    scripts/bench large_set --budget 10m

The files are crops of real photos, 64 to 128 px, each moved, scaled, mirrored, made brighter or
darker and encoded anew: four fridge objects, three kinds of blood cell (BCCD) and three kinds of
object (coco128), ten classes in equal parts. Crops of one photo are a group. Files stay in
`--work` and are made once (about a minute on two cores).

Memory is the resident memory of all processes together, looked at five times a second; pages that
processes share or map from files are counted in each of them, so it is an upper bound.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import psutil
from datasets import GROUP_COLUMN, MULTICLASS, SHARED, Box, coco_boxes, is_large, voc_boxes

COCO_KINDS = ("person", "animal", "vehicle")
MIN_SIDE, MAX_SIDE = 64, 128
CHUNK = 1_000
POLL_S = 0.2
# A training's own line of its first pass.
FEATURES_LINE = re.compile(r"features of (\d+) images in ([\d.]+) s")


@dataclass(frozen=True)
class Source:
    """A place in a photo that shows a class."""

    photo: Path
    label: str
    box: Box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "large_set"))
    arguments = parser.parse_args()
    started_s = time.monotonic()
    data = _written(arguments.work / str(arguments.rows), arguments.rows)
    print(f"{arguments.rows} files after {time.monotonic() - started_s:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        _train(data, Path(work), arguments.budget)


def _written(folder: Path, num_rows: int) -> Path:
    """Return the JSONL file of the rows; it is there once all files are."""
    rows = folder / "rows.jsonl"
    if rows.exists():
        return rows
    starts = range(0, num_rows, CHUNK)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = pool.map(_write_chunk, starts, [num_rows] * len(starts), [folder] * len(starts))
        lines = [line for part in parts for line in part]
    rows.write_text("".join(lines))
    return rows


def _write_chunk(start: int, num_rows: int, folder: Path) -> list[str]:
    """Write up to 1,000 files; return their rows."""
    by_class = _sources()
    labels = sorted(by_class)
    (folder / f"{start // CHUNK:03d}").mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(start, min(start + CHUNK, num_rows)):
        rng = np.random.default_rng((7, i))
        sources = by_class[labels[i % len(labels)]]
        source = sources[rng.integers(len(sources))]
        url = f"{start // CHUNK:03d}/{i % CHUNK:03d}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 93))]
        cv2.imwrite(str(folder / url), _view(source, rng), quality)
        group = "/".join(source.photo.parts[-2:])
        row = {"image_url": url, "label": source.label, GROUP_COLUMN: group}
        lines.append(json.dumps(row) + "\n")
    return lines


@cache
def _sources() -> dict[str, list[Source]]:
    """Return the places of each class."""
    found: dict[str, list[Source]] = {}
    for source in _all_sources():
        found.setdefault(source.label, []).append(source)
    return found


def _all_sources() -> Iterator[Source]:
    for photo in sorted((SHARED / "fridge-multiclass").glob("*/*.jpg")):
        height, width = _pixels(photo).shape[:2]
        yield Source(photo, photo.parent.name, (width // 6, height // 6, width, height))
    for photo, label, box in voc_boxes("train"):
        if is_large(box):
            yield Source(photo, label, box)
    for photo, category, box in coco_boxes():
        if category["supercategory"] in COCO_KINDS:
            yield Source(photo, category["supercategory"], box)


@cache
def _pixels(photo: Path) -> np.ndarray:
    return cv2.imread(str(photo))


def _view(source: Source, rng: np.random.Generator) -> np.ndarray:
    """Return a square view around a place, BGR."""
    image, (left, top, right, bottom) = _pixels(source.photo), source.box
    size = max(right - left, bottom - top)
    side = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
    scale = side / (size * rng.uniform(0.9, 1.6))
    middle = np.array([left + right, top + bottom]) / 2 + rng.uniform(-0.15, 0.15, 2) * size
    flip = rng.choice([-1, 1])
    matrix = np.array([[flip * scale, 0.0, 0.0], [0.0, scale, 0.0]])
    matrix[:, 2] = side / 2 - matrix[:, :2] @ middle
    view = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.convertScaleAbs(view, alpha=rng.uniform(0.8, 1.2))


def _train(data: Path, work: Path, budget: str) -> None:
    folder = work / "run"
    command = [
        sys.executable,
        "-m",
        "autofocus",
        "train",
        "--task",
        MULTICLASS,
        "--data",
        str(data),
    ]
    command += ["--group-column", GROUP_COLUMN, "--budget", budget]
    command += ["--output-dir", str(folder), "--json"]
    environment = {**os.environ, "AUTOFOCUS_CACHE": str(work / "cache")}
    log, output = work / "log.txt", work / "result.json"
    started_s = time.monotonic()
    with log.open("w") as errors, output.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        peak_bytes, first_s = _watch(process, folder / "best_model", started_s)
    seconds = time.monotonic() - started_s
    said = log.read_text()
    if process.returncode:
        sys.exit(said)
    result = json.loads(output.read_bytes())
    decisions = (folder / "decisions.jsonl").read_text().splitlines()
    print(f"first model      {first_s:.1f} s")
    print(f"whole command    {seconds:.1f} s of {budget}")
    print(f"peak memory      {peak_bytes / 1e6:.0f} MB, all processes")
    for num_images, spent_s in FEATURES_LINE.findall(said):
        rate = int(num_images) / max(float(spent_s), 0.1)
        print(f"features         {num_images} images in {spent_s} s, {rate:.0f} images/s")
    print(f"served           {result['best_trial']}")
    for name in ("accuracy", "log_loss"):
        print(f"{name:16} {result['metrics'][name]:.4f}")
    for row in result["trials"]:
        print(f"  {row['id']} {row['model']} {row['status']} {row['seconds']:.0f} s")
    print(f"last decision    {decisions[-1]}")


def _watch(process: subprocess.Popen[bytes], model: Path, started_s: float) -> tuple[int, float]:
    """Wait for the end; return the peak memory in bytes and the seconds to the first model."""
    peak_bytes, first_s = 0, float("inf")
    while process.poll() is None:
        peak_bytes = max(peak_bytes, _resident_bytes(process.pid))
        if first_s == float("inf") and model.exists():
            first_s = time.monotonic() - started_s
        time.sleep(POLL_S)
    return peak_bytes, first_s


def _resident_bytes(pid: int) -> int:
    """Return the memory of a process and of all that it started; 0 once it has ended."""
    total = 0
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        # One ended between being listed and being looked at; what was counted is a lower bound.
        return total
    return total


if __name__ == "__main__":
    main()
