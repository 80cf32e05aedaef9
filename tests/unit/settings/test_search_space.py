"""Distributions: two written forms, one meaning; what cannot be is said, all at once."""

import math
from typing import Any

import pytest

from autofocus.settings.search_space import (
    ARGUMENTS,
    Choice,
    Distribution,
    Normal,
    Randint,
    Uniform,
    canonical_space,
    parse_distribution,
    parse_space,
    shaped,
)

# REST form, object form, what both mean.
FORMS: list[tuple[str, dict[str, Any], Distribution]] = [
    (
        "choice('a','b c', 3, 0.5, True)",
        {"type": "choice", "values": ["a", "b c", 3, 0.5, True]},
        Choice(("a", "b c", 3, 0.5, True)),
    ),
    ("choice(sgd, adam)", {"type": "choice", "values": ["sgd", "adam"]}, Choice(("sgd", "adam"))),
    ("randint(30)", {"type": "randint", "upper": 30}, Randint(30)),
    (
        "uniform(0.001,0.01)",
        {"type": "uniform", "min_value": 0.001, "max_value": 0.01},
        Uniform(0.001, 0.01),
    ),
    (
        "LogUniform(-6, -2)",
        {"type": "loguniform", "min_value": -6, "max_value": -2},
        Uniform(-6, -2, base=math.e),
    ),
    (
        "quniform(0,1,0.1)",
        {"type": "quniform", "min_value": 0, "max_value": 1, "q": 0.1},
        Uniform(0, 1, 0.1),
    ),
    (
        "qloguniform(-3,-1,0.1)",
        {"type": "qloguniform", "min_value": -3, "max_value": -1, "q": 0.1},
        Uniform(-3, -1, 0.1, math.e),
    ),
    ("normal(0.9,1e-2)", {"type": "normal", "mu": 0.9, "sigma": 0.01}, Normal(0.9, 0.01)),
    ("lognormal(0,1)", {"type": "lognormal", "mu": 0, "sigma": 1}, Normal(0, 1, base=math.e)),
    (
        "qnormal(5, 2, 1)",
        {"type": "qnormal", "mu": "5", "sigma": 2, "q": 1},
        Normal(5, 2, 1),
    ),
    (
        "qlognormal(0,1,0.1)",
        {"type": "qlognormal", "mu": 0, "sigma": 1, "q": 0.1},
        Normal(0, 1, 0.1, math.e),
    ),
]


def test_all_ten_distributions_are_covered() -> None:
    assert {meant.type for _, _, meant in FORMS} == ARGUMENTS.keys()
    assert len(ARGUMENTS) == 10


@pytest.mark.parametrize(("rest", "mapping", "meant"), FORMS, ids=[form[0] for form in FORMS])
def test_both_forms_mean_the_same(rest: str, mapping: dict[str, Any], meant: Distribution) -> None:
    assert parse_distribution(rest) == parse_distribution(mapping) == meant
    assert mapping["type"] == meant.type


