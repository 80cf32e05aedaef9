"""`autofocus batch` beside a plain loop of decode + inference on all cores.

    python benchmarks/batch.py [--images 10000] [--rounds 2] [--photos FOLDER] [--model FOLDER]

The photos are hard links (copies where a file system has none) of those below `--photos`, by
default the real ones in ../shared/data; the model is tf_efficientnet_lite0 at 224 px with random
weights, on which speed does not depend. Each of these is a process of its own, with its start and
the loading of its model, and they take turns:

* batch       the command as users start it, which also writes the output
* threads     read, decode, preprocess and the network in as many threads as cores, one image each
* processes   the same in as many processes as cores, each with the model

CPU time is user + system with child processes; memory is the peak of the largest process alone.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from serve_peers import build_model

from autofocus.data.formats.layout import walk_images
from autofocus.manifest import read_manifest
from autofocus.runtime import num_cores
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.scorer import ONNX_NAME, prepare

PHOTOS = Path(__file__).parents[2] / "shared" / "data"
NUM_LABELS = 20
KINDS = ("batch", "threads", "processes")


def main() -> None:
    arguments = parse_arguments()
    if arguments.plain:
        plain_loop(arguments.plain, arguments.model, arguments.photos)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        given = arguments.model
        model = resolve_model(given) if given else build_model(folder / "model", NUM_LABELS)
        num_bytes = link_photos(arguments.photos, folder / "photos", arguments.images)
        rows: dict[str, list[Usage]] = {kind: [] for kind in KINDS}
        for _ in range(arguments.rounds):
            for kind in KINDS:
                rows[kind].append(measure(kind, model, folder))
        check_output(folder / "out.jsonl", arguments.images)
    print(f"{arguments.images:,} photos, {num_bytes / arguments.images / 1e3:.0f} KB each")
    report(rows, arguments.images)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of real photos")
    parser.add_argument("--model", type=Path, help="model folder instead of a random lite0")
    parser.add_argument("--plain", choices=KINDS[1:], help=argparse.SUPPRESS)
    return parser.parse_args()


def link_photos(source: Path, folder: Path, number: int) -> int:
    """Fill a folder with so many names of the photos; return their bytes."""
    photos = [path for path in walk_images(source) if path.suffix.lower() in (".jpg", ".jpeg")]
    if not photos:
        raise SystemExit(f"{source}: no JPEG files; name a folder with --photos")
    folder.mkdir()
    num_bytes = 0
    for i in range(number):
        photo = photos[i % len(photos)]
        link(photo, folder / f"{i:06}.jpg")
        num_bytes += photo.stat().st_size
    return num_bytes


def link(photo: Path, name: Path) -> None:
    try:
        name.hardlink_to(photo)
    except OSError:  # another file system
        shutil.copyfile(photo, name)


class Usage:
    """What one process took, with its children that ended."""

    def __init__(self, command: list[str]) -> None:
        started_s = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        self.wall_s = time.monotonic() - started_s
        self.cpu_s = used.ru_utime + used.ru_stime
        self.peak_mib = used.ru_maxrss / 1024


def measure(kind: str, model: Path, folder: Path) -> Usage:
    if kind == "batch":
        output = ("-o", str(folder / "out.jsonl"), "--overwrite")
        command = ["-m", "autofocus", "batch", str(model), str(folder / "photos"), *output]
    else:
        paths = ("--model", str(model), "--photos", str(folder / "photos"))
        command = [__file__, "--plain", kind, *paths]
    return Usage([sys.executable, *command])


def plain_loop(kind: str, model: Path, photos: Path) -> None:
    paths = sorted(photos.iterdir())
    parts = [paths[i :: num_cores()] for i in range(num_cores())]
    if kind == "threads":
        score = Loop(model)
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(score, parts))
        return
    with multiprocessing.get_context("spawn").Pool(len(parts)) as pool:
        pool.starmap(score_part, [(model, part) for part in parts], chunksize=1)
        pool.close()
        pool.join()


class Loop:
    """Decode and inference, and nothing else."""

    def __init__(self, model: Path) -> None:
        self._spec = read_manifest(model).preprocess
        self._backend = OnnxBackend(model / ONNX_NAME, num_threads=1)

    def __call__(self, paths: list[Path]) -> None:
        for path in paths:
            tensor, _ = prepare(path.read_bytes(), self._spec)
            self._backend.run(np.stack([tensor]))


def score_part(model: Path, paths: list[Path]) -> None:
    Loop(model)(paths)


def check_output(output: Path, number: int) -> None:
    names = [json.loads(line)["filename"] for line in read_lines(output)]
    if names != sorted(names) or len(set(names)) != number:
        raise SystemExit(f"{output}: {len(names)} lines, {len(set(names))} images of {number}")


def read_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def report(rows: dict[str, list[Usage]], number: int) -> None:
    rounds = len(rows["batch"])
    print(f"{num_cores()} cores, median of {rounds} rounds, starts included")
    print("| what | CPU ms an image | wall ms an image | images/s | peak MiB, largest process |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        cpu, wall, peak = (
            statistics.median(getattr(usage, name) for usage in rows[kind])
            for name in ("cpu_s", "wall_s", "peak_mib")
        )
        figures = f"{cpu * 1e3 / number:.2f} | {wall * 1e3 / number:.2f} | {number / wall:.0f}"
        print(f"| {kind} | {figures} | {peak:.0f} |")
    for kind in KINDS[1:]:
        for name, what in (("cpu_s", "CPU"), ("wall_s", "wall")):
            ratios = [
                getattr(plain, name) / getattr(ours, name)
                for ours, plain in zip(rows["batch"], rows[kind], strict=True)
            ]
            print(f"{what}: {kind} / batch, each round: {', '.join(f'{r:.2f}' for r in ratios)}")


if __name__ == "__main__":
    main()
