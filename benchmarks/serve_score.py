"""Servers of one model beside each other: CPU milliseconds a request, requests a second, latency.

    python benchmarks/serve_score.py [--task detection] [--rounds 5] [--seconds 3]
    python benchmarks/serve_score.py --model FOLDER --image FILE --peers autofocus

By itself: tf_efficientnet_lite0 at 224 px with 1,000 labels, or the default detector at 416 px,
with random weights (speed does not depend on them), and one fixed 50 KB JPEG. Any other package
with a photo of its own kind: how many objects there are decides what the postprocessing of a
detector costs, so noise will not do.

The servers (`serve_peers.py`) run side by side; one at a time is measured, with 1, 8 and 32 clients
that keep their connections or make a new one for each request. They take turns within a round;
figures are medians over the rounds. What has been measured is kept in a file of the cache folder:
the same command goes on where it was stopped.

CPU time is user + system of a server's whole process tree, read from /proc (Linux). The one client
(`serve_client.py`) runs in this process and is not counted, but takes its part of the cores, from
all servers the same. The floor is decode, preprocess and the network as the package runs them, in
one process; what comes after (thresholds, suppression, merged tiles, the reply's objects) is beside
it. The busy floor is the same loop in one process a core at once: cores of one machine share
caches, and often two of them are one core, so that a server cannot do better than it.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from serve_client import drive
from serve_peers import OURS, PEERS, WORKERS, Server, build_detector, build_model, make_jpeg

import autofocus
from autofocus.data.images.decode import decode
from autofocus.manifest import read_manifest
from autofocus.runtime import cache_dir, write_atomically
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.scorer import MAX_BATCH, ONNX_NAME, Scorer, prepare
from autofocus.scoring.tiling import tile_views
from autofocus.tasks import TASKS

CONCURRENCIES = (1, 8, 32)
# Before each measurement: connections spread over processes, and caches fill.
WARM_UP_S = 0.4
FLOOR_IMAGES = 150
# Pillow's and our own resize differ; a server with another model, or none, is far off.
TOLERANCE = 0.05

FLOOR = "floor"
SOURCES = (Path(autofocus.__file__).parent, Path(__file__).parent / "peers")


class Spot(NamedTuple):
    """One measurement among all: its round, its clients and the server, or the floor's."""

    round: int
    server: str
    concurrency: int = 0
    kept_alive: bool = True


Row = dict[str, float]


def main() -> None:
    arguments = parse_arguments()
    peers = [peer for peer in PEERS if not arguments.peers or peer.name in arguments.peers]
    image = arguments.image.read_bytes() if arguments.image else make_jpeg()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = package(arguments, image, Path(folder) / "model")
        results = arguments.results or cache_dir() / "serve_score" / f"{arguments.task}.json"
        rows = read_rows(results, fingerprint(arguments, image))
        if rows:
            print(f"{results}: goes on after {len(rows)} measurements", file=sys.stderr)
        servers = []
        for number, peer in enumerate(peers):
            servers.append(Server(peer, model, image, Path(folder) / f"{number}.log"))
            stack.callback(servers[-1].stop)
        check_replies(servers)
        for spot in spots(arguments, [peer.name for peer in peers]):
            if spot not in rows:
                rows[spot] = measure(spot, model, image, servers, arguments.seconds)
                write_rows(results, fingerprint(arguments, image), rows)
        report(rows, describe(model, image), servers)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=("classification", "detection"), default="classification")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS], default=[])
    parser.add_argument("--concurrency", nargs="+", type=int, default=list(CONCURRENCIES))
    parser.add_argument("--model", type=Path, help="model folder instead of a random one")
    parser.add_argument("--image", type=Path, help="image file instead of the coffee photo")
    parser.add_argument("--results", type=Path, help="file of what has been measured")
    return parser.parse_args()


def package(arguments: argparse.Namespace, image: bytes, folder: Path) -> Path:
    """Return the package to serve."""
    if arguments.model:
        return resolve_model(arguments.model)
    if arguments.task == "detection":
        return build_detector(folder, image)
    return build_model(folder)


