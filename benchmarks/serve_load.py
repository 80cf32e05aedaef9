"""The endpoint at three times its capacity, attacked and killed: what its clients see (Linux).

    python benchmarks/serve_load.py [--minutes 10] [--model FOLDER] [--seed 0]

Requests arrive at three times the rate at which the server scores single photos, whether it keeps
up or not: photos with a known answer, broken requests, bombs, slow senders, rows to explain, and
clients that hang up. Every few seconds a worker is killed, or the explaining process. In the second
half the eldest worker is spared, so that its memory can be watched.

A reply is wrong when it is neither what the request asks for nor an honest refusal (429 with
Retry-After, 408). A request is lost when its connection ends, or says 500, and no kill explains it.
Exit status 1 when anything is not as wanted.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from serve_attacks import (
    HOST,
    Reply,
    Server,
    body_of,
    draw_photos,
    exchange,
    explain_row,
    leave,
    memory_bytes,
    request_of,
    served,
    text_of,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.hostile_images import many_scans, png_header

TIMES_CAPACITY, MIN_OFFERED = 3.0, 2.7
NUM_PHOTOS = 8
CAPACITY_S, IDLE_S = 6.0, 10.0
CONCURRENCY = 8
PROBE_EVERY_S = 0.05
KILL_EVERY_S = 20.0
# What a kill explains ends within this time after it.
KILL_EXPLAINS_S = 2.0
MAX_P99_RATIO = 5.0
MAX_GROWTH, GROWTH_BYTES = 1.05, 20 << 20
MAX_WORKER_BYTES = 2_000_000_000
NUM_EXAMPLES = 5
MIB = 1 << 20


@dataclass(frozen=True)
class Attempt:
    """What one client does.

    Attributes:
        parts: Bytes that it sends, and pauses in seconds.
        is_right: Whether a reply is the one that it asked for; None for a client that hangs up.
    """

    parts: list[bytes | float]
    is_right: Callable[[Reply], bool] | None


Maker = Callable[[random.Random, str], Attempt]


class Clients:
    """Makers of requests. Bodies are made once: the client is to cost less than the server.

    Args:
        photos: Photos.
        large: An image of many pixels.
        replies: The server's reply to each photo, and to the large image.

    Attributes:
        kinds: (name, weight, maker) of each kind.
    """

    def __init__(self, photos: list[bytes], large: bytes, replies: list[Reply]) -> None:
        self._rows = [text_of(image) for image in (*photos, large)]
        self._bodies = [body_of([row]) for row in self._rows]
        self._replies = replies
        self._answers = [reply.json[0] for reply in replies]
        asked = {"xai_algorithm": "guided_gradcam"}
        self._explained = [body_of([explain_row(photo, asked)]) for photo in photos]
        self._broken = broken_bodies(photos[0])
        self._bombs = bombs(photos[0])
        self.kinds: list[tuple[str, float, Maker]] = [
            ("good", 60, self.good),
            ("several photos", 8, self.several),
            ("24 megapixels", 0.3, self.large),
            ("broken", 10, self.broken),
            ("bomb", 6, self.bomb),
            ("slow sender", 4, self.slow),
            ("explain", 3, self.explain),
            ("hangs up", 9, self.hang_up),
        ]

    def _pick(self, rng: random.Random) -> int:
        return rng.randrange(len(self._rows) - 1)

    def good(self, rng: random.Random, request_id: str) -> Attempt:
        return self._single(self._pick(rng), request_id)

    def large(self, rng: random.Random, request_id: str) -> Attempt:
        return self._single(len(self._rows) - 1, request_id)

    def _single(self, i: int, request_id: str) -> Attempt:
        def is_right(reply: Reply) -> bool:
            return reply.status == 200 and reply.body == self._replies[i].body

        return Attempt([request_of(self._bodies[i], request_id)], is_right)

    def several(self, rng: random.Random, request_id: str) -> Attempt:
        picked = [self._pick(rng) for _ in range(rng.randint(2, 8))]
        rows = [self._rows[i] for i in picked]
        rows[1] = "AAAA"

        def is_right(reply: Reply) -> bool:
            if reply.status != 200:
                return False
            found, wanted = reply.json, [self._answers[i] for i in picked]
            return found[1]["error"]["code"] == "image.unknown_format" and (
                found[:1] + found[2:] == wanted[:1] + wanted[2:]
            )

        return Attempt([request_of(body_of(rows), request_id)], is_right)

    def slow(self, rng: random.Random, request_id: str) -> Attempt:
        whole = self.good(rng, request_id)
        (data,) = whole.parts
        assert isinstance(data, bytes)
        cuts = sorted(rng.randrange(len(data)) for _ in range(5))
        parts: list[bytes | float] = []
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            parts += [data[start:end], rng.uniform(0.1, 1.0)]
        return Attempt(parts, whole.is_right)

    def explain(self, rng: random.Random, request_id: str) -> Attempt:
        i = self._pick(rng)

        def is_right(reply: Reply) -> bool:
            if reply.status != 200:
                return False
            (item,) = reply.json
            return bool(item.pop("visualizations", "")) and item == self._answers[i]

        return Attempt([request_of(self._explained[i], request_id)], is_right)

    def hang_up(self, rng: random.Random, request_id: str) -> Attempt:
        row = self._rows[self._pick(rng)]
        data = request_of(body_of([row] * rng.choice((1, 1, 16))), request_id)
        end = rng.choice((len(data), rng.randrange(1, len(data))))
        return Attempt([data[:end], rng.choice((0.0, 0.02, 0.3))], None)

    def broken(self, rng: random.Random, request_id: str) -> Attempt:
        body = self._bodies[0]
        choices = [
            lambda: (request_of(rng.choice(self._broken), request_id), 400),
            lambda: (request_of(rng.choice(self._broken), request_id), 400),
            lambda: (request_of(body, request_id).replace(b"ion/json", b"ion/xml", 1), 415),
            lambda: (request_of(b"", request_id, "GET /score"), 405),
            lambda: (request_of(body, request_id, "POST /scores"), 404),
        ]
        return refused(*rng.choice(choices)())

    def bomb(self, rng: random.Random, request_id: str) -> Attempt:
        photo = request_of(self._bodies[0], request_id)
        choices = [
            lambda: (request_of(rng.choice(self._bombs), request_id), 400),
            lambda: (request_of(rng.choice(self._bombs), request_id), 400),
            lambda: (request_of(b"", request_id).replace(b"th: 0", b"th: 5000000000"), 413),
            lambda: (photo.replace(b"\r\n\r\n", b"\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", 1), 431),
            lambda: (photo.replace(b"\r\n\r\n", b"\r\nx: y" * 5_000 + b"\r\n\r\n", 1), 431),
        ]
        return refused(*rng.choice(choices)())


def broken_bodies(photo: bytes) -> list[bytes]:
    """Return bodies that are wrong somewhere."""
    body = body_of([text_of(photo)])
    return [
        body_of([text_of(photo[: len(photo) // 2])]),
        body_of(["%" + text_of(photo)]),
        body[: len(body) // 2],
        body.replace(b"columns", b"column"),
        body.replace(b'["image"]', b'["photo"]'),
        body_of([explain_row(photo, {"n_stepz": 5})]),
    ]


def bombs(photo: bytes) -> list[bytes]:
    """Return bodies that would cost far more than their bytes."""
    keys = {f"key_{i}" * 5: i for i in range(5_000)}
    many = json.dumps({"image_base64": "", "xai_parameters": {"target": [0] * 100_000}})
    escaped = json.dumps(many)[1:-1].replace(",", "\\u002c").encode()
    return [
        body_of([text_of(png_header(30_000, 30_000))] * 64),
        body_of([text_of(png_header(1, 178_956_970))] * 64),
        body_of([text_of(many_scans(8_000, 250))]),
        body_of([explain_row(photo, keys)]),
        body_of(["@"]).replace(b"@", escaped),
        body_of([[]] * 300_000),
        b"[" * 1_000_000,
        zlib.compress(bytes(1_000_000)),
    ]


def refused(data: bytes, status: int) -> Attempt:
    def is_right(reply: Reply) -> bool:
        return reply.status == status and len(reply.body) <= 4096 and "message" in reply.json

    return Attempt([data], is_right)


@dataclass
class Seen:
    """What came of all requests.

    Attributes:
        counts: (kind, outcome) -> number.
        examples: What was wrong, in words; the first few.
        kills_s: When processes were killed.
        memory: Worker -> its memory in bytes at times, [(time, bytes)].
        peak_bytes: Most memory that a worker has had.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    kills_s: list[float] = field(default_factory=list)
    memory: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    peak_bytes: int = 0

    def is_explained(self, ended_s: float) -> bool:
        """Return whether a kill explains that something ended."""
        return any(0 <= ended_s - at <= KILL_EXPLAINS_S for at in self.kills_s)

    def note(self, kind: str, outcome: str, reply: Reply) -> None:
        self.counts[kind, outcome] += 1
        if outcome in ("wrong", "lost", "twice") and len(self.examples) < NUM_EXAMPLES:
            text = f"{reply.status} {reply.headers} {reply.body[:300]!r} then {reply.extra[:80]!r}"
            self.examples.append(f"{kind}, {outcome}: {text}")

    def total(self, outcome: str) -> int:
        return sum(n for (_, found), n in self.counts.items() if found == outcome)


