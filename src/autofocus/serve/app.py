"""The endpoint as one ASGI application: published `/score`, health and description.

A request passes ids, key, route, content type, room in the lane, body, and then one job in the
lane's thread that parses, scores and encodes. Rows that ask for explanations go on to a lane of
their own, which waits for the explaining process. Replies other than 200 are `{"message": …}`.
"""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from autofocus.data.images.decode import DEFAULT_MAX_PIXELS
from autofocus.errors import RequestError, ScoringError
from autofocus.scoring.explain.request import (
    ExplainRow,
    TargetSelector,
    check_num_explanations,
    explaining_selector,
    is_explained,
    join,
    row_parameters,
    score_and_select,
)
from autofocus.scoring.request import (
    ImageScorer,
    RequestRow,
    parse_request,
    refuse_all_failed,
    score_rows,
)
from autofocus.scoring.scorer import Scorer
from autofocus.serve.accept import Counts
from autofocus.serve.crew import Crew
from autofocus.serve.errors import ClientGoneError, Headers, HttpError, busy
from autofocus.serve.exchange import Exchange, send_json
from autofocus.serve.explainer import Answers, too_slow
from autofocus.serve.keys import is_allowed
from autofocus.serve.lanes import MIN_OVERRUN_S, Lane, timed_out
from autofocus.serve.limits import (
    BodyBudget,
    PixelBudget,
    check_content_type,
    discard_body,
    read_body,
    reply_ids,
)
from autofocus.serve.settings import Settings
from autofocus.serve.swagger import swagger

logger = logging.getLogger(__name__)

EXPLANATIONS_HEADER = (b"x-autofocus-explanations", b"unavailable")
FAILED_HEADER = (b"x-ms-run-function-failed", b"true")

_UNEXPECTED = "An unexpected error occurred in scoring script. Check the logs for more info."
# Paths without a key: probes of a load balancer carry none.
_OPEN_PATHS = ("/", "/ready")
_JSON = (b"content-type", b"application/json")
_TOO_SLOW = 408
_CLIENT_GONE = 499
# Bodies held at once, in units of the longest one allowed.
_BODIES_HELD = 4
# Explained replies may be 200 MB each, and their clients slow to take them.
_MAX_REPLY_BYTES_HELD = 256 << 20
# An explanation's own deadline is kept by the process that explains; this is for its answer.
_EXPLAIN_OVERRUN_S = 1.0
_MAX_LOGGED_PATH = 200

T = TypeVar("T")

# Rows, a deadline and whether the client has gone in; one answer a row out. Blocks meanwhile.
Explain = Callable[[Sequence[ExplainRow], float, threading.Event], Answers]


@dataclass(frozen=True)
class _Scored:
    """A request that is scored but not yet explained."""

    results: list[dict[str, Any]]
    rows: list[ExplainRow]
    selector: TargetSelector
    headers: Headers
    milliseconds: float


