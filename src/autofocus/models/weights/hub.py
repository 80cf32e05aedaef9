"""The hub step: one bounded attempt to download one repository's weights.

Two or three requests, none repeated: the repository's card (commit, files, licence), then the file.
`huggingface_hub` gives the address, the token and the HTTP client; its own download is not used
because it tries a dead server eleven times. A file that is not complete is never left behind.
"""

import contextlib
import hashlib
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from autofocus.errors import WeightsError
from autofocus.runtime import Track, no_progress

T = TypeVar("T")

_BLOCK_BYTES = 1 << 20
# Slower than this over one stall window counts as a server that hangs.
_MIN_WINDOW_BYTES = 32 << 10
_MAIN_BRANCH: Final = "main"


class SourceError(WeightsError):
    """One source does not have the weights; the message is its one-line reason."""


@dataclass(frozen=True)
class Timeouts:
    """Limits on waiting, in seconds.

    Attributes:
        connect_s: Limit for a connection.
        answer_s: Limit for the whole first answer: name lookup, connection, headers.
        stall_s: Limit for a download that no longer moves.
    """

    connect_s: float = 4.0
    answer_s: float = 10.0
    stall_s: float = 15.0


TIMEOUTS: Final = Timeouts()


@dataclass(frozen=True)
class Card:
    """The hub's description of a repository; empty where a mirror has no such page."""

    commit: str | None = None
    licence: str | None = None
    filenames: frozenset[str] | None = None


class _CardData(msgspec.Struct):
    license: Any = None
    license_name: Any = None

    def licence(self) -> str | None:
        """Return the licence's name; the hub files custom ones under `other`."""
        name = self.license_name if self.license == "other" and self.license_name else self.license
        return name if isinstance(name, str) else None


class _Sibling(msgspec.Struct):
    rfilename: str


class _CardPage(msgspec.Struct):
    """The part of the hub's `/api/models/<id>` answer that is used."""

    sha: str | None = None
    card: _CardData | None = msgspec.field(default=None, name="cardData")
    siblings: list[_Sibling] | None = None


@dataclass(frozen=True)
class Download:
    """A complete file, checked against what the server said of it."""

    path: Path
    filename: str
    commit: str | None
    sha256: str
    num_bytes: int