async def attempt(port: int, kind: str, maker: Maker, rng: random.Random, seen: Seen) -> None:
    """Make one request and note what came of it."""
    request_id = f"{kind[:4].strip()}-{rng.getrandbits(60)}"
    what = maker(rng, request_id)
    if what.is_right is None:
        try:
            await leave(port, what.parts)
            outcome = "left"
        except OSError:
            outcome = "killed" if seen.is_explained(time.monotonic()) else "lost"
        seen.counts[kind, outcome] += 1
        return
    try:
        reply = await exchange(port, what.parts)
    except OSError:
        reply = Reply(0, {}, b"")
    seen.note(kind, outcome_of(what.is_right, reply, request_id, seen), reply)


def outcome_of(is_right: Callable[[Reply], bool], reply: Reply, request_id: str, seen: Seen) -> str:
    if reply.status in (0, 500, 503):
        if seen.is_explained(time.monotonic()):
            return "killed"
        return "wrong" if reply.status else "lost"
    if reply.extra:
        return "twice"
    if reply.headers.get("x-request-id", request_id) != request_id:
        return "wrong"
    if reply.status == 429:
        return "429" if reply.headers.get("retry-after", "").isdigit() else "wrong"
    if reply.status == 408:
        return "408"
    return "right" if is_right(reply) else "wrong"


