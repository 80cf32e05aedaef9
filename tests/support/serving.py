"""Fixtures for tests that serve: a tiny model folder, photos, servers as processes. No torch."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LABELS = ["can", "carton", "milk_bottle", "water_bottle"]


def encode_photo(
    seed: int = 0, size: tuple[int, int] = (48, 64), image_format: str = "JPEG"
) -> bytes:
    """Return a small encoded image of smooth noise; size is (height, width)."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(buffer, image_format)
    return buffer.getvalue()


def write_tiny_model(
    folder: Path, labels: list[str], task: str = "image_classification", crop: int = 32
) -> Path:
    """Write a model folder whose network is: mean colour, then one linear layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from autofocus.manifest import (
        DataInfo,
        Manifest,
        ResizeCrop,
        WeightsInfo,
        encode_manifest,
        file_sha256,
    )

    weight = np.random.default_rng(7).normal(size=(3, len(labels))).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, crop, crop])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(labels)])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", 17)]
    folder.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    manifest = Manifest(
        task=task,
        labels=labels,
        model_name="tiny",
        preprocess=ResizeCrop(resize_size=crop, crop_size=crop),
        weights=WeightsInfo(source="random", licence="Apache-2.0"),
        data=DataInfo(fingerprint="0" * 64, num_training=8, num_validation=2),
        files={"model.onnx": file_sha256(folder / "model.onnx")},
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def request_for(*rows: bytes | str) -> dict[str, Any]:
    """Return the published request: images as bytes, or rows as they are sent."""
    data = [base64.encodebytes(row).decode() if isinstance(row, bytes) else row for row in rows]
    return {"input_data": {"columns": ["image"], "data": data}}


@pytest.fixture(scope="session")
def photo() -> bytes:
    return encode_photo()


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., bytes]:
    """Encode photos that differ: `make_photo(seed, (height, width), "PNG")`."""
    return encode_photo


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """Write model folders: `make_model(folder, labels, task)`."""
    return write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", LABELS)


@pytest.fixture(scope="session")
def tiny_multilabel_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny_multilabel"
    return write_tiny_model(folder, LABELS, "image_classification_multilabel")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ServerProcess:
    """A server on a free port of 127.0.0.1."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]
    reader: threading.Thread

    def request(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        request = urllib.request.Request(self.url + path, body, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def score(self, document: Any, headers: dict[str, str] | None = None) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("/score", body, {"Content-Type": "application/json", **(headers or {})})

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit status and all of stderr."""
        self.process.send_signal(sig)
        status = self.process.wait(timeout=30)
        self.reader.join(timeout=10)
        return status, "".join(self.lines)


StartServer = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def start_server() -> Iterator[StartServer]:
    """Start `autofocus serve` (or a given command) and wait for its first line."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: str | Path, command: list[str] | None = None, env: dict[str, str] | None = None
    ) -> ServerProcess:
        argv = command or [sys.executable, "-m", "autofocus", "serve"]
        process = subprocess.Popen(
            [*argv, *map(str, arguments)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(env or {})},
        )
        started.append(process)
        lines: list[str] = []
        # Somebody must read on, or a long log would stop the server.
        reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
        reader.start()
        while True:
            if match := re.search(r"(http://\S+?:\d+)/score", "".join(lines)):
                return ServerProcess(process, match.group(1), lines, reader)
            if not reader.is_alive():
                raise AssertionError(f"the server ended before it was ready:\n{''.join(lines)}")
            time.sleep(0.02)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _read_lines(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    for line in iter(process.stderr.readline, ""):
        lines.append(line)


@pytest.fixture(scope="session")
def server(start_server: StartServer, tiny_model: Path) -> ServerProcess:
    """One server with two workers for all tests that only ask."""
    return start_server(tiny_model, "--port", "0", "--workers", "2")
