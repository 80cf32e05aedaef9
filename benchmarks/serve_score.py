"""CPU milliseconds a `/score` request costs, beside decode + inference in one process.

    python benchmarks/serve_score.py [--requests 400] [--rounds 5] [--model FOLDER]

tf_efficientnet_lite0 at 224 px with 1,000 labels and random weights (speed does not depend on
them), one fixed 50 KB JPEG, concurrency 8 over kept-alive connections. Server and floor take
turns; figures are medians over the rounds. CPU time is user + system of the server's whole
process tree, read from /proc (Linux). The client runs in this process and is not counted.

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
from pathlib import Path

IMAGE_BYTES = 50_000
CONCURRENCY = 8
NUM_LABELS = 1_000
CROP = 224


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or build_model(Path(folder) / "model")
        image = make_jpeg()
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
    report(rows, len(image), first_reply_s)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=400, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="model folder instead of a random lite0")
    return parser.parse_args()


def measure_round(
    model: Path, image: bytes, pid: int, url: str, num_requests: int
) -> dict[str, float]:
    floor = floor_ms(model, image, num_requests // 2)
    before = tree_cpu_s(pid)
    started = time.monotonic()
    latencies = send_requests(url, image, num_requests)
    wall_s = time.monotonic() - started
    server = (tree_cpu_s(pid) - before) * 1e3 / num_requests
    busy = busy_floor_ms(model, image, num_requests // 2)
    return {
        "floor": floor,
        "busy": busy,
        "server": server,
        "rate": num_requests / wall_s,
        "p50": statistics.median(latencies) * 1e3,
        "p95": statistics.quantiles(latencies, n=20)[-1] * 1e3,
    }


def report(rows: list[dict[str, float]], image_bytes: int, first_reply_s: float) -> None:
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    ratios = sorted(row["server"] / row["floor"] for row in rows)
    print(f"JPEG {image_bytes:,} bytes, {NUM_LABELS} labels, concurrency {CONCURRENCY}, ", end="")
    print(f"{os.cpu_count()} cores, median of {len(rows)} rounds")
    print("| what | CPU ms a request | x floor |")
    print("|---|---|---|")
    for name, key in (
        ("decode + inference, one process", "floor"),
        ("decode + inference, a process a core at once", "busy"),
        ("autofocus serve, whole process tree", "server"),
    ):
        print(f"| {name} | {median[key]:.2f} | {median[key] / median['floor']:.2f} |")
    print(f"ratio of each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
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
from autofocus.models.timm_classifiers import build
from autofocus.package.mlflow_model import write_package
from autofocus.tasks import TASKS

network = build(catalog.resolve("tf_efficientnet_lite0"), {NUM_LABELS}, None, {CROP}).eval()
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
    started = time.monotonic()
    argv = [sys.executable, "-m", "autofocus", "serve", str(model), "--port", "0", *flags]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"http://(\S+?:\d+)/score", line):
            break
    else:
        raise SystemExit("the server did not start")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    url = match.group(1)
    send_requests(url, image, 1, concurrency=1)
    first_reply_s = time.monotonic() - started
    send_requests(url, image, 10 * CONCURRENCY)
    return process, url, first_reply_s


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


def floor_ms(model: Path, image: bytes, num_images: int) -> float:
    from autofocus.scoring.scorer import Scorer

    scorer = Scorer.load(model, num_threads=1)
    for _ in range(10):
        scorer.score([image])
    started = time.process_time()
    for _ in range(num_images):
        scorer.score([image])
    return (time.process_time() - started) * 1e3 / num_images


def busy_floor_ms(model: Path, image: bytes, num_images: int) -> float:
    num_processes = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        jobs = [(model, image, num_images)] * num_processes
        return statistics.mean(pool.starmap(floor_ms, jobs))


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
