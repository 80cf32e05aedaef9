"""Mutated requests: each is answered as what it is, and none takes the endpoint down (Linux).

    python benchmarks/serve_fuzz.py [--bodies 100000] [--first 0] [--seed 0] [--model FOLDER]

Image files of every format, base64, JSON text, JSON values, parameters of explanations, and heads
of HTTP are mutated. Body I depends on the seed and I alone: `--first I --bodies 1` makes it again,
and a run that was stopped goes on with the number that it printed last.

Every reply is checked: its status, a short message or one sound object a row, nothing after it. One
of ten is compared, value by value, with what the model says of the same body in this process.
Without `model.safetensors`, so that rows that ask for explanations end after their parameters.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import math
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image
from serve_attacks import HOST, NOTHING, Reply, Server, exchange, memory_bytes, request_of, served
from serve_peers import build_model

from autofocus.errors import RequestError
from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.request import parse_request, refuse_all_failed, score_rows
from autofocus.scoring.scorer import Scorer

CONCURRENCY = 8
COMPARE_EVERY = 10
SHOW_EVERY = 5_000
MAX_WORKER_BYTES = 2_000_000_000
MAX_PROBLEMS = 10
STATUSES = {200, 400, 404, 405, 408, 411, 413, 415, 417, 431}
HEAD_S = 3.0
WORDS = (b'"', b"\\", b"\\u002c", b"\\ud800", b"[", b"]", b"{", b"}", b",", b":", b"null", b"1e999")
WORDS += (b"NaN", b"-0", b"true", b"\x00", b"\xff", b"\xef\xbb\xbf", b" " * 50, b"=" * 4, b"%")
VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1e308, 10**30, "", " ", "image", "A", "AAAA")
VALUES += (
    [],
    [[]],
    {},
    {"image": 1},
    ["image"],
    "{",
    "{}",
    "\u0000",
    "é" * 40,
    "file:///etc/passwd",
)
PARAMETERS: dict[str, Any] = {"xai_algorithm": "xrai", "n_steps": 5, "target": "can", "seed": 1}


def draw_files() -> list[bytes]:
    """Return a small image in every format and mode that decoders treat differently."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((120, 96), Image.Resampling.BICUBIC)

    def encoded(mode: str, name: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.convert(mode).save(file, name, **options)
        return file.getvalue()

    return [
        encoded("RGB", "JPEG"),
        encoded("RGB", "JPEG", progressive=True),
        encoded("CMYK", "JPEG"),
        encoded("L", "JPEG", quality=30),
        encoded("RGB", "PNG"),
        encoded("P", "PNG"),
        encoded("RGBA", "PNG"),
        encoded("RGB", "BMP"),
        encoded("P", "GIF"),
        encoded("RGB", "TIFF"),
        encoded("RGB", "TIFF", compression="tiff_lzw"),
        encoded("RGB", "TIFF", compression="jpeg"),
        encoded("RGBA", "TIFF", compression="tiff_adobe_deflate"),
        encoded("RGB", "WEBP"),
        encoded("RGBA", "WEBP", lossless=True),
    ]


FILES = draw_files()


def mutated(data: bytes, rng: random.Random, words: tuple[bytes, ...]) -> bytes:
    """Return bytes with a few changes, more of them near the start, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not changed:
            break
        end = len(changed) if rng.random() < 0.4 else min(len(changed), 160)
        at, kind = rng.randrange(end), rng.random()
        if kind < 0.4:
            changed[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind < 0.6:
            changed[at : at + rng.choice((0, 1, 4))] = rng.choice(words)
        elif kind < 0.8:
            source = rng.randrange(len(changed))
            changed[at:at] = changed[source : source + rng.randrange(1, 60)]
        else:
            del changed[at : at + rng.choice((1, 4, 40, len(changed)))]
    return bytes(changed)


def mutated_value(document: Any, rng: random.Random) -> Any:
    """Return a JSON value with one of its values, keys or places changed."""
    if isinstance(document, dict) and document and rng.random() < 0.85:
        key = rng.choice(list(document))
        if rng.random() < 0.1:
            return {(f"{name}s" if name == key else name): v for name, v in document.items()}
        if rng.random() < 0.1:
            return {name: v for name, v in document.items() if name != key}
        return document | {key: mutated_value(document[key], rng)}
    if isinstance(document, list) and document and rng.random() < 0.7:
        i = rng.randrange(len(document))
        if rng.random() < 0.2:
            return document[:i] + document[i:] * rng.choice((2, 3, 300))
        return [*document[:i], mutated_value(document[i], rng), *document[i + 1 :]]
    return rng.choice(VALUES)


def row_of(rng: random.Random, image: bytes) -> Any:
    """Return a row in one of the published forms."""
    text = rng.choice((base64.encodebytes, base64.b64encode))(image).decode()
    form = rng.random()
    if form < 0.6:
        return text
    if form < 0.75:
        return [text]
    parameters = PARAMETERS if rng.random() < 0.5 else mutated_value(PARAMETERS, rng)
    row = {"image_base64": text, "model_explainability": rng.random() < 0.3}
    return json.dumps(row | {"xai_parameters": parameters})


def make_body(seed: int, number: int) -> bytes:
    """Return the body of a number."""
    rng = random.Random(f"{seed}-{number}")
    what = rng.random()
    images = [rng.choice(FILES) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
    if what < 0.4:
        images[0] = mutated(
            images[0], rng, (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xda")
        )
    rows = [row_of(rng, image) for image in images]
    if 0.4 <= what < 0.5 and isinstance(rows[0], str):
        rows[0] = mutated(rows[0].encode(), rng, WORDS).decode("utf-8", "replace")
    document: Any = {"input_data": {"columns": ["image"], "data": rows}}
    if rng.random() < 0.3:
        document["input_data"]["index"] = list(range(len(rows)))
        document["params"] = {}
    if 0.5 <= what < 0.75:
        document = mutated_value(document, rng)
    body = json.dumps(document).encode()
    return mutated(body, rng, WORDS) if what >= 0.75 else body


def make_request(seed: int, number: int) -> tuple[bytes, bool]:
    """Return the bytes of a request, and whether its head is mutated."""
    rng = random.Random(f"head-{seed}-{number}")
    request = request_of(make_body(seed, number), f"fuzz-{number}")
    if rng.random() >= 0.05:
        return request, False
    head, _, body = request.partition(b"\r\n\r\n")
    words = (b"\r\n", b"\n", b" ", b"chunked", b"transfer-encoding: chunked\r\n", b"\0", b"9" * 30)
    return mutated(head, rng, words) + b"\r\n\r\n" + body, True


class Oracle:
    """What the model says of a body, in this process."""

    def __init__(self, folder: Path) -> None:
        self._scorer = Scorer.load(folder)
        self.labels = self._scorer.labels

    def problem(self, body: bytes, reply: Reply) -> str:
        """Return what is wrong with a reply, compared in full; "" if nothing."""
        try:
            rows = parse_request(body)
            results = [score_rows(self._scorer, [row])[0] for row in rows]
            refuse_all_failed(results)
        except RequestError as error:
            return "" if reply.status == error.status else f"{reply.status}, not {error.status}"
        if reply.status == 400 and any(row.explain for row in rows):
            return ""
        expected = orjson.loads(orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY))
        return "" if reply.status == 200 and reply.json == expected else "another answer"


def problem_of(body: bytes, reply: Reply, labels: list[str]) -> str:
    """Return what is wrong with a reply by itself; "" if nothing."""
    if reply is NOTHING:
        return "no reply"
    if reply.extra:
        return "bytes after the reply"
    if reply.status not in STATUSES:
        return f"status {reply.status}"
    if reply.status != 200:
        is_short = len(reply.body) <= 4096 and list(reply.json) == ["message"]
        return "" if is_short else "an error of another form, or too long"
    rows = json.loads(body.removeprefix(b"\xef\xbb\xbf"))["input_data"]["data"]
    if len(reply.json) != len(rows):
        return f"{len(reply.json)} objects for {len(rows)} rows"
    sound = all(is_sound(item, labels) for item in reply.json)
    return "" if sound else "an object that is neither scores nor an error"


def is_sound(item: dict[str, Any], labels: list[str]) -> bool:
    if list(item) == ["error"]:
        return set(item["error"]) == {"code", "message"}
    return (
        item.get("labels") == labels
        and len(item["probs"]) == len(labels)
        and math.isclose(sum(item["probs"]), 1, abs_tol=1e-3)
    )


async def send_head(port: int, data: bytes) -> Reply:
    """Send bytes whose end the server may not see; return status 500 where it says one."""
    reader, writer = await asyncio.open_connection(HOST, port)
    found = b""
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(HEAD_S):
            found = await reader.read(64)
            writer.write_eof()
            await reader.read()
    writer.transport.abort()
    is_failed = found.startswith(b"HTTP/1.1 5")
    return Reply(500 if is_failed else 0, {}, found)


class Run:
    """Sends the bodies, and keeps what was odd."""

    def __init__(self, port: int, oracle: Oracle, seed: int, first: int, number: int) -> None:
        self._port = port
        self._oracle = oracle
        self._seed = seed
        self._first = first
        self._numbers = iter(range(first, first + number))
        self.statuses: Counter[str] = Counter()
        self.problems: list[str] = []
        self.num_compared = 0
        self.slowest = (0.0, 0)

    async def send_all(self) -> None:
        await asyncio.gather(*(self._send_some() for _ in range(CONCURRENCY)))

    async def _send_some(self) -> None:
        for number in self._numbers:
            started = time.monotonic()
            request, is_head_mutated = make_request(self._seed, number)
            if is_head_mutated:
                reply = await send_head(self._port, request)
                self.statuses["mutated head"] += 1
                problem = "status 500" if reply.status else ""
            else:
                reply = await exchange(self._port, [request])
                self.statuses[str(reply.status)] += 1
                problem = self._problem(number, reply)
                self.slowest = max(self.slowest, (time.monotonic() - started, number))
            if problem:
                self.problems.append(f"body {number}: {problem}: {reply.body[:200]!r}")
            if (number + 1) % SHOW_EVERY == 0:
                print(f"{number + 1:,}; {len(self.problems)} problems", flush=True)

    def _problem(self, number: int, reply: Reply) -> str:
        body = make_body(self._seed, number)
        problem = problem_of(body, reply, self._oracle.labels)
        if problem or number % COMPARE_EVERY:
            return problem
        self.num_compared += 1
        return self._oracle.problem(body, reply)


def report(run: Run, server: Server, before: list[int]) -> bool:
    """Print what was seen and return whether all of it is as wanted."""
    peak = max(memory_bytes(pid)[1] for pid in server.workers())
    is_same = server.workers() == before
    print("| reply | number |\n|---|---|")
    for status, number in sorted(run.statuses.items()):
        print(f"| {status} | {number:,} |")
    seconds, slowest = run.slowest
    rows = [
        ("replies that are not as they should be", len(run.problems), "0", not run.problems),
        ("compared in full", f"{run.num_compared:,}", "", True),
        ("slowest reply", f"{seconds:.2f} s, body {slowest}", "", True),
        ("workers that never ended", is_same, "True", is_same),
        ("most memory of a worker, MB", peak // 10**6, "2,000", peak < MAX_WORKER_BYTES),
    ]
    status = server.stop()
    rows.append(("exit status after SIGTERM", status, "0", status == 0))
    print("| what | seen | wanted | |\n|---|---|---|---|")
    for what, found, wanted, is_fine in rows:
        print(f"| {what} | {found} | {wanted} | {'ok' if is_fine else 'NOT'} |")
    for problem in run.problems[:MAX_PROBLEMS]:
        print(problem)
    return all(is_fine for *_, is_fine in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first body")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="classifier instead of a random lite0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = arguments.model
        source = resolve_model(given) if given else build_model(Path(folder) / "whole")
        model = Path(folder) / "model"
        shutil.copytree(source, model, ignore=shutil.ignore_patterns(WEIGHTS_NAME))
        with served(model) as (server, _):
            before = server.workers()
            run = Run(server.port, Oracle(model), arguments.seed, arguments.first, arguments.bodies)
            asyncio.run(run.send_all())
            is_fine = report(run, server, before)
    raise SystemExit(not is_fine)


if __name__ == "__main__":
    main()