def endpoint() -> str:
    """Return the hub's address: `HF_ENDPOINT` as it is now, or the library's default."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def check_online() -> None:
    """Refuse when the user asked for no network.

    Raises:
        SourceError: If `HF_HUB_OFFLINE` is set, or `HF_ENDPOINT` is not an address.
    """
    if _is_offline():
        raise SourceError("hub: not asked, HF_HUB_OFFLINE is set")
    if not re.match(r"https?://[^/]", endpoint()):
        raise SourceError(
            f"hub: HF_ENDPOINT must start with http:// or https://, got '{endpoint()}'"
        )


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def read_card(hub_id: str, revision: str | None, timeouts: Timeouts = TIMEOUTS) -> Card:
    """Ask for the repository's commit, licence and files.

    Raises:
        SourceError: If the server cannot be reached, does not answer in time, or refuses access.
    """
    from huggingface_hub import get_session, hf_raise_for_status

    check_online()
    url = f"{endpoint()}/api/models/{hub_id}"
    if revision is not None:
        url += f"/revision/{quote(revision, safe='')}"

    def ask() -> bytes:
        response = get_session().get(
            url, headers=_headers(), timeout=_timeout(timeouts, timeouts.answer_s)
        )
        hf_raise_for_status(response)
        return response.content

    try:
        page = msgspec.json.decode(_within(timeouts.answer_s, ask), type=_CardPage)
    except _http_error() as error:
        if _status(error) == 404:
            return Card()  # a plain file mirror has no such page: its file decides
        raise SourceError(_reason(error, hub_id, timeouts.answer_s, timeouts)) from error
    except msgspec.DecodeError:
        return Card()  # some page of a mirror, not the hub's JSON
    except OSError as error:
        raise SourceError(f"hub {endpoint()}: {error}") from error
    licence = page.card.licence() if page.card else None
    names = frozenset(sibling.rfilename for sibling in page.siblings or ())
    return Card(page.sha, licence, names or None)


def download(
    hub_id: str,
    revision: str | None,
    filenames: Sequence[str],
    card: Card,
    folder: Path,
    timeouts: Timeouts = TIMEOUTS,
    track: Track = no_progress,
) -> Download:
    """Download the first of `filenames` that the repository has into `folder`.

    Args:
        hub_id: Repository, such as `timm/resnet18.a1_in1k`.
        revision: Branch, tag or commit; None is the main branch.
        filenames: Names to try, best first.
        card: Result of `read_card`.
        folder: Folder to write into; the file keeps its name.
        timeouts: Timeouts.
        track: Progress display, one item a MiB.

    Raises:
        SourceError: If no file could be had whole; nothing is left behind.
        OSError: If `folder` cannot be written.
    """
    wanted = [f for f in filenames if card.filenames is None or f in card.filenames]
    if not wanted:
        raise SourceError(f"hub {endpoint()}: {hub_id} has none of {', '.join(filenames)}")
    for filename in wanted:
        try:
            return _download_one(hub_id, revision, filename, card, folder, timeouts, track)
        except _http_error() as error:
            if _status(error) == 404 and filename != wanted[-1]:
                continue
            what = f"{hub_id}/{filename}"
            raise SourceError(_reason(error, what, timeouts.stall_s, timeouts)) from error
    raise AssertionError("the loop returns or raises")


def download_address(
    address: str,
    sha256: str,
    folder: Path,
    where: str,
    timeouts: Timeouts = TIMEOUTS,
    track: Track = no_progress,
) -> Download:
    """Download one file from its own address, in one bounded attempt, and without the hub's token.

    Args:
        address: `https://…/<name of the file>`.
        sha256: First digits of its hex digest.
        folder: Folder to write into; the file keeps its name.
        where: Name of the server in errors.
        timeouts: Timeouts.
        track: Progress display, one item a MiB.

    Raises:
        SourceError: If it could not be had whole; nothing is left behind.
        OSError: If `folder` cannot be written.
    """
    from huggingface_hub import get_session

    if _is_offline():
        raise SourceError(f"{where}: not asked, HF_HUB_OFFLINE is set")
    filename = address.rpartition("/")[2]
    path = folder / filename
    timeout = _timeout(timeouts, timeouts.stall_s)
    headers = {"Accept-Encoding": "identity"}
    try:
        with get_session().stream("GET", address, headers=headers, timeout=timeout) as response:
            response.raise_for_status()
            promised = replace(_promised(response), sha256=sha256)
            digest, num_bytes = _save(
                response.iter_bytes(), path, promised, where, filename, timeouts, track
            )
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, _http_error()):
            reason = _reason(error, filename, timeouts.stall_s, timeouts, where)
            raise SourceError(reason) from error
        raise
    return Download(path, filename, None, digest, num_bytes)


def _download_one(
    hub_id: str,
    revision: str | None,
    filename: str,
    card: Card,
    folder: Path,
    timeouts: Timeouts,
    track: Track,
) -> Download:
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

    at = card.commit or revision or _MAIN_BRANCH
    url = hf_hub_url(hub_id, filename, revision=at, endpoint=endpoint())
    # Compressed on the way, a file would differ from the size and hash that the server states.
    headers = {**_headers(), "Accept-Encoding": "identity"}
    timeout = _timeout(timeouts, timeouts.stall_s)
    path = folder / filename
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        promised = _promised(response)
        try:
            sha256, num_bytes = _save(
                response.iter_bytes(), path, promised, f"hub {endpoint()}", hub_id, timeouts, track
            )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return Download(path, filename, card.commit or promised.commit, sha256, num_bytes)


@dataclass(frozen=True)
class _Promised:
    """Facts on a file before its download, from the response's headers or from its address.

    Attributes:
        num_bytes: Size of the file.
        sha256: First digits of the hex digest, or all of it.
        commit: Commit of the repository.
    """

    num_bytes: int | None
    sha256: str | None
    commit: str | None


def _promised(response: Any) -> _Promised:
    """Read the hub's own headers, which stand on its redirect and not on the storage's answer."""
    first = response.history[0] if response.history else response
    etag = first.headers.get("X-Linked-Etag") or first.headers.get("ETag") or ""
    etag = etag.removeprefix("W/").strip('"').lower()
    size = first.headers.get("X-Linked-Size") or response.headers.get("Content-Length") or ""
    return _Promised(
        num_bytes=int(size) if size.isdecimal() else None,
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None,
        commit=first.headers.get("X-Repo-Commit"),
    )


def _save(
    parts: Iterable[bytes],
    path: Path,
    promised: _Promised,
    where: str,
    hub_id: str,
    timeouts: Timeouts,
    track: Track,
) -> tuple[str, int]:
    """Write `parts` to `path`; return its sha256 and size, both as promised."""
    digest = hashlib.sha256()
    num_bytes = 0
    num_blocks = None
    if promised.num_bytes is not None:
        num_blocks = math.ceil(promised.num_bytes / _BLOCK_BYTES)
    with path.open("wb") as file:
        blocks = _blocks(parts, timeouts, where)
        for block in track(blocks, f"Downloading {hub_id}", num_blocks):
            file.write(block)
            digest.update(block)
            num_bytes += len(block)
    if promised.num_bytes is not None and num_bytes != promised.num_bytes:
        raise SourceError(
            f"{where}: {hub_id}/{path.name} ended after {num_bytes:,} of"
            f" {promised.num_bytes:,} bytes; the part was discarded"
        )
    if promised.sha256 is not None and not digest.hexdigest().startswith(promised.sha256):
        raise SourceError(
            f"{where}: {hub_id}/{path.name} has sha256 {digest.hexdigest()[:12]}…, the"
            f" server promised {promised.sha256[:12]}…; the file was discarded"
        )
    return digest.hexdigest(), num_bytes


def _blocks(parts: Iterable[bytes], timeouts: Timeouts, where: str) -> Iterator[bytes]:
    """Join the received parts into blocks of 1 MiB; give up on a server that is too slow."""
    block = bytearray()
    window_started_s = time.monotonic()
    window_bytes = 0
    for part in parts:
        block += part
        window_bytes += len(part)
        if time.monotonic() - window_started_s > timeouts.stall_s:
            if window_bytes < _MIN_WINDOW_BYTES:
                raise SourceError(
                    f"{where}: only {window_bytes:,} bytes came in"
                    f" {timeouts.stall_s:g} s; the part was discarded"
                )
            window_started_s = time.monotonic()
            window_bytes = 0
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return `call()`, or give up after `seconds`.

    A name lookup has no timeout of its own: behind a dead resolver it takes half a minute.
    """
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:  # noqa: BLE001  # handed over to the caller's thread
            answers.put((None, error))

    threading.Thread(target=answer, daemon=True, name="autofocus-hub").start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise SourceError(f"hub {endpoint()}: no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only where `call` returned it


def _http_error() -> type[Exception]:
    """Return the root error of the HTTP library: httpx under hub 1.x, httpx2 under 2.x."""
    from huggingface_hub.errors import HfHubHTTPError

    roots = [c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError"]
    assert roots
    root: type[Exception] = roots[0]
    return root


def _status(error: Exception) -> int | None:
    with contextlib.suppress(AttributeError):
        return int(error.response.status_code)  # type: ignore[attr-defined]
    return None


def _headers() -> dict[str, str]:
    """Return the authorisation: `HF_TOKEN` or the token of a login, where there is one."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _timeout(timeouts: Timeouts, read_s: float) -> tuple[float, float, float, float]:
    """Return the HTTP client's limits: connect, read, write, wait for a free connection."""
    return (timeouts.connect_s, read_s, timeouts.connect_s, timeouts.connect_s)


def _reason(error: Exception, what: str, read_s: float, timeouts: Timeouts, where: str = "") -> str:
    """Return one line for a failed request."""
    where = where or f"hub {endpoint()}"
    status = _status(error)
    if status == 404:
        return f"{where}: 404, there is no {what}"
    if status in {401, 403}:
        return (
            f"{where}: {status}, {what} is private, gated or not there"
            " (HF_TOKEN must hold a token that may read it)"
        )
    if status is not None:
        return f"{where}: {status} for {what}"
    kind = type(error).__name__
    if kind == "ConnectTimeout":
        return f"{where}: no connection within {timeouts.connect_s:g} s"
    if kind.endswith("Timeout"):
        return f"{where}: no answer within {read_s:g} s for {what}"
    if kind in {"RemoteProtocolError", "ReadError"}:
        return f"{where}: the connection was cut while {what} came in; the part was discarded"
    detail = re.sub(r"^\[Errno -?\d+\] ", "", (str(error).splitlines() or [""])[0])
    return f"{where}: cannot be reached ({detail or kind})"
