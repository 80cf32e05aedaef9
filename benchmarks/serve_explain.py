"""Latency of scoring while the same server explains, and cost of explanations to a client.

    python benchmarks/serve_explain.py [--model FOLDER] [--seconds 10] [--rounds 3]

Scoring: four clients that score one photo each, over and over. Idle and explaining in turns; while
explaining, two more clients ask for XRAI without a pause, so that the lane is never empty.
Explaining: the first request after the start, with and without a warm-up, then one each algorithm.
"""

import argparse
import base64
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_peers import build_model, make_jpeg, request_body, start_server

CONCURRENCY = 4
ALGORITHMS = ("xrai", "integrated_gradients", "guided_gradcam", "guided_backprop")
TARGET = 2.0
WARM_UP_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="model folder instead of a random lite0")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or build_model(Path(folder) / "model")
        image = make_jpeg()
        with served(model, image, "--no-explain-warm-up") as (url, first_reply_s):
            print(f"without a warm-up: first scores after {first_reply_s:.1f} s", end="")
            print(f", first explanation in {ask(url, explain_body(image, 'xrai'))[0]:.1f} s")
        with served(model, image) as (url, first_reply_s):
            print(f"with a warm-up: first scores after {first_reply_s:.1f} s", end="")
            slowest = max(score_for(url, image, WARM_UP_S))
            print(
                f", none slower than {slowest * 1e3:.0f} ms in the {WARM_UP_S:.0f} s after", end=""
            )
            print(f", first explanation then in {ask(url, explain_body(image, 'xrai'))[0]:.1f} s")
            show_costs(url, image)
            show_isolation(url, image, arguments.seconds, arguments.rounds)


@contextmanager
def served(model: Path, image: bytes, *flags: str) -> Iterator[tuple[str, float]]:
    """Yield a server's host and port, and the seconds from its start to its first scores."""
    server, url, first_reply_s = start_server(model, image, *flags)
    try:
        yield url, first_reply_s
    finally:
        server.terminate()
        server.wait()


def show_costs(url: str, image: bytes) -> None:
    print("\n| algorithm | picture | time | picture + attributions | time |")
    print("|---|---|---|---|---|")
    for algorithm in ALGORITHMS:
        cells = []
        for attributions in (False, True):
            seconds, length = ask(url, explain_body(image, algorithm, attributions))
            cells += [f"{length / 1e6:.2f} MB", f"{seconds:.2f} s"]
        print(f"| {algorithm} | {' | '.join(cells)} |", flush=True)


def show_isolation(url: str, image: bytes, seconds: float, rounds: int) -> None:
    idle: list[dict[str, float]] = []
    busy: list[dict[str, float]] = []
    for _ in range(rounds):
        idle.append(percentiles(score_for(url, image, seconds)))
        with explaining(url, image) as counts:
            busy.append(percentiles(score_for(url, image, seconds)))
        busy[-1]["explanations"] = counts[0]
    print(f"\nplain scoring, concurrency {CONCURRENCY}, median of {rounds} rounds")
    print("| | p50 ms | p95 ms | p99 ms | requests/s |")
    print("|---|---|---|---|---|")
    for name, rows in (("idle", idle), ("explaining", busy)):
        median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        print(
            f"| {name} | {median['p50']:.1f} | {median['p95']:.1f} | {median['p99']:.1f} |"
            f" {median['rate']:.0f} |"
        )
    ratios = [b["p99"] / i["p99"] for i, b in zip(idle, busy, strict=True)]
    ratio = statistics.median(ratios)
    verdict = "ok" if ratio <= TARGET else "ABOVE"
    print(f"p99 explaining / idle: {ratio:.2f}, target {TARGET:g} {verdict}", end="")
    print(f"; each round: {', '.join(f'{value:.2f}' for value in ratios)}")
    print(f"explanations meanwhile: {sum(row['explanations'] for row in busy):.0f}")


def explain_body(image: bytes, algorithm: str, attributions: bool = False) -> bytes:
    row = {
        "image_base64": base64.encodebytes(image).decode(),
        "model_explainability": True,
        "xai_parameters": {"xai_algorithm": algorithm, "attributions": attributions},
    }
    return json.dumps({"input_data": {"columns": ["image"], "data": [json.dumps(row)]}}).encode()


def ask(
    url: str, body: bytes, connection: http.client.HTTPConnection | None = None
) -> tuple[float, int]:
    """Return seconds and the reply's length in bytes."""
    connection = connection or http.client.HTTPConnection(url, timeout=100)
    started = time.monotonic()
    connection.request("POST", "/score", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    reply = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {reply[:200]!r}")
    return time.monotonic() - started, len(reply)


def score_for(url: str, image: bytes, seconds: float) -> list[float]:
    """Return the latency of each request, in seconds."""
    body = request_body(image)
    latencies: list[float] = []
    end = time.monotonic() + seconds

    def send() -> None:
        connection = http.client.HTTPConnection(url, timeout=60)
        while time.monotonic() < end:
            latencies.append(ask(url, body, connection)[0])
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def percentiles(latencies: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "p50": cuts[49] * 1e3,
        "p95": cuts[94] * 1e3,
        "p99": cuts[98] * 1e3,
        "rate": CONCURRENCY / statistics.mean(latencies),
    }


@contextmanager
def explaining(url: str, image: bytes) -> Iterator[list[int]]:
    """Explain without a pause until the block ends; the list counts the explanations."""
    counts = [0]
    stop = threading.Event()
    body = explain_body(image, "xrai")

    def send() -> None:
        while not stop.is_set():
            ask(url, body)
            counts[0] += 1

    # Two, so that one always waits while the other is answered.
    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
