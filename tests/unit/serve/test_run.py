"""Servers as real processes: how they start, share work, survive and stop."""

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import pytest

from autofocus.errors import InputError
from autofocus.serve.run import _ALIVE, _READY, _Supervisor, _Worker, bind, load_scorer, url_of
from autofocus.serve.settings import ServerPlan, Settings
from support.serving import request_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

REQUEST = request_for(b"image")

# A server whose model only sleeps; arguments: workers, seconds a request, grace, queue.
SCRIPT = """
import logging, os, sys, threading, time
from pathlib import Path
from autofocus.errors import AutofocusError
from autofocus.serve.settings import ServerPlan
from autofocus.serve.run import serve
from autofocus.serve.settings import Settings

class Sleeper:
    def score(self, images):
        images = list(images)
        if images[0] == b"die":
            os._exit(9)
        if images[0] == b"meet":
            MEETING.wait()
        time.sleep(SECONDS)
        return [{"probs": [1.0], "labels": [str(os.getpid())]} for _ in images]

def load(folder, max_pixels):
    if folder.name == "dies":
        os._exit(3)
    return Sleeper()

MEETING = threading.Barrier(2, timeout=10)
WORKERS, SECONDS, GRACE, QUEUE = int(sys.argv[1]), *map(float, sys.argv[2:4]), int(sys.argv[4])
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = Settings(port=0, workers=WORKERS, grace_s=GRACE, queue_size=QUEUE)
    plan = ServerPlan(Path(sys.argv[5] if len(sys.argv) > 5 else "."), settings, [], load)
    try:
        serve(plan, lambda url: print(url + "/score", file=sys.stderr, flush=True))
    except AutofocusError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(error.exit_status)
"""


@pytest.fixture
def start_sleeper(tmp_path: Path, start_server: Callable[..., Any]) -> Callable[..., Any]:
    script = tmp_path / "sleeper.py"
    script.write_text(SCRIPT)

    def start(workers: int = 1, seconds: float = 0.0, grace: float = 20.0, queue: int = 64) -> Any:
        arguments = [str(value) for value in (workers, seconds, grace, queue)]
        return start_server(*arguments, command=[sys.executable, str(script)])

    return start


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_lets_the_running_request_finish(
    start_sleeper: Callable[..., Any], workers: int, sig: int
) -> None:
    server = start_sleeper(workers, seconds=1.0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.score, REQUEST)
        time.sleep(0.4)
        sent = time.monotonic()
        server.process.send_signal(sig)
        time.sleep(0.2)
        # The port still answers, and says that this server is going.
        ready = server.request("/ready")
        refused = server.score(REQUEST)
        assert running.result().status == 200
    assert (ready.status, ready.json) == (503, {"message": "The server is stopping."})
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert server.process.wait(10) == 0
    assert time.monotonic() - sent < 5


@pytest.mark.parametrize("workers", [1, 2])
def test_request_longer_than_the_grace_period_is_cut_off_with_status_1(
    start_sleeper: Callable[..., Any], workers: int
) -> None:
    server = start_sleeper(workers, seconds=60.0, grace=0.3)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.score, REQUEST)
        time.sleep(0.4)
        status, stderr = server.stop()
        assert running.exception() is not None or running.result().status == 500
    assert status == 1
    assert "1 requests unanswered" in stderr


def test_overload_is_shed_while_accepted_requests_are_answered(
    start_sleeper: Callable[..., Any],
) -> None:
    server = start_sleeper(seconds=0.3, queue=2)
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: server.score(REQUEST), range(12)))
    statuses = [reply.status for reply in replies]
    assert statuses.count(200) == 3
    assert statuses.count(429) == 9
    assert all(int(r.headers["retry-after"]) >= 1 for r in replies if r.status == 429)
    assert server.score(REQUEST).status == 200


def test_workers_share_requests(start_sleeper: Callable[..., Any]) -> None:
    server = start_sleeper(workers=2, seconds=0.1)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: server.score(REQUEST), range(24)))
    counts: dict[str, int] = {}
    for reply in replies:
        pid = reply.json[0]["labels"][0]
        counts[pid] = counts.get(pid, 0) + 1
    assert len(counts) == 2
    assert min(counts.values()) >= 4


def test_rows_of_one_request_use_the_cores_of_workers_without_work(
    start_sleeper: Callable[..., Any],
) -> None:
    # Each row waits for the other.
    server = start_sleeper(workers=2)
    reply = server.score(request_for(b"meet", b"meet"))
    assert (reply.status, len(reply.json)) == (200, 2)


def test_dead_worker_is_replaced(start_sleeper: Callable[..., Any]) -> None:
    server = start_sleeper(workers=2)
    with pytest.raises(OSError, match=r"(?i)closed|reset"):
        server.score(request_for(b"die"))
    # The other one goes on meanwhile.
    assert server.score(REQUEST).status == 200
    deadline = time.monotonic() + 10
    pids: set[str] = set()
    while len(pids) < 2 and time.monotonic() < deadline:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: server.score(REQUEST), range(16)))
        pids |= {reply.json[0]["labels"][0] for reply in replies}
    assert len(pids) == 2
    status, stderr = server.stop()
    assert status == 0
    assert "a worker process ended with status 9; starting another" in stderr


