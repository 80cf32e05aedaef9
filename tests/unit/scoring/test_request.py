import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from autofocus.errors import ImageError, RequestError
from autofocus.scoring.request import (
    RequestRow,
    parse_request,
    parse_row,
    refuse_all_failed,
    score_rows,
)

IMAGE = bytes(range(256)) * 3
FLAT = base64.b64encode(IMAGE).decode()
WITH_NEWLINES = base64.encodebytes(IMAGE).decode()


def body(data: Any, **more: Any) -> bytes:
    return json.dumps({"input_data": {"columns": ["image"], "data": data, **more}}).encode()


def explain_row(image: str = WITH_NEWLINES, **more: Any) -> str:
    return json.dumps({"image_base64": image, **more})


class LengthScorer:
    def score(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        return [{"length": len(image)} for image in images]


@pytest.mark.parametrize(
    "text", [FLAT, WITH_NEWLINES, WITH_NEWLINES.replace("\n", "\r\n"), f" {FLAT} "]
)
@pytest.mark.parametrize("nested", [False, True])
def test_base64_in_every_published_form_gives_the_same_bytes(text: str, nested: bool) -> None:
    cells = parse_request(body([[text]] if nested else [text]))
    assert cells == [RequestRow(IMAGE)]


def test_body_with_byte_order_mark_is_read() -> None:
    assert parse_request(b"\xef\xbb\xbf" + body([FLAT])) == [RequestRow(IMAGE)]


def test_mixed_rows_keep_order_and_each_its_own_parameters() -> None:
    cells = parse_request(
        body(
            [
                FLAT,
                explain_row(model_explainability=True, xai_parameters={"xai_algorithm": "xrai"}),
                [explain_row(model_explainability=True, xai_parameters={"n_steps": 7})],
                "\n " + explain_row(),
                explain_row(model_explainability=False, xai_parameters=None),
            ]
        )
    )
    assert [cell.image for cell in cells] == [IMAGE] * 5
    assert [cell.explain for cell in cells] == [False, True, True, False, False]
    assert [cell.xai_parameters for cell in cells] == [
        None,
        {"xai_algorithm": "xrai"},
        {"n_steps": 7},
        None,
        None,
    ]


@pytest.mark.parametrize("index", [[0, 1], [7, 3], ["a", "b"], None])
def test_index_and_params_are_accepted_whatever_they_hold(index: list[Any] | None) -> None:
    document = json.loads(body([FLAT, FLAT], index=index))
    document["params"] = {"anything": [1, {"x": None}]}
    assert len(parse_request(json.dumps(document).encode())) == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("not base64 at all!", ""),
        (FLAT[:-3], ""),
        (FLAT.replace("A", "-", 1), ""),
        ("é" * 8, ""),
        (f"data:image/png;base64,{FLAT}", "without 'data:"),
    ],
)
def test_broken_base64_keeps_its_place(text: str, hint: str) -> None:
    cells = parse_request(body([FLAT, text, FLAT]))
    assert [isinstance(cell.image, bytes) for cell in cells] == [True, False, True]
    error = cells[1].image
    assert isinstance(error, ImageError)
    assert error.code == "image.base64"
    assert hint in error.message
    assert text not in error.message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "The body is empty"),
        (b" \n ", "The body is empty"),
        (b"{", "not valid UTF-8 JSON"),
        (b'{"input_data": {},}', "not valid UTF-8 JSON"),
        (b"\xff\xfe{\x00}\x00", "not valid UTF-8 JSON"),
        (b'{"input_data": NaN}', "not valid UTF-8 JSON"),
        (b"[" * 100_000, "not valid UTF-8 JSON"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "not valid UTF-8 JSON"),
        (b"[]", "POST body should be a JSON dictionary. Got an array"),
        (b'"secret"', "Got a string"),
        (b"null", "Got null"),
        (b"{}", "input_data is missing"),
        (b'{"input_data": []}', "input_data must be an object"),
        (b'{"input_data": {"data": ["eA=="]}}', 'columns must be ["image"], got nothing'),
        (body([FLAT], columns=[]), "an empty array"),
        (body([FLAT], columns=["image", "secret"]), "an array of 2 other names"),
        (body([FLAT], columns="image"), "got a string"),
        (
            b'{"input_data": {"columns": ["image"]}}',
            "data must be an array of strings, got nothing",
        ),
        (body({"0": FLAT}), "data must be an array of strings, got an object"),
        (body(FLAT), "data must be an array of strings, got a string"),
        (body([]), "data is empty"),
        (body([7]), "input_data.data[0] must be a base64 string, got a number"),
        (body([True]), "got a boolean"),
        (body([None]), "got null"),
        (body([[]]), "input_data.data[0] must hold one image, got an array of 0"),
        (body([FLAT, [FLAT, FLAT]]), "input_data.data[1] must hold one image, got an array of 2"),
        (body([[[FLAT]]]), "input_data.data[0][0] must be a base64 string, got an array"),
        (body([{"image_base64": FLAT}]), "json.dumps"),
        (body([FLAT], index=[0, 1]), "index must be an array as long as data (1)"),
        (body([FLAT], index="0"), "got a string"),
        (body(["{secret"]), "starts with '{' but is not valid JSON"),
        (body(["{}"]), "image_base64 must be a base64 string, got nothing"),
        (body(['{"image_base64": 3}']), "got a number"),
        (body([explain_row(model_explainability="secret")]), "true or false, got a string"),
        (body([explain_row(xai_parameters=["secret"])]), "xai_parameters must be an object"),
    ],
)
def test_wrong_request_names_place_and_rule_and_repeats_nothing(
    content: bytes, expected: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(content)
    assert expected in caught.value.message
    assert caught.value.status == 400
    assert "secret" not in caught.value.message
    assert len(caught.value.message) < 600
    # The decoder's error would carry the body into a logged traceback.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_all_wrong_rows_are_named_up_to_five() -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(body([FLAT, *range(8)]))
    assert [f"data[{i}]" in caught.value.message for i in range(9)] == [
        False,
        *[True] * 5,
        *[False] * 3,
    ]
    assert "And 3 more" in caught.value.message


def test_too_many_images_is_413() -> None:
    with pytest.raises(RequestError, match="1,000 images, at most 256") as caught:
        parse_request(body([FLAT] * 1_000))
    assert caught.value.status == 413
    assert len(parse_request(body([FLAT] * 1_000), max_images=1_000)) == 1_000


def test_big_body_of_tiny_values_is_refused_before_it_is_parsed() -> None:
    bomb = b'{"params": [' + b"[]," * 500_000 + b'0], "input_data": {}}'
    with pytest.raises(RequestError, match="JSON values, at most"):
        parse_request(bomb)


def test_big_image_is_no_bomb() -> None:
    image = b"\x00" * (3 << 20)
    assert parse_request(body([base64.encodebytes(image).decode()])) == [RequestRow(image)]


def test_cell_by_itself_takes_bytes_text_and_explain_form() -> None:
    assert parse_row(IMAGE) == RequestRow(IMAGE)
    assert parse_row(WITH_NEWLINES) == RequestRow(IMAGE)
    assert parse_row(explain_row(model_explainability=True)) == RequestRow(IMAGE, explain=True)


def test_scores_and_errors_stay_in_request_order() -> None:
    cells = [RequestRow(b"12"), RequestRow(ImageError("image.base64", "bad")), RequestRow(b"123")]
    assert score_rows(LengthScorer(), cells) == [
        {"length": 2},
        {"error": {"code": "image.base64", "message": "bad"}},
        {"length": 3},
    ]


def test_only_all_failed_is_refused() -> None:
    error = {"error": {"code": "image.truncated", "message": "is cut off"}}
    refuse_all_failed([error, {"probs": []}])
    with pytest.raises(RequestError) as caught:
        refuse_all_failed([error] * 7)
    assert "data[4]: is cut off; and 2 more" in caught.value.message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "row",
    [
        explain_row(xai_parameters={f"k{i}": 1 for i in range(1_001)}),
        explain_row(xai_parameters={f"k{i}": 1 for i in range(1_001)}).replace(",", "\\u002c"),
    ],
)
def test_values_of_a_row_are_counted_however_they_are_written(row: str) -> None:
    document = body([row]).replace(b"\\\\u002c", b"\\u002c")
    with pytest.raises(RequestError, match=r"data.0. holds about 1,00. JSON values, at most 1,000"):
        parse_request(document)


@pytest.mark.parametrize("parameters", [{f"k{i}": 1 for i in range(51)}, {"k" * 101: 1}])
def test_parameters_are_few_and_their_names_short(parameters: dict[str, int]) -> None:
    row = explain_row(model_explainability=True, xai_parameters=parameters)
    with pytest.raises(RequestError, match="must have at most 50 keys of at most 100 characters"):
        parse_request(body([row]))
    # Where nothing is explained, nobody looks.
    parse_request(body([explain_row(model_explainability=False, xai_parameters=parameters)]))
