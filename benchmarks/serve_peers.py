"""Servers that are measured beside each other, each in an environment of its own, and their model.

All serve one package of ours: the same ONNX file, two processes that score, one thread each.
Environments are made in the cache folder at the first use, with the versions below; what scores
has the versions that the package names.
"""

import base64
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from serve_client import drive, request_bytes

from autofocus.manifest import MANIFEST_NAME, encode_manifest, read_manifest
from autofocus.runtime import cache_dir
from autofocus.scoring.scorer import Scorer

IMAGE_BYTES = 50_000
NUM_LABELS = 1_000
CROP = 224
CANVAS = 416
NUM_OBJECTS = 10
WORKERS = 2
OURS = "autofocus"
SCRIPTS = Path(__file__).parent / "peers"
AZML = ("azureml-inference-server-http==1.5.1", "gunicorn==27.0.1", "flask==3.1.3")
LITSERVE = ("litserve==0.2.19", "fastapi==0.165.0", "uvicorn[standard]==0.54.0", "uvloop==0.23.0")
MLFLOW = ("mlflow==3.17.2", "fastapi==0.165.0", "uvicorn==0.54.0")
# Ours sees to that itself.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
# Start of a server with a cold disk, and of environments of 600 MB.
START_S = 180.0
STOP_S = 20.0


@dataclass(frozen=True)
class Peer:
    """One way to serve a package.

    Attributes:
        packages: Requirements of its environment; none is this process's own.
        command: (Python, package, port) to the command line.
        path: Where it takes requests.
        body: Image to request body.
        has_our_code: Whether the package's code is on its path.
    """

    name: str
    packages: tuple[str, ...]
    command: Callable[[str, Path, int], list[str]]
    path: str = "/score"
    body: Callable[[bytes], bytes] = field(default=lambda image: request_body(image))
    has_our_code: bool = True


def request_body(image: bytes) -> bytes:
    data = [base64.encodebytes(image).decode()]
    return json.dumps({"input_data": {"columns": ["image"], "data": data}}).encode()


def mlflow_body(image: bytes) -> bytes:
    table = {"columns": ["image"], "data": [[base64.encodebytes(image).decode()]]}
    return json.dumps({"dataframe_split": table}).encode()


def serve_command(python: str, model: Path, port: int) -> list[str]:
    # Nothing is explained here: its process is not to be measured while it warms up.
    flags = ["--port", str(port), "--workers", str(WORKERS), "--no-explain-warm-up"]
    return [python, "-m", "autofocus", "serve", str(model), *flags]


def azml_command(script: str) -> Callable[[str, Path, int], list[str]]:
    def command(python: str, model: Path, port: int) -> list[str]:
        # Gunicorn is looked for on the path, so that the environment's folder has to be on it.
        flags = {"entry_script": SCRIPTS / script, "model_dir": model, "port": port}
        flags |= {"worker_count": WORKERS, "health_port": port}
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        return [python, "-m", "azureml_inference_server_http", *words]

    return command


def litserve_command(python: str, model: Path, port: int) -> list[str]:
    return [python, str(SCRIPTS / "litserve_scorer.py"), str(model), str(port), str(WORKERS)]


def mlflow_command(python: str, model: Path, port: int) -> list[str]:
    flags = ["--env-manager", "local", "--port", str(port), "--workers", str(WORKERS)]
    return [python, "-m", "mlflow", "models", "serve", "--model-uri", str(model), *flags]


PEERS = (
    Peer(OURS, (), serve_command),
    Peer("azmlinfsrv, our scorer", AZML, azml_command("azml_scorer.py")),
    Peer("azmlinfsrv, Pillow", AZML, azml_command("azml_pillow.py"), has_our_code=False),
    Peer("LitServe, our scorer", LITSERVE, litserve_command),
    Peer("MLflow", MLFLOW, mlflow_command, "/invocations", mlflow_body),
)


