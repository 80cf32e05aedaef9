"""The explaining lane of real servers, with an explainer that only sleeps, fails or dies.

`n_steps` says what it does: 2 answers at once, 3 sleeps, 4 dies, 5 fails, 6 refuses, 7 never ends,
8 says when it is stopped, 9 says that it runs.
"""

import base64
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.serve import explainer
from autofocus.serve.explainer import _LOOK_S, ExplainProcess, forget, new_address
from support.serving import request_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

SCRIPT = """
import logging, os, sys, time
from pathlib import Path
from autofocus.cli.serve import serve

class Explainer:
    def warm_up(self):
        print("warming up", file=sys.stderr, flush=True)

    def answer(self, row, check):
        if row.parameters.n_steps == 3:
            time.sleep(1.0)
        if row.parameters.n_steps == 4:
            os._exit(9)
        if row.parameters.n_steps == 5:
            raise ValueError("inner secret")
        if row.parameters.n_steps == 6:
            from autofocus.errors import RequestError
            raise RequestError(f"input_data.data[{row.index}]: cannot be explained")
        while row.parameters.n_steps == 7:
            time.sleep(0.05)
            check()
        if row.parameters.n_steps == 8:
            print("ran eight", file=sys.stderr, flush=True)
        while row.parameters.n_steps == 8:
            time.sleep(0.05)
            try:
                check()
            except BaseException:
                print("stopped", file=sys.stderr, flush=True)
                raise
        if row.parameters.n_steps == 9:
            print("ran nine", file=sys.stderr, flush=True)
        pid = str(os.getpid()).encode()
        return {"visualizations": pid, "attributions": str(os.nice(0)).encode()}

def load(folder, max_pixels):
    if os.environ.get("BROKEN"):
        raise ValueError("cannot load")
    if os.environ.get("DEADLY"):
        os._exit(9)
    print("loaded", file=sys.stderr, flush=True)
    return Explainer()

import autofocus.serve.explainer
autofocus.serve.explainer.load_row_explainer = load
if __name__ == "__main__":
    serve(Path(sys.argv[1]), port=0, workers=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "model"
    shutil.copytree(tiny_model, folder)
    (folder / WEIGHTS_NAME).touch()
    return folder


@pytest.fixture(scope="module")
def start(
    folder: Path, start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    script = tmp_path_factory.mktemp("script") / "server.py"
    script.write_text(SCRIPT)

    def start(workers: int = 2, **variables: str) -> Any:
        env = {
            name if name.isupper() else f"AUTOFOCUS_{name.upper()}": value
            for name, value in variables.items()
        }
        command = [sys.executable, str(script)]
        return start_server(folder, workers, command=command, env=env)

    return start


@pytest.fixture(scope="module")
def shared(start: Callable[..., Any]) -> Any:
    return start()


@pytest.fixture(scope="module")
def asking(photo: bytes) -> Callable[..., dict[str, Any]]:
    """Make a request of one row each `n_steps`; None is a plain row."""
    image = base64.encodebytes(photo).decode()

    def row(n_steps: int | None) -> str:
        if n_steps is None:
            return image
        parameters = {"n_steps": n_steps}
        return json.dumps(
            {"image_base64": image, "model_explainability": True, "xai_parameters": parameters}
        )

    def make(*n_steps: int | None) -> dict[str, Any]:
        return request_for(*map(row, n_steps))

    return make


def test_all_workers_share_one_process_of_low_priority(shared: Any, asking: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: shared.score(asking(None, 2)), range(8)))
    assert {reply.status for reply in replies} == {200}
    plain, explained = replies[0].json
    assert list(plain) == ["probs", "labels"]
    assert explained["probs"] == plain["probs"]
    assert explained["attributions"] == 19
    pids = {reply.json[1]["visualizations"] for reply in replies}
    assert len(pids) == 1
    assert "x-autofocus-explanations" not in replies[0].headers


def test_scoring_goes_on_while_an_explanation_runs(shared: Any, asking: Any) -> None:
    shared.score(asking(2))
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(shared.score, asking(3)) for _ in range(2)]
        time.sleep(0.1)
        started = time.monotonic()
        replies = [shared.score(asking(None)) for _ in range(20)]
        seconds = time.monotonic() - started
        assert not any(future.done() for future in running)
    assert {reply.status for reply in replies} == {200}
    assert seconds < 0.9
    assert {future.result().status for future in running} == {200}


def test_full_lane_is_429_and_scoring_is_not(start: Any, asking: Any) -> None:
    server = start(workers=1, explain_queue_size="1")
    server.score(asking(2))
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(server.score, asking(3)) for _ in range(6)]
        time.sleep(0.3)
        assert server.score(asking(None)).status == 200
        replies = [future.result() for future in running]
    statuses = sorted(reply.status for reply in replies)
    assert statuses == [200] * 2 + [429] * 4
    shed = next(reply for reply in replies if reply.status == 429)
    assert int(shed.headers["retry-after"]) >= 1
    assert "1 requests to explain are waiting" in shed.json["message"]


def test_crash_is_500_for_its_request_alone_and_the_lane_starts_anew(
    start: Any, asking: Any
) -> None:
    server = start()
    first = server.score(asking(2)).json[0]["visualizations"]
    with ThreadPoolExecutor(2) as pool:
        dying = pool.submit(server.score, asking(3, 4))
        time.sleep(0.3)
        # Behind it in the queue: the successor answers it.
        waiting = [pool.submit(server.score, asking(2)) for _ in range(1)]
        assert dying.result().status == 500
        assert dying.result().headers["x-ms-run-function-failed"] == "true"
        replies = [future.result() for future in waiting]
    assert [reply.status for reply in replies] == [200]
    assert replies[0].json[0]["visualizations"] != first
    assert server.score(asking(None)).status == 200
    status, stderr = server.stop()
    assert status == 0
    assert "the explaining process ended with status 9; starting another" in stderr


def test_failure_is_500_without_its_reason_and_a_refusal_names_the_row(
    shared: Any, asking: Any
) -> None:
    failed = shared.score(asking(5))
    assert failed.status == 500
    assert "secret" not in failed.json["message"]
    # Lines are written a moment later.
    deadline = time.monotonic() + 5
    while not any("inner secret" in line for line in shared.lines):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    refused = shared.score(asking(None, 6))
    assert refused.status == 400
    assert refused.json == {"message": "input_data.data[1]: cannot be explained"}
    assert shared.score(asking(2)).status == 200


def test_explanation_past_its_deadline_is_408(start: Any, asking: Any) -> None:
    server = start(workers=1, explain_timeout_s="0.6")
    server.score(asking(2))
    started = time.monotonic()
    late = server.score(asking(7))
    assert 0.5 < time.monotonic() - started < 3
    assert late.status == 408
    assert "--explain-timeout-s" in late.json["message"]
    # So short a time is too short for any answer where the machine is busy.
    assert any(server.score(asking(2)).status == 200 for _ in range(5))


def test_clients_that_hang_up_give_their_places_back(start: Any, asking: Any) -> None:
    server = start(workers=1, explain_queue_size="2")
    running = _send(server, asking(8))
    _until(lambda: "ran eight" in "".join(server.lines))
    waiting = [_send(server, asking(9)) for _ in range(2)]
    _until(lambda: server.score(asking(2)).status == 429)
    for connection in waiting:
        connection.close()
    _until(lambda: "".join(server.lines).count("POST /score 499") == 2)
    with ThreadPoolExecutor(1) as pool:
        # The queue was full of them; now there is room.
        late = pool.submit(server.score, asking(2))
        running.close()
        assert late.result().status == 200
    status, stderr = server.stop()
    assert status == 0
    assert "ran nine" not in stderr


def test_work_whose_client_has_gone_stops_at_the_next_look(start: Any, asking: Any) -> None:
    server = start(workers=2)
    first = _send(server, asking(8))
    _until(lambda: "ran eight" in "".join(server.lines))
    # Two workers, one process: the next request of the other waits in the process.
    others = [_send(server, asking(9)) for _ in range(3)]
    time.sleep(0.3)
    for connection in others:
        connection.close()
    _until(lambda: "".join(server.lines).count("POST /score 499") == 3)
    # The client is answered first; the process that explains is told at the worker's next look.
    time.sleep(3 * _LOOK_S)
    first.close()
    assert server.score(asking(2)).status == 200
    _, stderr = server.stop()
    assert stderr.count("stopped") == 1
    assert "ran nine" not in stderr


def test_warm_up_comes_after_the_server_is_ready_and_before_it_is_asked(start: Any) -> None:
    server = start(workers=1)
    _until(lambda: "Explanations are warmed up" in "".join(server.lines))
    text = "".join(server.lines)
    assert text.index("Serving ") < text.index("loaded") < text.index("warming up")


def test_without_warm_up_nothing_is_loaded_until_it_is_asked_for(start: Any, asking: Any) -> None:
    server = start(workers=1, explain_warm_up="false")
    time.sleep(0.5)
    assert "loaded" not in "".join(server.lines)
    assert server.score(asking(2)).status == 200
    _, stderr = server.stop()
    assert stderr.count("loaded") == 1
    assert "warmed up" not in stderr


def test_failing_warm_up_is_logged_and_scoring_goes_on(start: Any, asking: Any) -> None:
    server = start(workers=1, BROKEN="1")
    _until(lambda: "could not be warmed up" in "".join(server.lines))
    assert server.score(asking(None)).status == 200
    assert server.score(asking(2)).status == 500


def test_warm_up_that_kills_its_process_is_not_tried_again(start: Any, asking: Any) -> None:
    server = start(workers=1, DEADLY="1")
    _until(lambda: "ended with status 9" in "".join(server.lines))
    time.sleep(1.0)
    assert server.score(asking(None)).status == 200
    _, stderr = server.stop()
    assert stderr.count("ended with status 9") == 1


def test_bad_parameters_are_400_with_key_and_row(shared: Any, asking: Any) -> None:
    reply = shared.score(asking(None, 1, 2))
    assert reply.status == 400
    assert reply.json["message"].startswith(
        "input_data.data[1]: xai_parameters.n_steps must be a whole number from 2 to 1000, got 1."
    )


def test_too_many_explanations_are_413(start: Any, asking: Any) -> None:
    server = start(workers=1, max_explanations="2")
    assert server.score(asking(2, None, 2)).status == 200
    assert server.score(asking(2, 2, 2)).status == 413


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_signal_to_the_whole_group_lets_a_running_explanation_finish(
    start: Any, asking: Any, workers: int
) -> None:
    server = start(workers=workers)
    pid = server.score(asking(2)).json[0]["visualizations"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.score, asking(3))
        time.sleep(0.4)
        # As an init system does it: every process gets the signal.
        os.kill(pid, signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        assert running.result().status == 200
    assert server.process.wait(10) == 0
    assert _ends(pid)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_server_takes_its_explaining_process_along(
    start: Any, asking: Any, workers: int
) -> None:
    server = start(workers=workers)
    pid = server.score(asking(2)).json[0]["visualizations"]
    threading.Thread(target=lambda: _ignoring_errors(server.score, asking(7)), daemon=True).start()
    time.sleep(0.2)
    server.process.kill()
    server.process.wait()
    assert _ends(pid)


def test_server_without_torch_says_what_to_install(
    folder: Path, start_server: Any, asking: Any, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    env = {"PYTHONPATH": str(tmp_path)}
    server = start_server(folder, "--port", "0", "--workers", "2", env=env)
    assert server.score(asking(None)).status == 200
    refused = server.score(asking(2))
    assert refused.status == 400
    assert "Explanations need torch, not installed here" in refused.json["message"]
    assert "pip install '.[train]'" in refused.json["message"]


def test_model_without_torch_weights_says_what_is_missing(server: Any, asking: Any) -> None:
    refused = server.score(asking(2))
    assert refused.status == 400
    assert "this model folder has no model.safetensors" in refused.json["message"]


def _send(server: Any, document: dict[str, Any]) -> http.client.HTTPConnection:
    """Send a request and do not wait for its reply."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/score", json.dumps(document), headers)
    return connection


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the condition did not come true")


def _ignoring_errors(function: Callable[..., Any], *arguments: Any) -> None:
    try:
        function(*arguments)
    except OSError:
        return


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        try:
            os.kill(pid, 0)
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_long_folder_for_temporary_files_is_no_folder_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    address = new_address()
    try:
        assert len(address.path) < 100
        assert Path(address.path).parent.is_dir()
        assert list(long.iterdir()) == []
    finally:
        forget(address)


def test_a_process_that_says_nothing_is_killed_and_one_that_beats_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Process:
        sentinel, _end = multiprocessing.Pipe()
        was_killed = False

        def kill(self) -> None:
            self.was_killed = True

    monkeypatch.setattr(explainer, "_MAX_SILENCE_S", 0.2)
    keeper = ExplainProcess(new_address(), Path(), None, lambda folder, limit: None)  # type: ignore[arg-type,return-value]
    ours, theirs = multiprocessing.Pipe()
    process: Any = Process()
    threading.Thread(
        target=lambda: [theirs.send(None) or time.sleep(0.05) for _ in range(10)]
    ).start()
    started = time.monotonic()
    keeper._watch(process, ours)
    assert process.was_killed
    assert time.monotonic() - started > 0.5
    keeper.stop()
