"""The endpoint driven as plain ASGI: no sockets, full control over how a body arrives."""

import asyncio
import base64
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autofocus.errors import RequestError, ScoringError
from autofocus.scoring.scorer import Scorer
from autofocus.serve.accept import Counts
from autofocus.serve.app import Endpoint
from autofocus.serve.crew import Crew
from autofocus.serve.settings import Settings
from support.accelerator import Accelerator

JSON = {"content-type": "application/json"}


class FakeScorer:
    """Scores by length; an image that starts with `bad` is an error."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
        images = list(images)
        self.batches.append(len(images))
        return [
            {"error": {"code": "image.unknown_format", "message": "is no image"}}
            if image.startswith(b"bad")
            else {"probs": [len(image) / 100], "labels": ["length"]}
            for image in images
        ]


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: Endpoint,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    chunks: Sequence[bytes | float] = (b"",),
    **more: Any,
) -> Reply:
    """Send one request; a number among the chunks is a pause in seconds, None a disconnect."""
    reply = Reply()
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        while waiting and isinstance(waiting[0], float):
            await asyncio.sleep(waiting.pop(0))
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert reply.status == 0, "two replies to one request"
            reply.status = message["status"]
            names = [name for name, _ in message["headers"]]
            assert len(names) == len(set(names)), names
            reply.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    route, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": route,
        "raw_path": route.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in (headers or {}).items()],
        **more,
    }
    await app(scope, receive, send)
    return reply


async def score(app: Endpoint, document: Any, headers: dict[str, str] | None = None) -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await ask(app, "/score", "POST", {**JSON, **(headers or {})}, [body])


MakeApp = Callable[..., Endpoint]


@pytest.fixture
def make_app() -> MakeApp:
    def make(scorer: Any = None, keys: list[bytes] | None = None, **limits: Any) -> Endpoint:
        return Endpoint(Settings(**limits), lambda: keys or [], lambda: scorer or FakeScorer())

    return make


GOOD = base64.encodebytes(b"good").decode()
BAD = base64.encodebytes(b"bad").decode()
KEYS = [hashlib.sha256(key).digest() for key in (b"alpha", b"beta")]


def request(*data: Any, **more: Any) -> dict[str, Any]:
    return {"input_data": {"columns": ["image"], "data": list(data)}, **more}


def test_scores_come_as_one_object_an_image_in_order(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        await app.start()
        reply = await score(app, request(GOOD, BAD, [GOOD], "%%%"))
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        assert float(reply.headers["x-ms-run-fn-exec-ms"]) >= 0
        assert "x-autofocus-explanations" not in reply.headers
        good = {"probs": [0.04], "labels": ["length"]}
        assert reply.json[0] == reply.json[2] == good
        assert reply.json[1]["error"]["code"] == "image.unknown_format"
        assert reply.json[3]["error"]["code"] == "image.base64"

    asyncio.run(scenario())


def test_numpy_values_are_written_as_json(make_app: MakeApp) -> None:
    class Numpy:
        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            return [{"probs": np.array([0.25, 0.75], dtype=np.float32)} for _ in images]

    async def scenario() -> None:
        app = make_app(Numpy())
        await app.start()
        assert (await score(app, request(GOOD))).json == [{"probs": [0.25, 0.75]}]

    asyncio.run(scenario())


def test_task_without_explanations_answers_with_scores_and_the_header_says_so(
    make_app: MakeApp,
) -> None:
    async def scenario() -> None:
        app = make_app()
        await app.start()
        asked = json.dumps({"image_base64": GOOD, "model_explainability": True})
        plain = json.dumps({"image_base64": GOOD, "model_explainability": False})
        reply = await score(app, request(GOOD, asked))
        assert reply.status == 200
        assert len(reply.json) == 2
        assert reply.headers["x-autofocus-explanations"] == "unavailable"
        assert "x-autofocus-explanations" not in (await score(app, request(plain))).headers

    asyncio.run(scenario())


def test_many_images_have_the_same_reply_on_any_number_of_cores(
    tiny_model: Path, make_photo: Any
) -> None:
    rows = [base64.b64encode(make_photo(seed)).decode() for seed in range(12)]
    rows[5] = BAD
    rows[7] = json.dumps({"image_base64": rows[7], "model_explainability": False})
    threads: set[int] = set()

    class Watched:
        def __init__(self) -> None:
            self.scorer = Scorer.load(tiny_model)
            self.meeting = threading.Barrier(3, timeout=10)

        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            if threading.get_ident() not in threads:
                threads.add(threading.get_ident())
                self.meeting.wait()
            return self.scorer.score(images)

    async def replied(app: Endpoint) -> bytes:
        await app.start()
        reply = await score(app, request(*rows))
        assert reply.status == 200
        return reply.body

    one = Endpoint(Settings(), list, lambda: Scorer.load(tiny_model))
    three = Endpoint(Settings(), list, Watched, crew=Crew(Counts(3), 0))
    assert asyncio.run(replied(one)) == asyncio.run(replied(three))
    assert len(threads) == 3


def test_requests_on_an_accelerator_are_joined_and_fail_alone(
    tiny_model: Path, make_photo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [make_photo(seed) for seed in range(9)]
    expected = Scorer.load(tiny_model).score(photos)
    white = cv2.imencode(".png", np.full((40, 40, 3), 255, np.uint8))[1].tobytes()
    accelerator = Accelerator(monkeypatch)

    def asked(app: Endpoint, *images: bytes) -> asyncio.Task[Reply]:
        rows = [base64.b64encode(image).decode() for image in images]
        return asyncio.create_task(score(app, request(*rows)))

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def scenario() -> None:
        app = Endpoint(Settings(), list, lambda: Scorer.load(tiny_model, accelerate=True))
        await app.start()
        accelerator.sizes.clear()
        accelerator.may_go_on.clear()
        first = asked(app, photos[0])
        await until(lambda: accelerator.sizes == [1])
        others = [asked(app, photo) for photo in photos[1:5]]
        many, broken = asked(app, *photos[5:]), asked(app, white)
        await until(lambda: app._scorer._backend._calls.qsize() == 9)
        accelerator.may_go_on.set()
        replies = await asyncio.gather(first, *others, many)
        assert accelerator.sizes == [1, 9]
        found = [item["probs"] for reply in replies for item in reply.json]
        np.testing.assert_allclose(found, [item["probs"] for item in expected], atol=1e-6)
        assert (await broken).status == 500
        assert "is not a number" in (await broken).json["message"]
        assert (await score(app, request(GOOD))).status == 400

    asyncio.run(scenario())


def test_all_images_failing_is_400(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        await app.start()
        reply = await score(app, request(BAD, "%%%"))
        assert reply.status == 400
        assert "data[0]: is no image; data[1]:" in reply.json["message"]

    asyncio.run(scenario())


def test_many_images_are_scored_in_small_batches(make_app: MakeApp) -> None:
    async def scenario() -> None:
        scorer = FakeScorer()
        app = make_app(scorer)
        await app.start()
        assert len((await score(app, request(*[GOOD] * 200))).json) == 200
        assert max(scorer.batches) <= 16
        assert (await score(app, request(*[GOOD] * 257))).status == 413

    asyncio.run(scenario())


def test_health_ready_and_description(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        healthy = await ask(app, "/")
        assert (healthy.status, healthy.body) == (200, b"Healthy")
        assert healthy.headers["content-type"].startswith("text/plain")
        loading = await ask(app, "/ready")
        assert (loading.status, loading.json) == (503, {"message": "The model is loading."})
        await app.start()
        assert (await ask(app, "/ready")).status == 200
        assert (await ask(app, "/swagger.json")).json["swagger"] == "2.0"
        assert (await ask(app, "/swagger.json?version=3")).json["openapi"] == "3.0.3"
        assert (await ask(app, "/swagger.json?version=9")).status == 400
        app.drain()
        stopping = await ask(app, "/ready")
        assert (stopping.status, stopping.json) == (503, {"message": "The server is stopping."})
        assert (await ask(app, "/")).status == 200
        refused = await score(app, request(GOOD))
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"

    asyncio.run(scenario())


def test_request_that_comes_while_the_model_loads_is_answered(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        starting = asyncio.create_task(app.start())
        await asyncio.sleep(0)
        assert (await score(app, request(GOOD))).status == 200
        await starting

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nope", 404, None),
        ("POST", "/score/", 404, None),
        ("POST", "/", 405, "GET, HEAD"),
        ("DELETE", "/swagger.json", 405, "GET, HEAD"),
        ("GET", "/score", 405, "OPTIONS, POST"),
        ("PUT", "/score", 405, "OPTIONS, POST"),
        ("OPTIONS", "/score", 200, "OPTIONS, POST"),
    ],
)
def test_unknown_path_and_method(
    make_app: MakeApp, method: str, path: str, status: int, allow: str | None
) -> None:
    reply = asyncio.run(ask(make_app(), path, method))
    assert reply.status == status
    assert reply.headers.get("allow") == allow
    if status != 200:
        assert set(reply.json) == {"message"}


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
def test_other_content_type_is_415(make_app: MakeApp, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    reply = asyncio.run(ask(make_app(), "/score", "POST", headers, [b"{}"]))
    assert reply.status == 415
    assert reply.json == {"message": "Expects Content-Type to be application/json"}


def test_content_type_may_have_parameters_and_capitals(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        await app.start()
        headers = {"content-type": "Application/JSON; charset=utf-8"}
        body = json.dumps(request(GOOD)).encode()
        assert (await ask(app, "/score", "POST", headers, [body])).status == 200

    asyncio.run(scenario())


def test_ids_are_echoed_or_made(make_app: MakeApp) -> None:
    app = make_app()
    given = {"x-request-id": "mine", "x-ms-request-id": "old", "x-ms-client-request-id": "client"}
    echoed = asyncio.run(ask(app, "/", headers=given)).headers
    assert {name: echoed[name] for name in given} == given
    made = asyncio.run(ask(app, "/nope")).headers
    assert len(made["x-request-id"]) == 36
    assert made["x-ms-request-id"] == made["x-request-id"]
    assert "x-ms-client-request-id" not in made
    assert asyncio.run(ask(app, "/")).headers["x-request-id"] != made["x-request-id"]


@pytest.mark.parametrize("name", ["x-request-id", "x-ms-request-id", "x-ms-client-request-id"])
def test_long_or_unprintable_id_is_refused(make_app: MakeApp, name: str) -> None:
    app = make_app()
    assert asyncio.run(ask(app, "/", headers={name: "i" * 100})).status == 200
    assert asyncio.run(ask(app, "/", headers={name: "i" * 101})).status == 431
    assert asyncio.run(ask(app, "/", headers={name: "\x1b[31m"})).status == 400


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer alpha", 200),
        ("bearer beta", 200),
        ("Bearer gamma", 401),
        ("alpha", 401),
        (None, 401),
    ],
)
def test_key_guards_scoring(make_app: MakeApp, authorization: str | None, status: int) -> None:
    async def scenario() -> None:
        app = make_app(keys=KEYS)
        await app.start()
        headers = {} if authorization is None else {"authorization": authorization}
        reply = await score(app, request(GOOD), headers)
        assert reply.status == status
        assert (await ask(app, "/swagger.json", headers=headers)).status == status
        assert (await ask(app, "/nope", headers=headers)).status == (404 if status == 200 else 401)
        if status == 401:
            assert reply.headers["www-authenticate"] == "Bearer"
            assert "gamma" not in reply.json["message"]
        assert (await ask(app, "/")).status == 200
        assert (await ask(app, "/ready")).status == 200

    asyncio.run(scenario())


def test_wrong_key_is_refused_before_the_body_is_read(make_app: MakeApp) -> None:
    # The pause would take the test past its time if the body were waited for.
    headers = {**JSON, "expect": "100-continue", "content-length": "2"}
    reply = asyncio.run(ask(make_app(keys=KEYS), "/score", "POST", headers, [600.0, b"{}"]))
    assert reply.status == 401


def test_announced_long_body_is_413_before_it_is_read(make_app: MakeApp) -> None:
    app = make_app(max_body_bytes=2_000)
    headers = {**JSON, "content-length": "2001", "expect": "100-continue"}
    reply = asyncio.run(ask(app, "/score", "POST", headers, [600.0, b"{}"]))
    assert reply.status == 413
    assert "2,000 bytes" in reply.json["message"]


def test_chunked_long_body_is_413_once_it_is_too_long(make_app: MakeApp) -> None:
    app = make_app(max_body_bytes=2_000)
    chunks = [b" " * 1_000, b" " * 1_000, b" ", b"{}"]
    assert asyncio.run(ask(app, "/score", "POST", JSON, chunks)).status == 413


def test_slow_body_is_408_and_the_connection_closes(make_app: MakeApp) -> None:
    app = make_app(timeout_s=0.1)
    reply = asyncio.run(ask(app, "/score", "POST", JSON, [b"{", 600.0, b"}"]))
    assert reply.status == 408
    assert reply.headers["connection"] == "close"


def test_bodies_together_are_bounded(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app(max_body_bytes=2_000, timeout_s=0.3)
        chunks = [b" " * 1_900, 600.0, b"{}"]
        slow = [asyncio.create_task(ask(app, "/score", "POST", JSON, chunks)) for _ in range(6)]
        statuses = sorted(reply.status for reply in await asyncio.gather(*slow))
        # Four of the longest allowed fit at once; the others are told to come back.
        assert statuses == [408] * 4 + [429] * 2
        await app.start()
        assert (await score(app, request(GOOD))).status == 200

    asyncio.run(scenario())


def test_client_that_goes_away_leaves_nothing_behind(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    with caplog.at_level(logging.INFO):
        reply = asyncio.run(ask(app, "/score", "POST", JSON, []))
    assert reply.status == 0
    assert app.num_active == 0
    assert "POST /score 499" in caplog.text


def test_overload_is_429_while_running_requests_finish(make_app: MakeApp) -> None:
    class Slow(FakeScorer):
        def __init__(self) -> None:
            super().__init__()
            self.go_on = threading.Event()

        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            assert self.go_on.wait(10)
            return super().score(images)

    async def scenario() -> None:
        scorer = Slow()
        app = make_app(scorer, queue_size=3)
        await app.start()
        tasks = [asyncio.create_task(score(app, request(GOOD))) for _ in range(20)]
        while sum(task.done() for task in tasks) < 16:
            await asyncio.sleep(0.005)
        shed = [task.result() for task in tasks if task.done()]
        assert [reply.status for reply in shed] == [429] * 16
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in shed)
        scorer.go_on.set()
        replies = await asyncio.gather(*tasks)
        assert sorted(reply.status for reply in replies) == [200] * 4 + [429] * 16

    asyncio.run(scenario())


def test_waiting_past_the_deadline_is_408(make_app: MakeApp) -> None:
    class Slow(FakeScorer):
        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            decoded = list(images)
            threading.Event().wait(0.6)
            return super().score(decoded)

    async def scenario() -> None:
        scorer = Slow()
        app = make_app(scorer, timeout_s=0.2)
        await app.start()
        first, second = await asyncio.gather(
            score(app, request(GOOD)), score(app, request(GOOD, GOOD))
        )
        assert (first.status, second.status) == (200, 408)
        assert scorer.batches == [1]

    asyncio.run(scenario())


def test_failing_model_is_500_without_its_reason(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            raise RuntimeError("inner secret of the model")

    async def scenario() -> None:
        app = make_app(Broken())
        await app.start()
        reply = await score(app, request(GOOD), {"x-request-id": "find-me"})
        assert reply.status == 500
        assert reply.headers["x-ms-run-function-failed"] == "true"
        assert reply.json["message"].startswith("An unexpected error occurred in scoring script")
        assert (await ask(app, "/ready")).status == 200

    asyncio.run(scenario())
    assert "request find-me failed" in caplog.text
    assert "inner secret of the model" in caplog.text


def test_one_log_line_a_request_without_body_or_key(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        app = make_app(keys=KEYS)
        await app.start()
        headers = {"authorization": "Bearer alpha", "x-request-id": "id-1"}
        await score(app, request(GOOD), headers)
        await score(app, b'{"broken": "private"', headers)
        await score(app, request(GOOD), {"authorization": "Bearer wrong-key"})
        await ask(app, "/a\nforged line?key=alpha", headers=headers)

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("autofocus")]
    assert len(lines) == 4
    assert lines[0].startswith("POST /score 200 ")
    assert lines[0].endswith("ms id=id-1")
    assert lines[1].startswith("POST /score 400 ")
    assert lines[2].startswith("POST /score 401 ")
    assert lines[3].startswith(r"GET '/a\nforged line' 404 ")
    for secret in ("alpha", "wrong-key", "private", GOOD.strip()):
        assert secret not in caplog.text


def test_nothing_of_a_wrong_request_is_repeated(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        await app.start()
        for content in (b'{"private": private}', b'{"input_data": {"columns": ["private"]}}'):
            reply = await score(app, content)
            assert reply.status == 400
            assert b"private" not in reply.body

    asyncio.run(scenario())


def test_the_deadline_holds_within_a_batch_and_nothing_is_done_for_a_client_that_left(
    make_app: MakeApp,
) -> None:
    class Slow:
        def __init__(self) -> None:
            self.num_decoded = 0

        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            for _ in images:
                self.num_decoded += 1
                threading.Event().wait(0.1)
            return [{}] * self.num_decoded

    async def scenario() -> None:
        scorer = Slow()
        app = make_app(scorer, timeout_s=0.15)
        await app.start()
        reply = await score(app, request(*[GOOD] * 10))
        assert (reply.status, scorer.num_decoded) == (408, 2)
        body = json.dumps(request(GOOD)).encode()
        left = await ask(app, "/score", "POST", JSON, [body], is_gone=lambda: True)
        assert (left.status, scorer.num_decoded) == (0, 2)

    asyncio.run(scenario())


def test_ready_sees_a_scoring_thread_that_does_not_come_back(make_app: MakeApp) -> None:
    stuck = threading.Event()

    class Stuck:
        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            assert stuck.wait(10)
            return [{} for _ in images]

    async def scenario() -> None:
        app = make_app(Stuck(), timeout_s=0.05)
        app.lane._overrun_s = 0.05
        await app.start()
        assert (await score(app, request(GOOD))).status == 503
        reply = await ask(app, "/ready")
        assert (reply.status, "does not end" in reply.json["message"]) == (503, True)
        assert (await score(app, request(GOOD))).status == 429
        assert (await ask(app, "/")).status == 200
        stuck.set()
        while app.lane.is_blocked:
            await asyncio.sleep(0.01)
        assert (await ask(app, "/ready")).status == 200

    asyncio.run(scenario())


def test_an_output_that_is_no_number_is_a_500_that_says_so(make_app: MakeApp) -> None:
    class Broken:
        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            raise ScoringError("The model's output 'probs' is not a number.")

    async def scenario() -> None:
        app = make_app(Broken())
        await app.start()
        reply = await score(app, request(GOOD))
        assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "true")
        assert reply.json["message"] == "The model's output 'probs' is not a number."

    asyncio.run(scenario())


def test_errors_are_short_whatever_is_sent(make_app: MakeApp) -> None:
    class Wordy:
        def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
            raise RequestError("\x01" * 10_000)

    async def scenario() -> None:
        app = make_app(Wordy())
        await app.start()
        reply = await score(app, request(GOOD))
        assert reply.status == 400
        assert 1_000 < len(reply.body) <= 4_096
        assert reply.json["message"].endswith("…")

    asyncio.run(scenario())


def test_a_content_length_of_thousands_of_digits_is_read(make_app: MakeApp) -> None:
    async def scenario() -> None:
        app = make_app()
        await app.start()
        for digits, status in (("0" * 5_000 + "5", 400), ("9" * 5_000, 413)):
            headers = JSON | {"content-length": digits}
            reply = await ask(app, "/score", "POST", headers, [b"abcde"])
            assert reply.status == status

    asyncio.run(scenario())