class Endpoint:
    """The ASGI application of one worker process.

    Args:
        settings: Limits.
        keys: Returns the digests of the keys that are allowed now; none serves everybody.
        load: Loads the model; called once, in the scoring thread.
        explain: Called in the explaining lane's thread; or the reason why there is none.
        crew: Scores the rows of a request; default: one thread.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Callable[[], Sequence[bytes]],
        load: Callable[[], ImageScorer],
        explain: Explain | str = "This server gives no explanations.",
        crew: Crew | None = None,
    ) -> None:
        self.settings = settings
        # Twice its deadline is the longest that a request takes, whatever its images.
        overrun_s = max(settings.timeout_s, MIN_OVERRUN_S)
        self.lane = Lane("score", 1, settings.queue_size, overrun_s=overrun_s)
        self.explain_lane = Lane(
            "explain", 1, settings.explain_queue_size, too_slow, _EXPLAIN_OVERRUN_S
        )
        self.num_active = 0
        self._crew = crew or Crew(Counts(1), 0)
        self._pixels = PixelBudget(settings.max_pixels or DEFAULT_MAX_PIXELS)
        self._explain = explain
        self._explain_budget = BodyBudget(_BODIES_HELD * settings.max_body_bytes)
        self._keys = keys
        self._load = load
        self._scorer: ImageScorer | None = None
        self._draining = False
        self._budget = BodyBudget(_BODIES_HELD * settings.max_body_bytes)
        self._reply_bytes_held = 0
        self._router = Router(
            [
                Route("/", _healthy),
                Route("/ready", self._ready),
                Route("/swagger.json", _swagger),
            ],
            redirect_slashes=False,
            default=_not_found,
        )

    async def start(self) -> None:
        """Load the model; until then `/ready` says 503 and requests wait in the lane.

        Raises:
            ModelFolderError: If the folder is not a usable model.
        """
        await self.lane.run(self._load_model)
        if isinstance(self._scorer, Scorer) and (num_joined := self._scorer.num_joined) > 1:
            logger.info("Scores on an accelerator, up to %d images at once", num_joined)
            self.lane.widen(num_joined)
            self._crew.widen(num_joined)

    def drain(self) -> None:
        """Take no new scoring requests from now on."""
        self._draining = True

    def close(self) -> bool:
        """Drop waiting requests and return whether none runs any more."""
        closed = [lane.close() for lane in (self.lane, self.explain_lane)]
        return all(closed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and log one line about it; never its body or its key."""
        assert scope["type"] == "http", "the server runs without lifespan and websockets"
        started = time.monotonic()
        scope["app"], scope["started"] = self, started
        exchange = Exchange(scope, receive, send)
        self.num_active += 1
        try:
            await self._answer(scope, exchange)
        except ClientGoneError:
            exchange.status = _CLIENT_GONE
        finally:
            self.num_active -= 1
            logger.info(
                "%s %s %d %.1f ms id=%s",
                scope["method"],
                _printable(scope["path"]),
                exchange.status,
                (time.monotonic() - started) * 1e3,
                exchange.request_id,
            )

    async def _answer(self, scope: Scope, exchange: Exchange) -> None:
        headers = scope["header_map"] = dict(scope["headers"])
        try:
            exchange.ids = reply_ids(headers)
            if scope["path"] not in _OPEN_PATHS:
                self._check_key(headers.get(b"authorization"))
            # Scoring skips the router's machinery: it is the one path that has to be fast.
            serve = self._score if scope["path"] == "/score" else self._router
            await serve(scope, exchange.receive, exchange.send)
        except RequestError as error:
            if exchange.has_unread_body and error.status != _TOO_SLOW:
                await discard_body(exchange.receive, headers, 2 * self.settings.max_body_bytes)
            extra = error.headers if isinstance(error, HttpError) else []
            await exchange.refuse(error.status, error.message, extra)
        except HTTPException as error:
            await exchange.refuse(error.status_code, f"{error.detail}.", _sorted_allow(error))
        except ScoringError as error:
            logger.exception("request %s failed", exchange.request_id)
            await exchange.refuse(500, str(error), [FAILED_HEADER])
        except ClientGoneError:
            raise
        # The last resort: whatever a model or a library throws becomes a 500 with an id.
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise
            await exchange.refuse(500, _UNEXPECTED, [FAILED_HEADER])

    def _check_key(self, authorization: bytes | None) -> None:
        if is_allowed(authorization, self._keys()):
            return
        found = "is not valid" if authorization else "is missing"
        raise HttpError(
            401,
            f"The key {found}. Send the header 'Authorization: Bearer <key>'.",
            [(b"www-authenticate", b"Bearer")],
        )

    async def _ready(self, request: Request) -> Response:
        if self._draining:
            return _message(503, "The server is stopping.")
        if self._scorer is None:
            return _message(503, "The model is loading.")
        if self.lane.is_blocked:
            return _message(503, "A request does not end; this worker is about to be replaced.")
        return PlainTextResponse("Ready")

    async def _score(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            return await _score_without_body(scope, send)
        headers = scope["header_map"]
        check_content_type(headers)
        if self._draining:
            raise busy("The server is stopping. Try again.", 1, close=True)
        self.lane.check_room()
        deadline = scope["started"] + self.settings.timeout_s
        body = await read_body(
            receive,
            headers,
            self.settings.max_body_bytes,
            self._budget,
            deadline - time.monotonic(),
        )
        try:
            check = functools.partial(_check_wanted, deadline, scope.get("is_gone", _never))
            job = functools.partial(self._score_body, body, check)
            done = await self.lane.run(job, deadline)
        finally:
            self._budget.give_back(len(body))
        if isinstance(done, _Scored):
            until = scope["started"] + self.settings.explain_timeout_s
            done = await self._explained(done, until, receive)
        content, extra = done
        self._reply_bytes_held += len(content)
        try:
            await send_json(send, 200, content, extra)
        finally:
            self._reply_bytes_held -= len(content)

    async def _explained(
        self, scored: _Scored, deadline: float, receive: Receive
    ) -> tuple[bytes, Headers]:
        """Return the reply with its explanations, once their lane has had its turn.

        Raises:
            ClientGoneError: When the client closes the connection first; the lane has room again.
        """
        if self._reply_bytes_held > _MAX_REPLY_BYTES_HELD:
            raise busy("Too many explanations wait for their clients to take them.", 1)
        num_bytes = sum(len(row.image) for row in scored.rows)
        self._explain_budget.take(num_bytes)
        gone = threading.Event()
        job = functools.partial(self._explain_rows, scored, deadline, gone)
        running = asyncio.create_task(self.explain_lane.run(job, deadline))
        watching = asyncio.create_task(_hung_up(receive))
        try:
            await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            raise ClientGoneError
        finally:
            # Before the job is cancelled: what runs already must see it.
            gone.set()
            for task in (running, watching):
                task.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)
            self._explain_budget.give_back(num_bytes)

    def _load_model(self) -> None:
        # Set here, not where `start` goes on: the lane's next job must find it.
        self._scorer = self._load()

    def _score_body(
        self, body: bytes, check: Callable[[], None]
    ) -> tuple[bytes, Headers] | _Scored:
        scorer = self._scorer
        assert scorer is not None, "loading is the lane's first job"
        check()
        started = time.perf_counter()
        rows = parse_request(body, self.settings.max_images)
        selector = explaining_selector(scorer, rows)
        if selector is not None:
            assert isinstance(scorer, Scorer)
            scored = self._score_to_explain(scorer, selector, rows, check)
            if any(row.needs_network for row in scored.rows):
                return scored
            joined = join(scored.results, scored.rows, {}, selector)
            return _encoded(joined, started, scored.headers)
        results = self._each(rows, lambda i: score_rows(scorer, rows[i : i + 1], check)[0])
        refuse_all_failed(results)
        return _encoded(results, started, _explanations_header(None, rows))

    def _score_to_explain(
        self,
        scorer: Scorer,
        selector: TargetSelector,
        rows: Sequence[RequestRow],
        check: Callable[[], None],
    ) -> _Scored:
        """Return scores and the targets to explain.

        Raises:
            RequestError: 400 for parameters, or when nothing can be explained here; 413 for too
                much; 429 when the lane is full.
        """
        started = time.perf_counter()
        parameters = row_parameters(rows, selector, scorer.labels)
        if isinstance(self._explain, str):
            raise RequestError(self._explain)
        self.explain_lane.check_room()
        scored = _Scored([], [], selector, _explanations_header(selector, rows), 0.0)
        each = self._each(
            rows,
            lambda i: score_and_select(scorer, selector, rows[i : i + 1], parameters, i, check),
        )
        for results, to_explain in each:
            scored.results.extend(results)
            scored.rows.extend(to_explain)
        refuse_all_failed(scored.results)
        check_num_explanations(scored.rows, self.settings.max_explanations)
        return replace(scored, milliseconds=(time.perf_counter() - started) * 1e3)

    def _each(self, rows: Sequence[RequestRow], work: Callable[[int], T]) -> list[T]:
        """Return what `work` returns for the index of each row, in order."""

        def work_within_budget(i: int) -> T:
            with self._pixels.held(rows[i].image):
                return work(i)

        is_alone = len(rows) == 1 == self.lane.num_threads
        return self._crew.map(work if is_alone else work_within_budget, range(len(rows)))

    def _explain_rows(
        self, scored: _Scored, deadline: float, gone: threading.Event
    ) -> tuple[bytes, Headers]:
        assert not isinstance(self._explain, str), "refused when it was scored"
        started = time.perf_counter() - scored.milliseconds / 1e3
        rows = [row for row in scored.rows if row.needs_network]
        answers = self._explain(rows, deadline, gone)
        by_row = dict(zip((row.index for row in rows), answers, strict=True))
        results = join(scored.results, scored.rows, by_row, scored.selector)
        return _encoded(results, started, scored.headers)