class FakeProcess:
    """A worker's process, of which only its end is known."""

    exitcode: int | None = None

    def kill(self) -> None:
        self.exitcode = -9

    def join(self) -> None:
        self.exitcode = 3 if self.exitcode is None else self.exitcode


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two workers that are ready, of fake processes; `theirs` are their ends of the pipes."""

    def start(self: Any, index: int) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        self.theirs.append(theirs)
        theirs.send(_READY)
        return _Worker(index, FakeProcess(), ours)  # type: ignore[arg-type]

    monkeypatch.setattr(_Supervisor, "_start", start)
    monkeypatch.setattr("autofocus.serve.run._LOOK_S", 0.0)
    plan = ServerPlan(Path(), Settings(workers=2), [], lambda folder, limit: None)  # type: ignore[arg-type,return-value]
    with socket.socket() as sock:
        made: Any = _Supervisor(plan, sock)
        made.theirs = []
        made._is_announced = True
        yield made


def test_crash_loops_pause_while_another_worker_serves(supervisor: Any) -> None:
    never, _ = multiprocessing.Pipe()
    supervisor._wait_for_news(never)
    first = supervisor._workers[0]
    assert [supervisor._pause_s(first) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    # One that never became ready is not tried again at once.
    supervisor._deaths_s = []
    first.is_ready = False
    assert supervisor._pause_s(first) == 0.5
    # Without any the next one must not be long.
    supervisor._workers[1].is_ready = False
    assert [supervisor._pause_s(first) for _ in range(3)] == [0.5, 0.5, 0.5]


def test_a_silent_worker_is_killed_and_replaced_and_one_that_speaks_is_not(
    supervisor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    never, _ = multiprocessing.Pipe()
    supervisor._wait_for_news(never)
    silent, speaking = supervisor._workers
    for worker in (silent, speaking):
        worker.heard_s -= 100
    supervisor.theirs[1].send(_ALIVE)
    supervisor._wait_for_news(never)
    assert supervisor._workers == [speaking]
    assert silent.process.exitcode == -9
    assert "a worker process has been silent for 60 s" in caplog.text
    supervisor._wait_for_news(never)
    assert [worker.index for worker in supervisor._workers] == [1, 0]


def test_killed_parent_takes_its_workers_along(start_sleeper: Callable[..., Any]) -> None:
    server = start_sleeper(workers=2)
    pid = int(server.score(REQUEST).json[0]["labels"][0])
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 10
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(pid)


def test_worker_that_dies_while_it_starts_ends_the_server(tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(SCRIPT)
    argv = [sys.executable, str(script), "2", "0", "5", "1", "dies"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "a worker process ended with status 3 while it started" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_resizes_on_its_own_thread(model_folder: Path) -> None:
    cv2.setNumThreads(2)
    try:
        load_scorer(model_folder, None)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(-1)


def test_bind_takes_a_free_port_or_names_the_taken_one() -> None:
    with bind(Settings(port=0)) as first:
        port = first.getsockname()[1]
        # asyncio looks at it before it lets small packets go at once.
        assert first.proto == socket.IPPROTO_TCP
        assert url_of(first, Settings(port=0)) == f"http://127.0.0.1:{port}"
        with pytest.raises(
            InputError, match=rf"127.0.0.1:{port}: cannot listen.*--port {port + 1}"
        ):
            bind(Settings(port=port))
    with pytest.raises(InputError, match=r"203.0.113.9:0: cannot listen there"):
        bind(Settings(host="203.0.113.9", port=0))


def test_requests_in_pieces_and_over_the_limit_on_a_real_socket(
    start_sleeper: Callable[..., Any],
) -> None:
    server = start_sleeper()
    host, port = re.findall(r"//(.*):(\d+)", server.url)[0]
    body = json.dumps(REQUEST).encode()

    def exchange(*pieces: bytes) -> bytes:
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(0.05)
            return sock.recv(65_536)

    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:])]
    assert b"200 OK" in exchange(chunked, *pieces, b"0\r\n\r\n")
    assert b" 413 " in exchange(head + b"Content-Length: 999999999999\r\n\r\n")
    # Asked first, the client is told before it sends anything.
    expecting = head + b"Expect: 100-continue\r\nContent-Length: 999999999999\r\n\r\n"
    assert exchange(expecting).startswith(b"HTTP/1.1 413 ")
    assert b" 400 " in exchange(b"NONSENSE\r\n\r\n")
    assert server.score(REQUEST).status == 200


def test_long_body_gets_its_413_though_the_client_sends_all_of_it(
    start_sleeper: Callable[..., Any],
) -> None:
    reply = start_sleeper().score(b" " * (65 << 20))
    assert reply.status == 413
    assert "67,108,864 bytes" in reply.json["message"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_stop_during_overload_from_many_threads_answers_every_accepted_request(
    start_sleeper: Callable[..., Any],
) -> None:
    server = start_sleeper(workers=2, seconds=0.02)
    statuses: list[int] = []
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            try:
                statuses.append(server.score(REQUEST).status)
            except OSError:
                # Refused: the port is closed, nothing was accepted.
                return

    threads = [threading.Thread(target=hammer) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    status, _ = server.stop()
    stop.set()
    for thread in threads:
        thread.join()
    assert status == 0
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) > 10