class Server:
    """A server that runs, with its output in a file.

    Attributes:
        first_reply_s: Time from its start to its first reply.
        reply: That reply's body.
    """

    def __init__(self, peer: Peer, model: Path, image: bytes, log: Path) -> None:
        self.peer = peer
        self.log = log
        self.port = free_port()
        self._body = peer.body(image)
        python = environment(peer, model)
        paths = [str(model / "code")] if peer.has_our_code and peer.packages else []
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        settings = {"PYTHONPATH": os.pathsep.join(paths)} | (ONE_THREAD if peer.packages else {})
        settings["PATH"] = os.pathsep.join((str(Path(python).parent), os.environ["PATH"]))
        started = time.monotonic()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                peer.command(python, model, self.port),
                stdout=file,
                stderr=subprocess.STDOUT,
                env=inherited | settings,
                cwd=log.parent,
                start_new_session=True,
            )
        self.reply = self._first_reply(started)
        self.first_reply_s = time.monotonic() - started

    def request(self, *, kept_alive: bool) -> bytes:
        """Return a whole request for scores."""
        return request_bytes(self.peer.path, self._body, kept_alive=kept_alive)

    def cpu_s(self) -> float:
        """Return user + system seconds of all its processes."""
        return tree_cpu_s(self.process.pid)

    def stop(self) -> None:
        """End all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # Processes that outlive the first one.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _first_reply(self, started: float) -> bytes:
        while time.monotonic() < started + START_S and self.process.poll() is None:
            with suppress(OSError, EOFError):
                return drive(self.port, self.request(kept_alive=False), 1).last_reply
            time.sleep(0.05)
        self.stop()
        text = self.log.read_text(errors="replace")[-2_000:]
        raise SystemExit(f"{self.peer.name} did not start. The end of its log:\n{text}")


def environment(peer: Peer, model: Path) -> str:
    """Return the Python of a peer's environment, which is made where it is missing."""
    if not peer.packages:
        return sys.executable
    lines = (model / "requirements.txt").read_text().split()
    scoring = tuple(line for line in lines if not line.startswith("mlflow"))
    wanted = (*peer.packages, *scoring)
    name = hashlib.sha256("\n".join((sys.version, *wanted)).encode()).hexdigest()[:12]
    folder = cache_dir() / "serve_score" / f"{peer.packages[0].partition('=')[0]}-{name}"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        print(f"{peer.name}: making {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        # Pinned versions may be newer than one of the others allows to be chosen by itself.
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        finished.touch()
    return str(python)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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


def build_model(folder: Path, num_labels: int = NUM_LABELS) -> Path:
    """Write a classifier with random weights; speed does not depend on them."""
    return _write(
        folder,
        f"""
name, labels, preprocess = "tf_efficientnet_lite0", {num_labels}, ResizeCrop(256, {CROP})
task = next(task for task in TASKS.values() if task.model_kind == "classifier")
options = {{}}
""",
    )


def build_detector(folder: Path, image: bytes) -> Path:
    """Write a detector with random weights that finds as many objects in an image as usual."""
    _write(
        folder,
        f"""
name, labels, preprocess = catalog.DEFAULT_DETECTOR, 4, ResizeFit({CANVAS}, {CANVAS})
task = next(task for task in TASKS.values() if task.model_kind == "detector")
options = {{"strides": [8, 16, 32], "channels": 128, "range_ends": [64.0, 128.0]}}
options["num_candidates"] = 300
""",
    )
    scorer = Scorer.load(folder)
    settings = scorer.task.default_settings(0.0, False, {"box_detections_per_image": NUM_OBJECTS})
    (prediction,) = scorer.try_predict([image], settings | {"box_score_threshold": 0.0})
    settings["box_score_threshold"] = float(prediction.scores.min())
    manifest = read_manifest(folder)
    manifest.settings.update(settings)
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return folder


def _write(folder: Path, choice: str) -> Path:
    """Write a package in a process of its own, so that this one never imports torch."""
    code = f"""
from pathlib import Path
from autofocus.manifest import DataInfo, Manifest, ResizeCrop, ResizeFit, WeightsInfo
from autofocus.models import catalog
from autofocus.models.families import family_of
from autofocus.package.mlflow_model import write_package
from autofocus.tasks import TASKS
{choice}
spec = catalog.resolve(name)
network = family_of(spec).build(spec, labels, None, preprocess.size, options).eval()
manifest = Manifest(
    task=task.name,
    labels=[f"label_{{i:04}}" for i in range(labels)],
    model_name=name,
    preprocess=preprocess,
    weights=WeightsInfo("random", "none"),
    data=DataInfo("0" * 64, 1, 1),
    outputs=list(network.output_names),
    network=options,
)
write_package(Path({str(folder)!r}), network, manifest)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    return folder


def start_server(
    model: Path, image: bytes, *flags: str
) -> tuple[subprocess.Popen[str], str, float]:
    """Return a warm server of ours, its host and port, and the seconds from start to a reply."""
    started = time.monotonic()
    process, url = open_server(model, *flags)
    port = int(url.rpartition(":")[2])
    request = request_bytes("/score", request_body(image), kept_alive=True)
    drive(port, request, 1)
    first_reply_s = time.monotonic() - started
    drive(port, request, 8, seconds=1.0)
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
