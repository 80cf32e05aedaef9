"""The published scoring request: body bytes in, one `RequestRow` an image out; replies in order.

    {"input_data": {"columns": ["image"], "data": ["<base64>", …]}}

`data` may also be nested (`[["<base64>"], …]`). A string that starts with `{` is the explain
form, itself JSON: {"image_base64", "model_explainability", "xai_parameters"}. Rows may be mixed
and each keeps its own parameters. `index` and `params` are accepted and not used.

Nothing here repeats a value of the request: bodies hold other people's photos.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson
import pybase64

from autofocus.errors import ImageError, RequestError

MAX_IMAGES = 256
# Problems that one error names.
MAX_PROBLEMS = 5

# Small bodies cannot hold enough tiny JSON values to matter; big ones are counted first, because
# `[],[],…` takes 20 times its size once parsed.
_COUNT_ABOVE_BYTES = 1 << 20
_MAX_JSON_VALUES = 100_000
# The explain form is JSON within a string, where escapes hide its marks from that count.
_MAX_ROW_VALUES = 1_000
# A row has a dozen parameters; each unknown one is looked up among them.
_MAX_PARAMETERS = 50
_MAX_KEY_CHARS = 100

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_EXAMPLE = '{"input_data": {"columns": ["image"], "data": ["<base64>"]}}'
_EXPLAIN_KEYS = '{"image_base64", "model_explainability", "xai_parameters"}'
_WHITESPACE = str.maketrans("", "", " \t\r\n")


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One row of a request.

    Attributes:
        image: Encoded image file, or the reason why the row does not hold one.
        explain: True if the row asks for explanations.
        xai_parameters: Parameters of this row, unchecked; None where it gives none.
    """

    image: bytes | ImageError
    explain: bool = False
    xai_parameters: dict[str, Any] | None = None


class ImageScorer(Protocol):
    """A model that answers requests; `scoring.scorer.Scorer` is one."""

    def score(self, images: Iterable[bytes]) -> list[dict[str, Any]]:
        """Return one wire object an image, in order; decodes each as it takes it."""


def parse_request(body: bytes, max_images: int = MAX_IMAGES) -> list[RequestRow]:
    """Return the rows of a request body, in order; at least one.

    Rows whose base64 is broken keep their place as an `ImageError`.

    Raises:
        RequestError: If the body is not a request. Names the path, the kind found there and
            what is allowed.
    """
    rows = _rows(_load(body))
    if len(rows) > max_images:
        raise RequestError(
            f"input_data.data has {len(rows):,} images, at most {max_images:,} are allowed in "
            "one request. Send them in several requests.",
            413,
        )
    parsed = []
    problems = []
    for i, row in enumerate(rows):
        try:
            parsed.append(_parsed(row, f"input_data.data[{i}]"))
        except RequestError as error:
            problems.append(error.message)
    refuse_problems(problems)
    return parsed


def parse_row(value: str | bytes) -> RequestRow:
    """Return one row from image bytes, base64 text, or the JSON of the explain form.

    Raises:
        RequestError: If it is JSON but not the explain form.
    """
    return RequestRow(value) if isinstance(value, bytes) else _parsed(value, "image")


