import dataclasses
from typing import Any

import pytest

from autofocus.errors import AutofocusError, RequestError
from autofocus.explain.algorithms import ALGORITHMS, attribution_method, names_of
from autofocus.explain.parameters import MAX_STEPS, Parameters, parse_parameters

CLASSES, BOXES = names_of("classes"), names_of("boxes")


def test_defaults_are_the_published_ones() -> None:
    assert parse_parameters({}, CLASSES) == parse_parameters(None, CLASSES) == Parameters()
    assert dataclasses.asdict(Parameters()) == {
        "xai_algorithm": "xrai",
        "n_steps": 50,
        "approximation_method": "riemann_middle",
        "xrai_fast": True,
        "visualizations": True,
        "attributions": False,
        "confidence_score_threshold_multilabel": 0.5,
        "target": None,
        "visualization_style": "panel",
        "num_masks": 500,
        "grid": 10,
        "seed": 0,
        "max_boxes": 16,
    }
    assert parse_parameters(None, BOXES) == Parameters(xai_algorithm="d_rise")


def test_every_algorithm_for_classes_has_its_own_name() -> None:
    names = [attribution_method(name).name for name in names_of("classes")]
    assert names == list(names_of("classes"))


def test_an_entry_whose_maps_have_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "toy", ALGORITHMS["xrai"])
    assert "toy" in names_of("classes")
    with pytest.raises(AutofocusError, match=r"Xrai\.name must be 'toy', got 'xrai'"):
        attribution_method("toy")


def test_parameters_of_algorithms_are_parameters_of_requests() -> None:
    names = {field.name for field in dataclasses.fields(Parameters)}
    assert all(set(algorithm.parameters) <= names for algorithm in ALGORITHMS.values())


def test_every_value_is_taken_over() -> None:
    raw: dict[str, Any] = {
        "xai_algorithm": "guided_gradcam",
        "n_steps": 2,
        "approximation_method": "gausslegendre",
        "xrai_fast": False,
        "visualizations": False,
        "attributions": True,
        "confidence_score_threshold_multilabel": 0,
        "target": "can",
        "visualization_style": "heatmap",
        "num_masks": 20_000,
        "grid": 1,
        "seed": 2**32 - 1,
        "max_boxes": 1,
    }
    assert dataclasses.asdict(parse_parameters(raw, CLASSES)) == raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"xai_algorithm": "lime"},
            "xai_parameters.xai_algorithm must be one of xrai, integrated_gradients,"
            " guided_gradcam, guided_backprop, got 'lime'.",
        ),
        ({"n_steps": 1}, f"xai_parameters.n_steps must be a whole number from 2 to {MAX_STEPS}"),
        ({"n_steps": True}, "got True."),
        ({"n_steps": 50.0}, "got 50.0."),
        ({"n_steps": 10**9}, "got 1000000000."),
        ({"approximation_method": "riemann"}, "must be one of riemann_middle, riemann_left"),
        ({"xrai_fast": "true"}, "xai_parameters.xrai_fast must be true or false, got 'true'."),
        ({"visualizations": 1}, "must be true or false, got 1."),
        ({"attributions": None}, "must be true or false, got None."),
        (
            {"confidence_score_threshold_multilabel": 1.5},
            "must be a number from 0 to 1, got 1.5.",
        ),
        ({"confidence_score_threshold_multilabel": float("nan")}, "got nan."),
        ({"confidence_score_threshold_multilabel": 10**400}, "must be a number from 0 to 1"),
        ({"target": 3}, "must be one of the model's class names, got 3."),
        ({"target": ""}, "must be one of the model's class names, got ''."),
        ({"visualization_style": ["panel"]}, "must be one of panel, overlay, heatmap, got a list."),
        ({"xai_algoritm": "xrai"}, "no key 'xai_algoritm'. Did you mean 'xai_algorithm'?"),
        ({"x" * 500: 1}, "…"),
    ],
)
def test_bad_parameters_are_named_with_what_is_allowed(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_parameters(raw, CLASSES)
    assert message in caught.value.message
    assert caught.value.status == 400
    assert len(caught.value.message) < 400


def test_boxes_and_classes_have_algorithms_of_their_own() -> None:
    assert parse_parameters({"xai_algorithm": "d_rise"}, BOXES).xai_algorithm == "d_rise"
    with pytest.raises(RequestError, match=r"must be one of d_rise, got 'xrai'\."):
        parse_parameters({"xai_algorithm": "xrai"}, BOXES)
    with pytest.raises(RequestError, match=r"guided_backprop, got 'd_rise'\."):
        parse_parameters({"xai_algorithm": "d_rise"}, CLASSES)
    assert ALGORITHMS.keys() == {*names_of("classes"), *names_of("boxes")}


def test_all_problems_come_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        parse_parameters({"n_steps": 0, "xrai_fast": 2, "colour": "red"}, CLASSES)
    assert all(key in caught.value.message for key in ("n_steps", "xrai_fast", "colour"))
