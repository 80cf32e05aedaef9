import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from autofocus.data.images.fetch import content_hash, open_bytes, open_tagged, tag_of


def test_content_hash_names_content_and_nothing_else() -> None:
    assert content_hash(b"a") == hashlib.blake2b(b"a", digest_size=16).hexdigest()
    assert content_hash(b"a") != content_hash(b"b")
    assert len(content_hash(b"")) == 32


def test_a_files_tag_changes_with_the_file_and_stays_without(tmp_path: Path) -> None:
    file, other = tmp_path / "a.png", tmp_path / "b.png"
    file.write_bytes(b"12")
    data, tag = open_tagged(str(file))
    assert data == open_bytes(str(file)) == b"12"
    assert tag_of(str(file)) == tag
    # Another file of the same size and time in its place, as after `mv`.
    other.write_bytes(b"34")
    status = file.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert tag_of(str(file)) not in (tag, "")
    file.unlink()
    assert tag_of(str(file)) == ""


@pytest.fixture
def store() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the address of a server, and its files, which it tags by their content."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in files else 404)
            content = files.get(self.path, b"")
            self.send_header("Content-Length", str(len(content)))
            if "tagged" in self.path:
                self.send_header("ETag", f'"{content.hex()}"')
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", files
        server.shutdown()
        thread.join()


def test_a_urls_tag_is_what_its_server_says(store: tuple[str, dict[str, bytes]]) -> None:
    address, files = store
    files |= {"/tagged.png": b"one", "/plain.png": b"one"}
    assert open_tagged(f"{address}/tagged.png") == (b"one", f'"{b"one".hex()}"')
    assert tag_of(f"{address}/tagged.png") == f'"{b"one".hex()}"'
    files["/tagged.png"] = b"two"
    assert tag_of(f"{address}/tagged.png") == f'"{b"two".hex()}"'
    assert open_tagged(f"{address}/plain.png") == (b"one", "")
    assert tag_of(f"{address}/plain.png") == tag_of(f"{address}/missing.png") == ""


def test_a_store_that_tags_nothing_gives_none() -> None:
    with fsspec.open("memory://tags/a.png", "wb") as file:
        file.write(b"12")
    assert open_tagged("memory://tags/a.png") == (b"12", "")
    assert tag_of("memory://tags/a.png") == tag_of("memory://tags/none.png") == ""
    assert tag_of("nonsense://a.png") == ""