async def capacity(port: int, clients: Clients) -> float:
    """Return the single photos a second that the server scores."""
    end = time.monotonic() + CAPACITY_S
    number = 0

    async def ask(rng: random.Random) -> None:
        nonlocal number
        while time.monotonic() < end:
            what = clients.good(rng, "warm")
            reply = await exchange(port, what.parts)
            if what.is_right is None or not what.is_right(reply):
                raise SystemExit(f"a wrong answer before there is any load: {reply}")
            number += 1

    await asyncio.gather(*(ask(random.Random(i)) for i in range(CONCURRENCY)))
    return number / CAPACITY_S


async def load(
    server: Server, clients: Clients, seen: Seen, rate: float, seconds: float, seed: int
) -> None:
    """Send requests at a rate, whatever becomes of them; kill processes; watch memory.

    A client that falls behind sends fewer: the report says how many.
    """
    rng = random.Random(seed)
    names, weights, makers = zip(*clients.kinds, strict=True)
    started = time.monotonic()
    others = [
        asyncio.create_task(kill(server, seen, started, seconds)),
        asyncio.create_task(watch(server, seen)),
    ]
    running: set[asyncio.Task[None]] = set()
    due_s = started
    while (now := time.monotonic()) < started + seconds:
        await asyncio.sleep(max(0.0, due_s - now))
        (i,) = rng.choices(range(len(names)), weights)
        own = random.Random(rng.getrandbits(60))
        task = asyncio.create_task(attempt(server.port, names[i], makers[i], own, seen))
        running.add(task)
        task.add_done_callback(running.discard)
        due_s += rng.expovariate(rate)
    await asyncio.gather(*running)
    for task in others:
        task.cancel()
    for problem in await asyncio.gather(*others, return_exceptions=True):
        if isinstance(problem, Exception):
            raise SystemExit(f"the benchmark failed: {problem!r}")


async def kill(server: Server, seen: Seen, started: float, seconds: float) -> None:
    """Kill a worker or the explaining process, again and again."""
    pause_s = min(KILL_EVERY_S, seconds / 8)
    number = 0
    while time.monotonic() < started + seconds - pause_s:
        await asyncio.sleep(pause_s)
        number += 1
        in_second_half = time.monotonic() > started + seconds / 2 - pause_s
        workers = server.workers()
        victims = server.explainers() if number % 3 == 0 else workers[in_second_half:]
        if victims:
            seen.kills_s.append(time.monotonic())
            # It may have ended by itself since.
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims[number % len(victims)], signal.SIGKILL)


async def watch(server: Server, seen: Seen) -> None:
    while True:
        for pid in server.workers():
            now, peak = memory_bytes(pid)
            seen.memory.setdefault(pid, []).append((time.monotonic(), now))
            seen.peak_bytes = max(seen.peak_bytes, peak)
        await asyncio.sleep(1.0)


def probe(port: int, seconds: float) -> list[tuple[float, float | None]]:
    """Ask `GET /` again and again; return (when, seconds), None where it failed."""
    found: list[tuple[float, float | None]] = []
    end = time.monotonic() + seconds
    while (started := time.monotonic()) < end:
        connection = HTTPConnection(HOST, port, timeout=30)
        try:
            connection.request("GET", "/")
            is_healthy = connection.getresponse().read() == b"Healthy"
        except OSError:
            is_healthy = False
        finally:
            connection.close()
        now = time.monotonic()
        found.append((now, now - started if is_healthy else None))
        time.sleep(PROBE_EVERY_S)
    return found