def fingerprint(arguments: argparse.Namespace, image: bytes) -> str:
    """Return what measurements depend on, but for their spots: code, versions, model and photo."""
    digest = hashlib.sha256(image)
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update(repr([peer.packages for peer in PEERS]).encode())
    return f"{digest.hexdigest()} {arguments.task} {arguments.model} {arguments.seconds:g} s"


def read_rows(path: Path, of: str) -> dict[Spot, Row]:
    """Return what has been measured of the same things."""
    if not path.exists():
        return {}
    document = json.loads(path.read_bytes())
    if document["of"] != of:
        print(f"{path}: measured with other code or flags; all begins anew", file=sys.stderr)
        return {}
    return {Spot(*spot): row for spot, row in document["rows"]}


def write_rows(path: Path, of: str, rows: dict[Spot, Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"of": of, "rows": list(rows.items())}).encode())


def check_replies(servers: list[Server]) -> None:
    """Check that each server answers as the first does, as near as two ways to resize may be.

    Raises:
        SystemExit: Names the server whose answer is another.
    """
    first, *others = [(server.peer.name, gist(server.reply)) for server in servers]
    for name, answer in others:
        if abs(answer - first[1]) > TOLERANCE:
            raise SystemExit(f"{name} answers {answer:.4f}, {first[0]} {first[1]:.4f}")


def gist(reply: bytes) -> float:
    """Return the best score in a reply of one image."""
    document = json.loads(reply)
    (image,) = document["predictions"] if isinstance(document, dict) else document
    return max(image["probs"] if "probs" in image else (box["score"] for box in image["boxes"]))


def spots(arguments: argparse.Namespace, names: list[str]) -> Iterator[Spot]:
    """Yield the measurements in order; another server begins in each round."""
    for number in range(arguments.rounds):
        yield Spot(number, FLOOR)
        turn = number % len(names)
        for kept_alive, concurrency in product((True, False), arguments.concurrency):
            for name in names[turn:] + names[:turn]:
                yield Spot(number, name, concurrency, kept_alive)


def measure(spot: Spot, model: Path, image: bytes, servers: list[Server], seconds: float) -> Row:
    if spot.server == FLOOR:
        floor, after = floor_ms(model, image, FLOOR_IMAGES)
        busy, _ = busy_floor_ms(model, image, FLOOR_IMAGES)
        return {"cpu_ms": floor, "after_ms": after, "busy_ms": busy}
    (server,) = (server for server in servers if server.peer.name == spot.server)
    request = server.request(kept_alive=spot.kept_alive)
    load = drive(server.port, request, spot.concurrency, seconds, WARM_UP_S, server.cpu_s)
    num_replies = len(load.latencies_s)
    return {
        "cpu_ms": load.cpu_s * 1e3 / num_replies,
        "rate": num_replies / load.seconds,
        "p50_ms": float(np.percentile(load.latencies_s, 50)) * 1e3,
        "p99_ms": float(np.percentile(load.latencies_s, 99)) * 1e3,
    }


def describe(model: Path, image: bytes) -> str:
    """Return a line about the model, the photo and the response."""
    scorer = Scorer.load(model)
    height, width = decode(image).shape[:2]
    reply = scorer.task.summarize(scorer.score([image])[0])
    return (
        f"{scorer.manifest.model_name}, {len(scorer.labels):,} labels; "
        f"image of {width} x {height}, {len(image):,} bytes: {reply}"
    )