def score_rows(
    scorer: ImageScorer, rows: Sequence[RequestRow], check: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Return one wire object a row, in order; broken rows give `{"error": …}`.

    Args:
        scorer: Model.
        rows: Rows in order.
        check: Called before each image is decoded; may raise.
    """
    results = in_place(
        [row.image for row in rows], lambda good: scorer.score(each_checked(good, check))
    )
    return [error_object(item) if isinstance(item, ImageError) else item for item in results]


def each_checked(images: Iterable[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    """Yield the images, with a call of `check` before each."""
    for image in images:
        check()
        yield image


def in_place(
    items: Sequence[ItemT | ImageError], work: Callable[[list[ItemT]], Iterable[ResultT]]
) -> list[ResultT | ImageError]:
    """Return the result of each item, in order; errors among the items stay where they are.

    Args:
        items: Items, or errors.
        work: Returns one result an item, in order; not called where all are errors.
    """
    good = [item for item in items if not isinstance(item, ImageError)]
    results = iter(work(good) if good else ())
    return [item if isinstance(item, ImageError) else next(results) for item in items]


def error_object(error: ImageError) -> dict[str, Any]:
    """Return the wire object of an image that cannot be scored."""
    return {"error": {"code": error.code, "message": error.message}}


def refuse_problems(problems: Sequence[str], more: str = "more") -> None:
    """Raise an error if there is any problem.

    Raises:
        RequestError: Names the first few problems and counts the others, as `more`.
    """
    if not problems:
        return
    named = list(problems[:MAX_PROBLEMS])
    if len(problems) > len(named):
        named.append(f"And {len(problems) - len(named)} {more}.")
    raise RequestError(" ".join(named))


def refuse_all_failed(results: Sequence[Mapping[str, Any]]) -> None:
    """Check that at least one image was scored.

    Raises:
        RequestError: If every result is an error object.
    """
    if not all("error" in result for result in results):
        return
    reasons = [
        f"data[{i}]: {result['error']['message']}"
        for i, result in enumerate(results[:MAX_PROBLEMS])
    ]
    if len(results) > len(reasons):
        reasons.append(f"and {len(results) - len(reasons)} more")
    raise RequestError("No image could be read. " + "; ".join(reasons))


def _load(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise RequestError(f"The body is empty, it must be {_EXAMPLE}.")
    if len(body) > _COUNT_ABOVE_BYTES:
        _check_num_values("The body", sum(map(body.count, (b",", b"[", b"{"))), _MAX_JSON_VALUES)
    try:
        document = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        # `from None`: the error object carries the whole body.
        raise RequestError(f"The body is not valid UTF-8 JSON: {error.msg}.") from None
    if not isinstance(document, dict):
        raise RequestError(
            f"POST body should be a JSON dictionary. Got {_kind(document)}, expected {_EXAMPLE}."
        )
    return document


def _check_num_values(what: str, number: int, allowed: int) -> None:
    if number > allowed:
        raise RequestError(
            f"{what} holds about {number:,} JSON values, at most {allowed:,} are allowed."
        )


def _rows(document: dict[str, Any]) -> list[Any]:
    if "input_data" not in document:
        raise RequestError(f"input_data is missing, the body must be {_EXAMPLE}.")
    table = document["input_data"]
    if not isinstance(table, dict):
        raise RequestError(f"input_data must be an object like {_EXAMPLE}, got {_kind(table)}.")

    columns = table.get("columns")
    if columns != ["image"]:
        found = _kind(columns) if "columns" in table else "nothing"
        if isinstance(columns, list):
            found = f"an array of {len(columns)} other names" if columns else "an empty array"
        raise RequestError(f'input_data.columns must be ["image"], got {found}.')

    rows = table.get("data")
    if not isinstance(rows, list):
        found = _kind(rows) if "data" in table else "nothing"
        raise RequestError(f"input_data.data must be an array of strings, got {found}.")
    if not rows:
        raise RequestError("input_data.data is empty, it must hold at least one image.")

    index = table.get("index")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise RequestError(
            f"input_data.index must be an array as long as data ({len(rows)}), "
            f"got {_kind(index)}{f' of {len(index)}' if isinstance(index, list) else ''}."
        )
    return rows


def _parsed(row: Any, path: str) -> RequestRow:
    if isinstance(row, list):
        if len(row) != 1:
            raise RequestError(f"{path} must hold one image, got an array of {len(row)}.")
        row, path = row[0], f"{path}[0]"
    if isinstance(row, dict):
        raise RequestError(
            f"{path} must be a string, got an object. "
            "Pass the explain form as JSON text: json.dumps(…)."
        )
    if not isinstance(row, str):
        raise RequestError(f"{path} must be a base64 string, got {_kind(row)}.")
    # Base64 has no brace, so the first character that is not a space tells the forms apart.
    first = row[:1]
    if first.isspace():
        first = row.lstrip()[:1]
    if first == "{":
        return _parsed_explain_form(row, path)
    return RequestRow(_decode_base64(row))


def _parsed_explain_form(text: str, path: str) -> RequestRow:
    _check_num_values(path, sum(map(text.count, ",[{")), _MAX_ROW_VALUES)
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"{path} starts with '{{' but is not valid JSON: {error.msg}. "
            f"The explain form is {_EXPLAIN_KEYS}."
        ) from None
    image = row.get("image_base64")
    if not isinstance(image, str):
        found = _kind(image) if "image_base64" in row else "nothing"
        raise RequestError(f"{path}: image_base64 must be a base64 string, got {found}.")
    explain = row.get("model_explainability", False)
    if not isinstance(explain, bool):
        raise RequestError(
            f"{path}: model_explainability must be true or false, got {_kind(explain)}."
        )
    parameters = row.get("xai_parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError(f"{path}: xai_parameters must be an object, got {_kind(parameters)}.")
    if explain and parameters and not _are_sane(parameters):
        raise RequestError(
            f"{path}: xai_parameters must have at most {_MAX_PARAMETERS} keys of at most "
            f"{_MAX_KEY_CHARS} characters, got {len(parameters):,} of at most "
            f"{max(map(len, parameters)):,}."
        )
    return RequestRow(_decode_base64(image), explain, parameters)


def _are_sane(parameters: Mapping[str, Any]) -> bool:
    return len(parameters) <= _MAX_PARAMETERS and max(map(len, parameters)) <= _MAX_KEY_CHARS


def _decode_base64(text: str) -> bytes | ImageError:
    # The published client breaks lines every 76 characters. Taking the breaks out and decoding
    # strictly costs little more than decoding leniently, which would turn a stray character into
    # a silently different image.
    if "\n" in text:
        text = text.replace("\n", "")
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        text = text.translate(_WHITESPACE)
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        hint = " Send the base64 alone, without 'data:…,'." if text.startswith("data:") else ""
        return ImageError("image.base64", f"The image is not valid base64.{hint}")


def _kind(value: Any) -> str:
    for types, name in (
        (bool, "a boolean"),
        (str, "a string"),
        ((int, float), "a number"),
        (list, "an array"),
        (dict, "an object"),
    ):
        if isinstance(value, types):
            return name
    return "null"