def p99_ms(probes: list[tuple[float, float | None]]) -> float:
    return statistics.quantiles([s for _, s in probes if s is not None], n=100)[98] * 1e3


def growth(seen: Seen, started: float, seconds: float) -> tuple[float, float]:
    """Return the median memory of the spared worker in the third and the last quarter, in bytes."""
    middle, end = started + seconds / 2, started + seconds
    lives = [
        life for life in seen.memory.values() if life[0][0] <= middle and life[-1][0] > end - 5
    ]
    if not lives:
        raise SystemExit("no worker lived through the second half")
    third = [size for at, size in lives[0] if middle <= at < middle + seconds / 4]
    last = [size for at, size in lives[0] if middle + seconds / 4 <= at <= end]
    return statistics.median(third), statistics.median(last)


def report(
    seen: Seen,
    idle: list[tuple[float, float | None]],
    busy: list[tuple[float, float | None]],
    memory: tuple[float, float],
    offered: float,
    exit_status: int,
) -> bool:
    """Print what was seen and return whether all of it is as wanted."""
    outcomes = ("right", "429", "408", "left", "killed", "wrong", "lost", "twice")
    print(f"\n| requests | sent | {' | '.join(outcomes)} |\n|{'---|' * (len(outcomes) + 2)}")
    for kind in sorted({kind for kind, _ in seen.counts}):
        numbers = [seen.counts[kind, outcome] for outcome in outcomes]
        print(f"| {kind} | {sum(numbers)} | {' | '.join(map(str, numbers))} |")
    failed = sum(s is None and not seen.is_explained(at) for at, s in busy)
    third, last = memory
    before, after = p99_ms(idle), p99_ms(busy)
    slowest = max(s for _, s in busy if s is not None)
    flat = max(third * MAX_GROWTH, third + GROWTH_BYTES)
    rows = [
        ("requests, x capacity", f"{offered:.2f}", f"{TIMES_CAPACITY:g}", offered > MIN_OFFERED),
        ("wrong answers", seen.total("wrong"), "0", not seen.total("wrong")),
        ("answered twice", seen.total("twice"), "0", not seen.total("twice")),
        ("lost, by no kill", seen.total("lost"), "0", not seen.total("lost")),
        ("GET / that failed, by no kill", failed, "0", not failed),
        (
            "p99 of GET /, ms",
            f"{after:.1f} (idle {before:.1f}; slowest {slowest * 1e3:.0f})",
            f"at most {MAX_P99_RATIO:g} x idle",
            after <= MAX_P99_RATIO * before,
        ),
        (
            "memory of the spared worker, third and last quarter, MiB",
            f"{third / MIB:.0f}, {last / MIB:.0f}",
            f"at most {flat / MIB:.0f}",
            last <= flat,
        ),
        (
            "most memory of a worker, MiB",
            f"{seen.peak_bytes / MIB:.0f}",
            f"below {MAX_WORKER_BYTES / MIB:.0f}",
            seen.peak_bytes < MAX_WORKER_BYTES,
        ),
        ("exit status after SIGTERM", exit_status, "0", exit_status == 0),
    ]
    print(f"\n{len(seen.kills_s)} kills\n| what | seen | wanted | |\n|---|---|---|---|")
    for what, found, wanted, is_fine in rows:
        print(f"| {what} | {found} | {wanted} | {'ok' if is_fine else 'NOT'} |")
    for example in seen.examples:
        print(example)
    return all(is_fine for *_, is_fine in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", type=Path, help="model folder instead of a random lite0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes
    photos = draw_photos(NUM_PHOTOS)
    large = cv2.imencode(".png", np.full((4000, 6000, 3), 90, np.uint8))[1].tobytes()
    seen = Seen()
    prober = ProcessPoolExecutor(1, get_context("spawn"))
    with served(arguments.model) as (server, _), prober:
        replies = [
            asyncio.run(exchange(server.port, [request_of(body_of([text_of(image)]))]))
            for image in [*photos, large]
        ]
        clients = Clients(photos, large, replies)
        per_s = asyncio.run(capacity(server.port, clients))
        rate = TIMES_CAPACITY * per_s
        idle = prober.submit(probe, server.port, IDLE_S).result()
        print(f"{per_s:.0f} photos/s; now {rate:.0f} requests/s for {seconds:.0f} s", flush=True)
        started = time.monotonic()
        busy = prober.submit(probe, server.port, seconds)
        asyncio.run(load(server, clients, seen, rate, seconds, arguments.seed))
        memory = growth(seen, started, seconds)
        offered = sum(seen.counts.values()) / seconds / per_s
        is_fine = report(seen, idle, busy.result(), memory, offered, server.stop())
    raise SystemExit(not is_fine)


if __name__ == "__main__":
    main()
