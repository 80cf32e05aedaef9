"""CPU milliseconds of a `/score` request, beside decode + inference in one process.

    python benchmarks/serve_score.py [--requests 400] [--rounds 5]
    python benchmarks/serve_score.py --model FOLDER --image FILE

By itself: tf_efficientnet_lite0 at 224 px with 1,000 labels and random weights (speed does not
depend on them) and one fixed 50 KB JPEG. Any other package with a photo of its own kind: how many
objects there are decides what the postprocessing of a detector costs, so noise will not do.

Concurrency 8 over kept-alive connections. Server and floor take turns; figures are medians over
the rounds. CPU time is user + system of the server's whole process tree, read from /proc (Linux).
The client runs in this process and is not counted. The floor is decode, preprocess and the network
as the package runs them; what comes after (thresholds, suppression, merged tiles, the reply's
objects) is beside it.

The busy floor is the same loop in one process a core at once: cores of one machine share caches,
and often two of them are one core, so that the server cannot do better than it.
"""

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autofocus.data.images.decode import decode
from autofocus.manifest import read_manifest
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.scorer import MAX_BATCH, ONNX_NAME, Scorer, prepare
from autofocus.scoring.tiling import tile_views
from autofocus.tasks import TASKS

IMAGE_BYTES = 50_000
CONCURRENCY = 8
NUM_LABELS = 1_000
CROP = 224


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        given = arguments.model
        model = resolve_model(given) if given else build_model(Path(folder) / "model")
        image = arguments.image.read_bytes() if arguments.image else make_jpeg()
        # Nothing is explained here: its process is not to be measured while it warms up.
        server, url, first_reply_s = start_server(model, image, "--no-explain-warm-up")
        try:
            rows = [
                measure_round(model, image, server.pid, url, arguments.requests)
                for _ in range(arguments.rounds)
            ]
        finally:
            server.terminate()
            server.wait()
        report(rows, describe(model, image), first_reply_s)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=400, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="model folder instead of a random lite0")
    parser.add_argument("--image", type=Path, help="image file instead of the coffee photo")
    return parser.parse_args()