def report(rows: dict[Spot, Row], what: str, servers: list[Server]) -> None:
    num_rounds = 1 + max(spot.round for spot in rows)
    print(what)
    print(f"{WORKERS} workers each, {os.cpu_count()} cores, median of {num_rounds} rounds\n")
    floor = medians(row for spot, row in rows.items() if spot.server == FLOOR)
    print("| one process | CPU ms an image | x floor |\n|---|---|---|")
    for name, key in (
        ("decode + inference (the floor)", "cpu_ms"),
        ("postprocess", "after_ms"),
        ("decode + inference, a process a core at once", "busy_ms"),
    ):
        print(f"| {name} | {floor[key]:.2f} | {floor[key] / floor['cpu_ms']:.2f} |")
    print("\n| connections | clients | server | CPU ms | x floor | requests/s", end="")
    print(" | of the best | p50 ms | p99 ms |\n|---|---|---|---|---|---|---|---|---|")
    kinds = dict.fromkeys((s.kept_alive, s.concurrency) for s in rows if s.server != FLOOR)
    ours = []
    for kind in kinds:
        table = table_of(rows, kind, [server.peer.name for server in servers])
        best = max(row["rate"] for row in table.values())
        for name, row in table.items():
            print(
                f"| {'kept' if kind[0] else 'new'} | {kind[1]} | {name} | {row['cpu_ms']:.2f}"
                f" | {row['cpu_ms'] / floor['cpu_ms']:.2f} | {row['rate']:.0f}"
                f" | {row['rate'] / best:.2f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} |"
            )
        if OURS in table:
            least = min(row["cpu_ms"] for row in table.values())
            own = table[OURS]
            ours.append(
                (own["cpu_ms"] / floor["cpu_ms"], own["cpu_ms"] / least, own["rate"] / best)
            )
    for server in servers:
        print(f"{server.peer.name}: process start to first reply {server.first_reply_s:.2f} s")
    if ours:
        of_floor, of_least, of_best = zip(*ours, strict=True)
        print(
            f"{OURS}: CPU at most {max(of_floor):.2f} x floor and {max(of_least):.2f} x the least"
            f" of all, requests/s at least {min(of_best):.2f} x the best"
        )


def table_of(rows: dict[Spot, Row], kind: tuple[bool, int], names: list[str]) -> dict[str, Row]:
    """Return each server's medians with one kind of clients."""
    return {
        name: medians(
            row
            for spot, row in rows.items()
            if (spot.server, spot.kept_alive, spot.concurrency) == (name, *kind)
        )
        for name in names
    }


def medians(rows: Iterable[Row]) -> Row:
    some = list(rows)
    return {key: statistics.median(row[key] for row in some) for key in some[0]}


def floor_ms(model: Path, image: bytes, num_images: int) -> tuple[float, float]:
    """Return the CPU ms an image of decode + inference, and of the steps after them."""
    score = score_function(model, image)
    for _ in range(10):
        score()
    totals = [sum(column) for column in zip(*(score() for _ in range(num_images)), strict=True)]
    return totals[0] * 1e3 / num_images, totals[1] * 1e3 / num_images


def score_function(model: Path, image: bytes) -> Callable[[], tuple[float, float]]:
    """Return a function that scores an image and returns the CPU seconds of both parts."""
    cv2.setNumThreads(1)
    manifest = read_manifest(model)
    backend = OnnxBackend(model / ONNX_NAME, num_threads=1)
    task, settings, spec = TASKS[manifest.task], manifest.settings, manifest.preprocess

    def score() -> tuple[float, float]:
        started = time.process_time()
        if manifest.tiling:
            views = list(tile_views(decode(image), spec, manifest.tiling))
            samples = [(view.tensor, view.frame) for view in views]
        else:
            samples = [prepare(image, spec)]
        tensors, frames = zip(*samples, strict=True)
        batches = [tensors[i : i + MAX_BATCH] for i in range(0, len(tensors), MAX_BATCH)]
        results = [backend.run(np.stack(batch)) for batch in batches]
        found = time.process_time()
        outputs = {
            name: np.concatenate([result[name] for result in results]) for name in results[0]
        }
        predictions = task.postprocess(outputs, frames, settings)
        if manifest.tiling:
            regions = [view.region for view in views]
            predictions = [task.merge_views(predictions, regions, settings)]
        task.encode(predictions[0], manifest.labels)
        return found - started, time.process_time() - found

    return score


def busy_floor_ms(model: Path, image: bytes, num_images: int) -> tuple[float, float]:
    num_processes = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        jobs = [(model, image, num_images)] * num_processes
        network, after = zip(*pool.starmap(floor_ms, jobs), strict=True)
    return statistics.mean(network), statistics.mean(after)


if __name__ == "__main__":
    main()