@pytest.mark.parametrize(
    ("value", "meant"),
    [(3, 3), ("3", 3), ("0.5", 0.5), (True, True), ("true", True), ("False", False),
     ("vitb16r224", "vitb16r224"), ("'sgd'", "sgd"), ("3x2", "3x2"), ("(3, 2)", "(3, 2)"),
     ("google/vit-base", "google/vit-base")],
)  # fmt: skip
def test_bare_values_stand_for_themselves(value: object, meant: object) -> None:
    assert parse_distribution(value) == Choice((meant,))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"type": "unifrm", "min_value": 0}, "got 'unifrm'; did you mean 'uniform'?"),
        ("unifrm(0,1)", "did you mean 'uniform'?"),
        ({"values": [1]}, "type must be one of choice"),
        ({"type": "uniform", "min_value": 0}, "uniform takes min_value, max_value; 'max_value' is"),
        ({"type": "normal", "mu": 0, "sigma": 1, "q": 1}, "'q' is unknown"),
        ({"type": "uniform", "min_value": 1, "max_value": 0}, "min_value must be ≤ max_value"),
        ({"type": "uniform", "min_value": "a", "max_value": 0}, "must be a number, got 'a'"),
        ({"type": "uniform", "min_value": True, "max_value": 2}, "must be a number, got True"),
        ({"type": "quniform", "min_value": 0, "max_value": 1, "q": 0}, "q must be > 0"),
        ({"type": "normal", "mu": 0, "sigma": 0}, "sigma must be > 0"),
        ({"type": "randint", "upper": 0}, "upper must be a whole number ≥ 1"),
        ({"type": "randint", "upper": 1.5}, "upper must be a whole number ≥ 1"),
        ({"type": "choice", "values": []}, "at least one value"),
        ({"type": "choice", "values": 3}, "must be a list"),
        ({"type": "choice", "values": [{"a": 1}]}, "another entry of search_space"),
        ("uniform(0.1)", "uniform takes 2 arguments"),
        ([1, 2], r"write {type: choice, values: \[1, 2\]}"),
        # 0.0001 and 0.01, not their logarithms.
        ("loguniform(0.0001, 0.01)", "are exponents, as published: .* write -9.21 and -4.605"),
    ],
)
def test_what_is_no_distribution_is_explained(value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_distribution(value)


@pytest.mark.parametrize(
    ("drawn", "q", "base", "value"),
    [
        (0.37, None, None, 0.37),
        (0.37, 0.25, None, 0.25),
        (0.38, 0.25, None, 0.5),
        (0.3, 0.1, None, 0.3),
        (4.6, 2, None, 4),
        (-2, None, 10, 0.01),
        (math.log(0.26), 0.1, math.e, 0.3),
        (1e6, 1, math.e, math.inf),
    ],
)
def test_values_that_draws_stand_for(
    drawn: float, q: float | None, base: float | None, value: float
) -> None:
    assert shaped(drawn, q, base) == pytest.approx(value)
    if q == 2:
        assert type(shaped(drawn, q, base)) is int, "a whole step makes whole numbers"


def test_every_problem_of_a_space_is_named_with_its_place() -> None:
    _, problems = parse_space(
        [
            {"lerning_rate": 1, "optimizer": "choice('sgd','lamb')", "beta1": "normal(0.9,0)"},
            {"img_size": 3, "image_size": 320, "number_of_epochs": "uniform(1,9)"},
            [],
        ]
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "search_space.0.lerning_rate",
        "search_space.0.optimizer",
        "search_space.0.beta1",
        "search_space.1.img_size",
        "search_space.1.number_of_epochs",
        "search_space.2",
    ]
    text = "\n".join(problems)
    assert "did you mean 'learning_rate'?" in text
    assert "must be one of sgd, adam, adamw, got 'lamb'" in text
    assert "take quniform with a whole q, randint or choice instead of uniform" in text


@pytest.mark.parametrize("raw", [None, [], "x", 3])
def test_what_is_no_space_is_told_what_one_is(raw: object) -> None:
    space, (problem,) = parse_space(raw)
    assert space == ()
    assert "must be a list of mappings" in problem


@pytest.mark.parametrize(
    ("name", "distribution", "problem"),
    [
        ("learning_rate", "uniform(-0.1,0.1)", "must be a number > 0, uniform reaches -0.1."),
        ("learning_rate", "quniform(0.001,0.1,0.1)", "quniform reaches 0"),
        ("momentum", "loguniform(-1,0.1)", "loguniform reaches 1.105"),
        ("momentum", "loguniform(-1,9999)", "loguniform reaches inf"),
        ("weighted_loss", "quniform(0,3,1)", "a whole number in [0, 2], quniform reaches 3"),
        ("number_of_epochs", "quniform(1,9,0.5)", "take quniform with a whole q"),
        ("number_of_epochs", "normal(9,1)", "take quniform with a whole q"),
        ("training_crop_size", "randint(8)", "randint is below 8"),
        ("beta1", "normal(30,1)", "normal hardly ever gives that"),
        ("optimizer", "randint(2)", "optimizer can only be a choice, got randint"),
        ("model_name", "randint(2)", "model_name can only be a choice"),
        ("nesterov", "choice(True,7)", "must be true or false, got 7"),
    ],
)
def test_what_a_parameter_cannot_be_is_refused(name: str, distribution: str, problem: str) -> None:
    _, (text,) = parse_space([{name: distribution}])
    assert text.startswith(f"search_space.0.{name}: ")
    assert problem in text


def test_values_have_the_parameters_type() -> None:
    (subspace,), problems = parse_space(
        [{"number_of_epochs": "choice('4.0', 5)", "optimizer": "choice('Sgd')", "model_name": 18,
          "nesterov": "choice('yes')", "tile_grid_size": "choice('(3, 2)')"}]
    )  # fmt: skip
    assert problems == []
    assert subspace == {
        "number_of_epochs": Choice((4, 5)),
        "optimizer": Choice(("sgd",)),
        "model_name": Choice(("18",)),
        "nesterov": Choice((True,)),
        "tile_grid_size": Choice(("3x2",)),
    }


def test_bells_and_randint_are_cut_to_what_a_parameter_may_be() -> None:
    (subspace,), problems = parse_space(
        [
            {
                "beta1": "normal(0.9,0.2)",
                "training_batch_size": "randint(5)",
                "weighted_loss": "randint(9)",
                "early_stopping_patience": "qnormal(3,2,2)",
                "learning_rate": "qnormal(0.1,0.1,0.05)",
                "weight_decay": "lognormal(-3,2)",
                "momentum": "lognormal(-1,2)",
            }
        ]
    )
    assert problems == []
    bells = {name: d for name, d in subspace.items() if isinstance(d, Normal)}
    assert (bells["beta1"].low, bells["beta1"].high) == (0, 1)
    assert subspace["training_batch_size"] == Randint(5, 1)
    assert subspace["weighted_loss"] == Randint(3, 0)
    # 2 is the first multiple of 2 that is ≥ 1; what rounds to it begins at 1.
    assert bells["early_stopping_patience"].low == 1
    # 0 is not above 0: the first is 0.05.
    assert bells["learning_rate"].low == pytest.approx(0.025)
    assert bells["weight_decay"].low == -math.inf
    assert bells["momentum"].high == 0


def test_canonical_form_leaves_what_it_cannot_read() -> None:
    raw = [{"lr_scheduler": "choice('step')", "beta1": "unifrm(1)", "num_workers": 3}, "x"]
    assert canonical_space(raw) == [
        {
            "learning_rate_scheduler": {"type": "choice", "values": ["step"]},
            "beta1": "unifrm(1)",
            "number_of_workers": 3,
        },
        "x",
    ]
    assert canonical_space("x") == "x"