def measure_round(
    model: Path, image: bytes, pid: int, url: str, num_requests: int
) -> dict[str, float]:
    floor, after = floor_ms(model, image, num_requests // 2)
    before = tree_cpu_s(pid)
    started = time.monotonic()
    latencies = send_requests(url, image, num_requests)
    wall_s = time.monotonic() - started
    server = (tree_cpu_s(pid) - before) * 1e3 / num_requests
    busy, busy_after = busy_floor_ms(model, image, num_requests // 2)
    return {
        "floor": floor,
        "after": after,
        "all": floor + after,
        "busy": busy,
        "busy_all": busy + busy_after,
        "server": server,
        "rate": num_requests / wall_s,
        "p50": statistics.median(latencies) * 1e3,
        "p95": statistics.quantiles(latencies, n=20)[-1] * 1e3,
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


def report(rows: list[dict[str, float]], what: str, first_reply_s: float) -> None:
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    print(what)
    print(f"concurrency {CONCURRENCY}, {os.cpu_count()} cores, median of {len(rows)} rounds")
    print("| what | CPU ms a request | x floor |")
    print("|---|---|---|")
    for name, key in (
        ("decode + inference, one process", "floor"),
        ("postprocess, one process", "after"),
        ("decode + inference + postprocess, one process", "all"),
        ("decode + inference, a process a core at once", "busy"),
        ("decode + inference + postprocess, a process a core at once", "busy_all"),
        ("autofocus serve, whole process tree", "server"),
    ):
        print(f"| {name} | {median[key]:.2f} | {median[key] / median['floor']:.2f} |")
    for name, key in (("decode + inference", "floor"), ("the same + postprocess", "all")):
        ratios = sorted(row["server"] / row[key] for row in rows)
        print(f"serve / {name}, each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(
        f"{median['rate']:.0f} requests/s, p50 {median['p50']:.0f} ms, p95 {median['p95']:.0f} ms"
    )
    print(f"process start to first reply: {first_reply_s:.2f} s")


def build_model(folder: Path) -> Path:
    """Write a package in a process of its own, so that this one never imports torch."""
    code = f"""
from pathlib import Path
from autofocus.manifest import DataInfo, Manifest, ResizeCrop, WeightsInfo
from autofocus.models import catalog
from autofocus.models.timm.classifiers import build_classifier
from autofocus.package.mlflow_model import write_package
from autofocus.tasks import TASKS

network = build_classifier(
    catalog.resolve("tf_efficientnet_lite0"), {NUM_LABELS}, None, {CROP}
).eval()
manifest = Manifest(
    task=next(iter(TASKS)),
    labels=[f"label_{{i:04}}" for i in range({NUM_LABELS})],
    model_name="tf_efficientnet_lite0",
    preprocess=ResizeCrop(256, {CROP}),
    weights=WeightsInfo("random", "none"),
    data=DataInfo("0" * 64, 1, 1),
)
write_package(Path({str(folder)!r}), network, manifest)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    return folder


def make_jpeg() -> bytes:
    """Return scikit-image's coffee photo (600 by 400) at the quality nearest to 50 KB."""
    import skimage.data
    from PIL import Image

    photo = Image.fromarray(skimage.data.coffee())

    def encoded(quality: int) -> bytes:
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    return min(map(encoded, range(60, 96)), key=lambda data: abs(len(data) - IMAGE_BYTES))


def request_body(image: bytes) -> bytes:
    data = [base64.encodebytes(image).decode()]
    return json.dumps({"input_data": {"columns": ["image"], "data": data}}).encode()


def start_server(
    model: Path, image: bytes, *flags: str
) -> tuple[subprocess.Popen[str], str, float]:
    """Return a warm server, its host and port, and the seconds from its start to a reply."""
    started = time.monotonic()
    process, url = open_server(model, *flags)
    send_requests(url, image, 1, concurrency=1)
    first_reply_s = time.monotonic() - started
    send_requests(url, image, 10 * CONCURRENCY)
    return process, url, first_reply_s


def open_server(model: Path, *flags: str) -> tuple[subprocess.Popen[str], str]:
    argv = [sys.executable, "-m", "autofocus", "serve", str(model), "--port", "0", *flags]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"http://(\S+?:\d+)/score", line):
            break
    else:
        raise SystemExit("the server did not start")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process, match.group(1)


def send_requests(
    url: str, image: bytes, num_requests: int, concurrency: int = CONCURRENCY
) -> list[float]:
    """Return the latency of each request, in seconds."""
    body = request_body(image)
    headers = {"Content-Type": "application/json"}
    latencies: list[float] = []

    def send_some() -> None:
        connection = http.client.HTTPConnection(url, timeout=60)
        for _ in range(num_requests // concurrency):
            started = time.monotonic()
            connection.request("POST", "/score", body, headers)
            response = connection.getresponse()
            reply = response.read()
            if response.status != 200:
                raise SystemExit(f"{response.status}: {reply[:200]!r}")
            latencies.append(time.monotonic() - started)
        connection.close()

    threads = [threading.Thread(target=send_some) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def floor_ms(model: Path, image: bytes, num_images: int) -> tuple[float, float]:
    """Return the CPU ms an image of decode + inference, and of the steps after them."""
    score = score_function(model, image)
    for _ in range(10):
        score()
    totals = [sum(column) for column in zip(*(score() for _ in range(num_images)), strict=True)]
    return totals[0] * 1e3 / num_images, totals[1] * 1e3 / num_images


def score_function(model: Path, image: bytes) -> Callable[[], tuple[float, float]]:
    """Return a function that scores an image and returns the CPU seconds of both parts."""
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


def tree_cpu_s(pid: int) -> float:
    """Return user + system seconds of a process, its threads and its descendants."""
    ticks = 0
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # a process that ended meanwhile
            continue
        fields = text.rpartition(")")[2].split()
        parents[int(stat.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        ticks += parents[parent][1]
        waiting += [child for child, (its_parent, _) in parents.items() if its_parent == parent]
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
