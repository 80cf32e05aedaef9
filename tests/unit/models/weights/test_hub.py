"""The hub step against a server on this machine: it works, or fails fast with one clear line."""

import contextlib
import errno
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from autofocus.errors import WeightsError
from autofocus.models.base import LoadedWeights
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights.hub import Timeouts
from autofocus.models.weights.load import load_weights

TINY = resolve("test_resnet")
HUB_ID = "timm/test_resnet.r160_in1k"
TIMEOUTS = Timeouts(connect_s=1.0, answer_s=1.0, stall_s=1.0)
Answer = Callable[[BaseHTTPRequestHandler], None]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """What the server hands out, and what it was asked.

    Attributes:
        files: Content of each file of the repository.
        licence: What the card says; None leaves it out.
        card: Answers the card's request in place of the normal answer.
        file: Answers a file's request in place of the normal answer.
        redirect: Whether files come from a second address, as from the hub's storage.
        requests: Method and path of each request, in order.
        tokens: The Authorization header of each request.
    """

    hub_id: str
    files: dict[str, bytes]
    licence: str | None = "apache-2.0"
    card: Answer | None = None
    file: Answer | None = None
    redirect: bool = False
    requests: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""
    closed: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def serve(hub: HubServer) -> Iterator[HubServer]:
    """Serve `hub` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            hub.tokens.append(self.headers.get("Authorization"))
            self.close_connection = True
            _answer(self, hub)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that gave up is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, hub: HubServer) -> None:
    if handler.path.startswith("/api/models/"):
        (hub.card or _card(hub))(handler)
        return
    if hub.file is not None:
        hub.file(handler)
        return
    prefix = f"/{hub.hub_id}/resolve/"
    name = handler.path.rpartition("/")[2]
    known = handler.path.startswith((prefix, "/storage/")) and name in hub.files
    if not known:
        status(404)(handler)
        return
    content = hub.files[name]
    sha256 = hashlib.sha256(content).hexdigest()
    if hub.redirect and handler.path.startswith(prefix):
        headers = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        send(b"", 302, {**headers, "Location": f"/storage/{name}"})(handler)
        return
    etag = '"of-the-storage"' if hub.redirect else f'"{sha256}"'
    send(content, 200, {"ETag": etag, "X-Repo-Commit": COMMIT})(handler)


def _card(hub: HubServer) -> Answer:
    card = {"license": hub.licence} if hub.licence else {}
    page = {
        "id": hub.hub_id,
        "sha": COMMIT,
        "cardData": card,
        "siblings": [{"rfilename": name} for name in ("README.md", *hub.files)],
    }
    return send(json.dumps(page).encode(), 200, {"Content-Type": "application/json"})


def send(content: bytes, code: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with `content`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for key, value in (headers or {}).items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)

    return answer


def status(code: int, headers: dict[str, str] | None = None) -> Answer:
    """Answer with an error status."""
    return send(b'{"error": "no"}', code, headers)


def hang(hub: HubServer) -> Answer:
    """Accept the connection and never answer."""
    return lambda handler: hub.closed.wait(30) and None


def cut_off(content: bytes) -> Answer:
    """Promise all of `content`, send half of it and hang up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _promise(handler, content)
        handler.wfile.write(content[: len(content) // 2])

    return answer


def stall(hub: HubServer, content: bytes) -> Answer:
    """Send half of `content` and then nothing."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _promise(handler, content)
        handler.wfile.write(content[: len(content) // 2])
        hub.closed.wait(30)

    return answer


def drip(hub: HubServer, content: bytes) -> Answer:
    """Send one byte now and then, so that no single read ever times out."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _promise(handler, content)
        for byte in content:
            if hub.closed.is_set():
                return
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)

    return answer


def _promise(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
    handler.end_headers()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint that timm itself made."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def hub(checkpoint: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serve(HubServer(HUB_ID, {"model.safetensors": checkpoint})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def load(accept_licences: tuple[str, ...] = ()) -> LoadedWeights:
    return load_weights(TINY, accept_licences=accept_licences, timeouts=TIMEOUTS)


def left_behind(tmp_path: Path) -> list[str]:
    """Names of all files in the cache."""
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


@pytest.mark.parametrize("redirect", [False, True])
def test_download_gives_timms_own_network(
    redirect: bool, hub: HubServer, checkpoint: bytes
) -> None:
    hub.redirect = redirect
    loaded = load()
    assert loaded.info.source == f"hub:{HUB_ID}@{COMMIT}"
    assert loaded.info.licence == "apache-2.0"
    assert loaded.info.sha256 == hashlib.sha256(checkpoint).hexdigest()
    assert HUB_ID in loaded.line
    assert "licence apache-2.0" in loaded.line
    reference = timm.create_model("test_resnet")
    reference.load_state_dict(safetensors.torch.load(checkpoint))
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.allclose(
            build_classifier(TINY, 1000, loaded)(images), reference.eval()(images), atol=1e-6
        )
    assert len(hub.requests) == 3 if redirect else 2
    assert hub.requests[1].endswith(f"/resolve/{COMMIT}/model.safetensors")


def test_second_time_the_cache_answers_and_nothing_is_asked(hub: HubServer) -> None:
    first = load()
    hub.requests.clear()
    second = load()
    assert hub.requests == []
    assert second.info.source == f"cache:{HUB_ID}@{COMMIT}"
    assert second.info.sha256 == first.info.sha256
    assert "from the cache" in second.line


def test_damaged_cache_is_downloaded_anew(hub: HubServer, tmp_path: Path) -> None:
    first = load()
    (cached,) = (tmp_path / "cache").rglob("model.safetensors")
    cached.write_bytes(cached.read_bytes()[:-7] + b"garbage")
    again = load()
    assert again.info == first.info
    assert cached.stat().st_size == len(hub.files["model.safetensors"])


def test_licence_is_checked_in_the_cache_too(hub: HubServer) -> None:
    hub.licence = "cc-by-nc-4.0"
    assert load(("cc-by-nc-4.0",)).info.licence == "cc-by-nc-4.0"
    with pytest.raises(WeightsError, match=r"accept_license: cc-by-nc-4\.0"):
        load()


def test_card_with_another_licence_is_refused_before_the_download(hub: HubServer) -> None:
    hub.licence = "cc-by-nc-4.0"
    with pytest.raises(WeightsError, match=r"accept_license: cc-by-nc-4\.0"):
        load()
    assert len(hub.requests) == 1


def test_custom_licence_goes_by_its_name(hub: HubServer) -> None:
    page = {"sha": COMMIT, "cardData": {"license": "other", "license_name": "gemma"}}
    hub.card = send(json.dumps(page).encode())
    with pytest.raises(WeightsError, match="accept_license: gemma"):
        load()


def test_card_without_licence_leaves_the_tables(hub: HubServer) -> None:
    hub.licence = None
    assert load().info.licence == "apache-2.0"


@pytest.mark.parametrize("page", [b"<html>", b'{"siblings": 3}', b"[]"])
def test_mirror_without_a_card_still_gives_the_file(page: bytes, hub: HubServer) -> None:
    hub.card = send(page)
    assert load().info.source == f"hub:{HUB_ID}@{COMMIT}"
    assert len(hub.requests) == 2


def test_mirror_whose_card_is_missing_still_gives_the_file(hub: HubServer) -> None:
    hub.card = status(404)
    assert load().info.source == f"hub:{HUB_ID}@{COMMIT}"


@pytest.mark.parametrize("has_card", [True, False])
def test_repository_with_the_older_file_only(
    has_card: bool, hub: HubServer, checkpoint: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "old.bin"
    torch.save(safetensors.torch.load(checkpoint), path)
    hub.files = {"pytorch_model.bin": path.read_bytes()}
    if not has_card:
        hub.card = status(404)
    loaded = load()
    assert loaded.state_dict is not None
    assert len(hub.requests) == (2 if has_card else 3)
    hub.requests.clear()
    assert load().info.source.startswith("cache:")
    assert hub.requests == []


def test_token_is_sent(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
    load()
    assert hub.tokens == ["Bearer hf_of_this_test"] * 2


# What goes wrong -> part of its one line, and the most requests it may cost.
FAILURES: dict[str, tuple[Callable[[HubServer, bytes], None], str, int]] = {
    "the hub accepts and never answers": (
        lambda hub, _: setattr(hub, "card", hang(hub)),
        "no answer within 1 s",
        1,
    ),
    "the file never comes": (
        lambda hub, _: setattr(hub, "file", hang(hub)),
        "no answer within 1 s",
        2,
    ),
    "the file stops half-way": (
        lambda hub, content: setattr(hub, "file", stall(hub, content)),
        "no answer within 1 s",
        2,
    ),
    "the file only drips": (
        lambda hub, content: setattr(hub, "file", drip(hub, content)),
        "bytes came in 1 s",
        2,
    ),
    "the connection is cut half-way": (
        lambda hub, content: setattr(hub, "file", cut_off(content)),
        "cut while timm/test_resnet.r160_in1k/model.safetensors came in",
        2,
    ),
    "the file is not the promised one": (
        lambda hub, content: setattr(hub, "file", send(content, 200, {"ETag": f'"{"0" * 64}"'})),
        "the server promised 000000000000…",
        2,
    ),
    "the file is shorter than promised": (
        lambda hub, content: setattr(hub, "file", send(content, 200, {"X-Linked-Size": "7000000"})),
        "of 7,000,000 bytes",
        2,
    ),
    "a login page answers in place of everything": (
        lambda hub, _: (
            setattr(hub, "card", send(b"<html>log in</html>")),
            setattr(hub, "file", send(b"<html>log in</html>")),
        )[0],
        "model.safetensors is not a checkpoint",
        2,
    ),
    "404 for everything": (
        lambda hub, _: (setattr(hub, "card", status(404)), setattr(hub, "file", status(404)))[0],
        "404, there is no timm/test_resnet.r160_in1k/pytorch_model.bin",
        3,
    ),
    "404 for the file": (
        lambda hub, _: setattr(hub, "file", status(404)),
        "404, there is no timm/test_resnet.r160_in1k/model.safetensors",
        2,
    ),
    "no weights among the files": (
        lambda hub, _: setattr(hub, "files", {"flax_model.msgpack": b"x"}),
        "has none of model.safetensors, pytorch_model.bin",
        1,
    ),
    "401": (lambda hub, _: setattr(hub, "card", status(401)), "401, timm/test", 1),
    "401 for the file": (lambda hub, _: setattr(hub, "file", status(401)), "HF_TOKEN must hold", 2),
    "403": (lambda hub, _: setattr(hub, "card", status(403)), "private, gated or not there", 1),
    "429 with a long wait": (
        lambda hub, _: setattr(hub, "card", status(429, {"Retry-After": "60"})),
        "429 for",
        1,
    ),
    "429 for the file": (
        lambda hub, _: setattr(hub, "file", status(429, {"Retry-After": "60"})),
        "429 for",
        2,
    ),
    "500": (lambda hub, _: setattr(hub, "card", status(500)), "500 for", 1),
    "503 for the file": (lambda hub, _: setattr(hub, "file", status(503)), "503 for", 2),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_is_one_line_within_seconds_and_is_not_repeated(
    name: str, hub: HubServer, checkpoint: bytes, tmp_path: Path
) -> None:
    break_it, line, max_requests = FAILURES[name]
    break_it(hub, checkpoint)
    started_s = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        load()
    assert time.monotonic() - started_s < 5
    message = str(caught.value)
    assert line in message
    assert "\n" not in message
    assert "weights: random" in message
    assert len(hub.requests) <= max_requests
    assert left_behind(tmp_path) == []


def test_refused_connection_is_one_line(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(WeightsError, match=rf"hub http://127\.0\.0\.1:{port}: cannot be reached"):
        load()


def test_endpoint_without_scheme_is_one_line(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "mirror.local")
    with pytest.raises(WeightsError, match="HF_ENDPOINT must start with http"):
        load()


def test_offline_asks_nothing(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        load()
    assert hub.requests == []


def test_pickle_with_code_from_the_hub_never_enters_the_cache(
    hub: HubServer, tmp_path: Path
) -> None:
    path = tmp_path / "evil.bin"
    torch.save({"weight": Evil()}, path)
    hub.files = {"pytorch_model.bin": path.read_bytes()}
    with pytest.raises(WeightsError, match="could run code"):
        load()
    assert left_behind(tmp_path) == []


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be run",)


def test_cache_that_cannot_be_written_is_one_line(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="hub: cannot write to"):
        load()


def test_full_disk_is_one_line_and_leaves_nothing(hub: HubServer, tmp_path: Path) -> None:
    def fill_the_disk(blocks: Iterator[bytes], description: str, total: int | None) -> Iterator:
        yield next(iter(blocks))
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WeightsError, match=r"cannot write to .*No space left on device"):
        load_weights(TINY, timeouts=TIMEOUTS, track=fill_the_disk)
    assert left_behind(tmp_path) == []


def test_failed_download_lets_the_embedded_model_stand_in_when_none_was_named(
    hub: HubServer,
) -> None:
    hub.card = hang(hub)
    loaded = load_weights(TINY, user_named_model=False, timeouts=TIMEOUTS)
    assert loaded.spec.name == "tf_efficientnet_lite0.in1k"
    assert "no answer within 1 s" in loaded.line
    assert len(hub.requests) == 1
