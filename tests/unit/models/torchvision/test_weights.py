"""torchvision's weights of whole detectors: its cache, its server, and neither."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from autofocus.errors import WeightsError
from autofocus.models.catalog import resolve
from autofocus.models.torchvision import weights as torchvision_weights
from autofocus.models.weights.hub import Timeouts
from autofocus.models.weights.load import load_weights

SPEC = resolve("fcos_resnet50_fpn")
TIMEOUTS = Timeouts(connect_s=1.0, answer_s=1.0, stall_s=1.0)


class Server:
    """Hands out one file, under a name that ends in `digest`."""

    def __init__(self, content: bytes, digest: str) -> None:
        self.requests: list[str] = []
        self.tokens: list[str | None] = []
        self.status = 200
        self.promised = len(content)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.tokens.append(self.headers.get("Authorization"))
                self.send_response(server.status)
                self.send_header("Content-Length", str(server.promised))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/models/net-{digest}.pth"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def checkpoint(tmp_path: Path) -> bytes:
    path = tmp_path / "net.pth"
    torch.save({"backbone.body.conv1.weight": torch.ones(2)}, path)
    return path.read_bytes()


@pytest.fixture
def server(checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(checkpoint, hashlib.sha256(checkpoint).hexdigest()[:8])
    monkeypatch.setattr(torchvision_weights, "_address", lambda _: server.address)
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_download_is_kept_and_read_from_the_cache_next_time(server: Server) -> None:
    first = load_weights(SPEC, timeouts=TIMEOUTS)
    assert first.spec == SPEC
    assert first.state_dict is not None
    assert first.info.source == "torchvision:FCOS_ResNet50_FPN_Weights.COCO_V1"
    assert first.info.licence == "bsd-3-clause"
    assert len(server.requests) == 1
    assert server.tokens == [None], "the hub's token is nobody else's business"
    again = load_weights(SPEC, timeouts=TIMEOUTS)
    assert again.info.source.startswith("cache:")
    assert again.info.sha256 == first.info.sha256
    assert len(server.requests) == 1


def test_torchvisions_own_cache_is_read_first(
    server: Server, checkpoint: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / server.address.rpartition("/")[2]).write_bytes(checkpoint)
    loaded = load_weights(SPEC, timeouts=TIMEOUTS)
    assert loaded.info.source == "cache:FCOS_ResNet50_FPN_Weights.COCO_V1"
    assert server.requests == []


@pytest.mark.parametrize("fault", ["status", "short", "digest", "offline"])
def test_what_cannot_be_had_whole_is_one_error(
    fault: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = {
        "status": "torchvision's server: 403",
        "short": "torchvision's server: the connection was cut",
        "digest": "the server promised 00000000",
        "offline": "torchvision's server: not asked, HF_HUB_OFFLINE is set",
    }[fault]
    if fault == "status":
        server.status = 403
    if fault == "short":
        server.promised += 1000
    if fault == "digest":
        address = server.address.rpartition("-")[0] + "-00000000.pth"
        monkeypatch.setattr(torchvision_weights, "_address", lambda _: address)
    if fault == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        load_weights(SPEC, timeouts=TIMEOUTS)
    message = str(caught.value)
    assert expected in message
    assert "torch's cache: there is no" in message
    assert "'fcos_resnet50.a1_in1k_fpn' takes its backbone's weights" in message
    assert len(server.requests) == (fault != "offline")
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_named_backbone_asks_for_no_coco_weights() -> None:
    assert resolve("fcos_resnet50.a1_in1k_fpn").weights_enum is None
