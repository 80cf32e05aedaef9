"""`autofocus demo`: every step from data to endpoint on rendered photos, without a download."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.output import AsJson, command, emit, emit_json, note, progress, showing_run
from autofocus.errors import AutofocusError, InputError

NUM_TRAINING = 240
NUM_TEST = 80
# Keeps the whole demo under two minutes on two cores.
BUDGET_S = 60.0
START_TIMEOUT_S = 30.0


@command
def demo(
    task: Annotated[
        str | None, typer.Option(help="Published task name. Default: multi-class.")
    ] = None,
    render: Annotated[Path | None, typer.Option(help="Only draw photos and rows, here.")] = None,
    num_images: Annotated[
        int, typer.Option("-n", min=1, help="Photos to train on.")
    ] = NUM_TRAINING,
    seed: Annotated[int, typer.Option(help="Another seed, other photos.")] = 0,
    output_dir: Annotated[Path, typer.Option(help="Where photos and run go.")] = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """Draw photos, check, train, package, serve and score them; or only draw, with --render."""
    from autofocus.data.rows.records import RECORD_TYPES

    task = task or next(iter(RECORD_TYPES))
    if task not in RECORD_TYPES:
        raise InputError(f"--task must be one of {', '.join(RECORD_TYPES)}, got {task!r}.")
    if render is not None:
        rows = _draw(render, task, num_images, seed)
        emit_json({"data": str(rows), "num_images": num_images}) if as_json else emit(str(rows))
        return
    result = _run_all(task, num_images, seed, output_dir, as_json)
    if as_json:
        emit_json(result)


def _draw(folder: Path, task: str, num_images: int, seed: int) -> Path:
    from autofocus.data.rows.records import RECORD_TYPES
    from autofocus.demo import write_scenes

    return write_scenes(folder, RECORD_TYPES[task], num_images, seed, progress())


def _run_all(
    task: str, num_images: int, seed: int, output_dir: Path, as_json: bool
) -> dict[str, Any]:
    from autofocus import api

    note(f"1/4  drawing {num_images} photos to train on and {NUM_TEST} to test with")
    training = _draw(output_dir / "training", task, num_images, seed)
    test = _draw(output_dir / "test", task, NUM_TEST, seed + 1)

    note("2/4  checking and training")
    with showing_run(as_json=as_json) as (track, on_folder):
        result = api.train(
            task=task,
            data=str(training),
            test_data=str(test),
            seed=seed,
            budget=BUDGET_S,
            output_dir=str(output_dir / "run"),
            overwrite=True,
            track=track,
            on_folder=on_folder,
        )
    note("3/4  starting the server")
    photo = sorted((test.parent / "images").iterdir())[0]
    scored = _serve_and_score(Path(result["best_model"]), photo)
    note("4/4  done")
    _show(result, scored, photo)
    return {**result, "request": scored["request"], "response": scored["response"]}


def _serve_and_score(model: Path, photo: Path) -> dict[str, Any]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/score"
    server = subprocess.Popen(
        [sys.executable, "-m", "autofocus", "serve", str(model), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        _wait_until_ready(port, server)
        return {"url": url, **_published_client(url, photo)}
    finally:
        server.terminate()
        server.communicate(timeout=START_TIMEOUT_S)


def _published_client(url: str, sample_image: Path) -> dict[str, Any]:
    """Send the request of the published data schema to `url`; return request and response."""
    request_json = {
        "input_data": {
            "columns": ["image"],
            "data": [base64.encodebytes(sample_image.read_bytes()).decode("utf-8")],
        }
    }
    body = json.dumps(request_json)
    request = urllib.request.Request(
        url, body.encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as reply:
        return {"request": request_json, "response": json.load(reply)}


def _wait_until_ready(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if server.poll() is not None:
            reason = server.stderr.read().decode().strip() if server.stderr else ""
            raise AutofocusError(f"the server stopped at once: {reason}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AutofocusError(f"the server did not answer within {START_TIMEOUT_S:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _show(result: dict[str, Any], scored: dict[str, Any], photo: Path) -> None:
    metric = result["primary_metric"]
    test = result["test_metrics"][metric]
    emit()
    other = f"{result['metrics_of']} {result['value']:.3f}"
    emit(f"{metric} on {NUM_TEST} test photos: {test:.3f}   ({other})")
    emit(f"seconds from start to a verified model: {result['seconds_to_first_model']:.1f}")
    emit(f"model: {result['best_model']}")
    emit()
    emit(f"POST {scored['url']}")
    emit('{"input_data": {"columns": ["image"], "data": ["<base64 of ' + f'{photo}>"]}}}}')
    emit(json.dumps(_rounded(scored["response"])))
    emit()
    emit(f"serve it yourself: autofocus serve {result['best_model']}")


def _rounded(response: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {k: [round(p, 4) for p in v] if k == "probs" else v for k, v in item.items()}
        for item in response
    ]