def _explanations_header(selector: TargetSelector | None, rows: Sequence[RequestRow]) -> Headers:
    """Return the header that says that a row asked for explanations and gets scores alone."""
    asked = (row for row in rows if row.explain)
    left_out = any(selector is None or not is_explained(selector, row) for row in asked)
    return [EXPLANATIONS_HEADER] if left_out else []


def _check_wanted(deadline: float, is_gone: Callable[[], bool]) -> None:
    """Check that a request's answer is still wanted; called before each image.

    Raises:
        HttpError: 408 after the deadline.
        ClientGoneError: When the client has closed the connection.
    """
    if is_gone():
        raise ClientGoneError
    if time.monotonic() > deadline:
        raise timed_out()


def _never() -> bool:
    return False


def _encoded(
    results: Sequence[dict[str, Any]], started: float, extra: Headers
) -> tuple[bytes, Headers]:
    content = orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)
    milliseconds = (time.perf_counter() - started) * 1e3
    return content, [(b"x-ms-run-fn-exec-ms", f"{milliseconds:.3f}".encode()), *extra]


async def _hung_up(receive: Receive) -> None:
    """Return when the client has closed the connection; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("Healthy")


async def _score_without_body(scope: Scope, send: Send) -> None:
    allow = (b"allow", b"OPTIONS, POST")
    if scope["method"] == "OPTIONS":
        return await send_json(send, 200, b"", [allow])
    raise HttpError(405, "Method Not Allowed. Send the images with POST.", [allow])


async def _swagger(request: Request) -> Response:
    version = request.query_params.get("version", "2")
    document = swagger(version)
    if document is None:
        raise HttpError(400, "version must be 2 or 3.")
    return Response(orjson.dumps(document), media_type="application/json")


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise HttpError(404, "Not found. Scoring is POST /score, its description /swagger.json.")


def _sorted_allow(error: HTTPException) -> Headers:
    # Starlette joins a set; sorting makes the reply the same every time.
    methods = (error.headers or {}).get("Allow", "").split(", ")
    return [(b"allow", ", ".join(sorted(methods)).encode())]


def _message(status: int, text: str) -> Response:
    return Response(orjson.dumps({"message": text}), status, media_type="application/json")


def _printable(path: str) -> str:
    start = path[:_MAX_LOGGED_PATH]
    # A path may hold decoded line breaks; a log line is one line.
    return start if start.isprintable() else ascii(start)
