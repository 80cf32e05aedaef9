"""Rows that ask for explanations, without a network: parameters, choice of classes, replies."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from autofocus.errors import ImageError, RequestError
from autofocus.explain.parameters import Parameters
from autofocus.scoring.explain import needs as explain_needs
from autofocus.scoring.explain.needs import WEIGHTS_NAME, why_unavailable
from autofocus.scoring.explain.request import (
    BoxSelector,
    ClassSelector,
    ExplainRow,
    ExplanationTarget,
    check_num_explanations,
    explaining_selector,
    join,
    reply_values,
    row_parameters,
    score_and_select,
)
from autofocus.scoring.request import RequestRow
from autofocus.scoring.scorer import Scorer
from autofocus.structures.predictions import ClassScores, Detections
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification

LABELS = ["can", "carton", "milk_bottle", "water_bottle"]
ONE, SEVERAL = ClassSelector(MulticlassClassification()), ClassSelector(MultilabelClassification())
MAP = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 7


def asking(**parameters: Any) -> RequestRow:
    return RequestRow(b"image", explain=True, xai_parameters=parameters)


def row(place: int, parameters: Parameters, *indices: int) -> ExplainRow:
    classes = tuple(ExplanationTarget(i, LABELS[i], 0.5) for i in indices)
    return ExplainRow(place, b"image", parameters, classes)


def test_each_row_keeps_its_own_parameters_and_plain_rows_have_none() -> None:
    cells = [
        RequestRow(b"image"),
        asking(),
        RequestRow(b"image", explain=False, xai_parameters={"nonsense": 1}),
        asking(xai_algorithm="guided_backprop", attributions=True),
        RequestRow(b"image", explain=True),
    ]
    found = row_parameters(cells, ONE, LABELS)
    guided = Parameters(xai_algorithm="guided_backprop", attributions=True)
    assert found == {1: Parameters(), 3: guided, 4: Parameters()}


def test_every_bad_row_is_named_with_its_keys_and_what_is_allowed() -> None:
    cells = [asking(n_steps=1, colour="red"), asking(), asking(target="cans")]
    with pytest.raises(RequestError) as caught:
        row_parameters(cells, ONE, LABELS)
    message = caught.value.message
    assert caught.value.status == 400
    assert "input_data.data[0]: xai_parameters.n_steps must be a whole number" in message
    assert "input_data.data[0]: xai_parameters has an unknown key." in message
    assert "data[1]" not in message
    assert (
        "input_data.data[2]: xai_parameters.target must be one of the model's classes"
        " (can, carton, milk_bottle, water_bottle), got a text of 4 characters." in message
    )


def test_many_bad_rows_are_counted() -> None:
    with pytest.raises(RequestError, match=r"data\[4\].* And 1 more at least\.$"):
        row_parameters([asking(n_steps=1)] * 8, ONE, LABELS)


def test_errors_name_five_problems_and_repeat_no_text() -> None:
    secrets = {f"hunter{i}": 1 for i in range(40)} | {"xrai_fast": "secret", "grid": "secret"}
    for rows in ([asking(**secrets)] * 200, [asking(xai_algorithm="secret", target="secret")]):
        with pytest.raises(RequestError) as caught:
            row_parameters(rows, ONE, LABELS)
        assert caught.value.message.count("input_data.data[") <= 5
        assert len(caught.value.message) < 4_000
        assert "hunter" not in caught.value.message
        assert "secret" not in caught.value.message


def test_named_target_is_explained_whatever_its_probability() -> None:
    scores = ClassScores(np.array([0.9, 0.1, 0.0, 0.0], np.float32))
    for choice in (ONE, SEVERAL):
        (chosen,) = choice.select(LABELS, scores, Parameters(target="milk_bottle"))
        assert chosen == ExplanationTarget(2, "milk_bottle", 0.0)


def test_scores_are_the_plain_ones_and_broken_images_keep_their_place(
    tiny_model: Path, photo: bytes
) -> None:
    scorer = Scorer.load(tiny_model)
    broken = ImageError("image.base64", "no")
    cells = [
        RequestRow(broken, explain=True),
        RequestRow(photo),
        RequestRow(photo, explain=True),
        RequestRow(b"text"),
    ]
    choice = explaining_selector(scorer, cells)
    assert isinstance(choice, ClassSelector)
    assert explaining_selector(scorer, cells[1:2]) is None
    results, rows = score_and_select(
        scorer, choice, cells, {10: Parameters(), 12: Parameters()}, 10
    )
    assert results[0]["error"]["code"] == "image.base64"
    assert results[3]["error"]["code"] == "image.unknown_format"
    (plain,) = scorer.score([photo])
    assert results[1]["probs"].tolist() == results[2]["probs"].tolist() == plain["probs"].tolist()
    assert [r.index for r in rows] == [12]
    assert rows[0].targets[0].class_index == int(np.argmax(plain["probs"]))


def test_scorers_of_other_kinds_have_nothing_to_explain() -> None:
    class Other:
        def score(self, images: Any) -> list[dict[str, Any]]:
            return [{} for _ in images]

    assert explaining_selector(Other(), [asking()]) is None


def test_boxes_are_explained_when_d_rise_is_named_and_not_otherwise() -> None:
    cells = [asking(xai_algorithm="d_rise", num_masks=7), asking(), asking(xai_algorithm="xrai")]
    expected = Parameters(xai_algorithm="d_rise", num_masks=7)
    # What else a row names that gets scores alone is not looked at, as published.
    cells.append(asking(colour="red"))
    assert row_parameters(cells, BoxSelector(), LABELS) == {0: expected}
    bad = [asking(), asking(xai_algorithm="d_rise", grid=0, num_masks=1)]
    with pytest.raises(RequestError) as caught:
        row_parameters(bad, BoxSelector(), LABELS)
    assert caught.value.message == (
        "input_data.data[1]: xai_parameters.grid must be a whole number from 1 to 64, got 0."
        " input_data.data[1]: xai_parameters.num_masks must be a whole number from 2 to 20000,"
        " got 1."
    )
    with pytest.raises(RequestError, match=r"must be one of xrai, .* got a text of 6 char"):
        row_parameters(cells[:1], ONE, LABELS)


def test_the_best_boxes_or_those_of_the_target_are_explained_in_their_places() -> None:
    boxes = np.array([[0.1 * i, 0.0, 0.1 * i + 0.2, 1.0] for i in range(4)], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    found = Detections(boxes, scores, np.array([2, 0, 2, 1]), (10, 20))
    choice = BoxSelector()
    first, second = choice.select(LABELS, found, Parameters(max_boxes=2))
    assert (first.label, first.box_index, second.label, second.box_index) == (
        "milk_bottle",
        0,
        "can",
        1,
    )
    assert first.probability == pytest.approx(0.9)
    assert second.xyxy_frac == pytest.approx((0.1, 0.0, 0.3, 1.0))
    chosen = choice.select(LABELS, found, Parameters(target="milk_bottle"))
    assert [part.box_index for part in chosen] == [0, 2]
    asked = ExplainRow(0, b"image", Parameters(), chosen, choice.num_boxes(found))
    columns = reply_values(choice, asked, [b"png", b"png"], [])
    assert columns == {"visualizations": ["cG5n", None, "cG5n", None]}
    nothing = ExplainRow(0, b"image", Parameters(target="carton"), (), 4)
    assert not nothing.needs_network
    assert reply_values(choice, nothing, [], []) == {"visualizations": [None] * 4}


@pytest.mark.parametrize(
    ("parameters", "keys"),
    [
        (Parameters(), ["visualizations"]),
        (Parameters(attributions=True), ["visualizations", "attributions"]),
        (Parameters(visualizations=False, attributions=True), ["attributions"]),
        (Parameters(visualizations=False), []),
    ],
)
def test_keys_are_absent_when_not_asked_for(parameters: Parameters, keys: list[str]) -> None:
    single = reply_values(ONE, row(0, parameters, 1), [b"png"], [MAP])
    assert list(single) == keys
    several = reply_values(SEVERAL, row(0, parameters, 1, 2), [b"png"] * 2, [MAP] * 2)
    assert list(several) == keys
    if "visualizations" in keys:
        assert single["visualizations"] == "cG5n"
        assert several["visualizations"] == ["cG5n", "cG5n"]
    if "attributions" in keys:
        written = orjson.loads(orjson.dumps(single, option=orjson.OPT_SERIALIZE_NUMPY))
        assert np.array_equal(np.array(written["attributions"], np.float32), MAP)
        assert [m.shape for m in several["attributions"]] == [MAP.shape] * 2


def test_answers_join_their_rows_and_images_without_classes_get_empty_lists() -> None:
    both = Parameters(attributions=True)
    results: list[dict[str, Any]] = [{"probs": [i]} for i in range(4)]
    rows = [row(1, both, 0, 2), row(2, both), row(3, Parameters(visualizations=False), 1)]
    assert [r.needs_network for r in rows] == [True, False, False]
    answers = {1: {"visualizations": b'["a","b"]', "attributions": b"[[1],[2]]"}}
    joined = join(results, rows, answers, SEVERAL)
    assert json.loads(orjson.dumps(joined)) == [
        {"probs": [0]},
        {"probs": [1], "visualizations": ["a", "b"], "attributions": [[1], [2]]},
        {"probs": [2], "visualizations": [], "attributions": []},
        {"probs": [3]},
    ]


def test_explanations_in_one_request_are_bounded() -> None:
    rows = [row(0, Parameters(), 0, 1), row(1, Parameters(), 2), row(2, Parameters())]
    check_num_explanations(rows, 3)
    with pytest.raises(RequestError, match=r"asks for 3 explanations.*at most 2") as caught:
        check_num_explanations(rows, 2)
    assert caught.value.status == 413


def test_what_is_missing_is_said_with_what_to_install(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    reason = why_unavailable(tmp_path)
    assert reason is not None
    assert "no model.safetensors" in reason
    (tmp_path / WEIGHTS_NAME).touch()
    assert why_unavailable(tmp_path) is None
    monkeypatch.setitem(sys.modules, "numba", None)
    reason = why_unavailable(tmp_path)
    assert reason is not None
    assert "need numba, not installed here" in reason
    assert "pip install '.[train]'" in reason
    monkeypatch.setattr(explain_needs, "_ON_DISK", tmp_path / "algorithms.py")
    assert why_unavailable(tmp_path) == explain_needs.NOT_PACKAGED
