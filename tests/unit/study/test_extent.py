"""A finished run goes on where more is asked, and not otherwise."""

from typing import Any

import pytest

from autofocus.study.extent import Extent
from autofocus.study.resolve import resolve


def job(**keys: Any) -> dict[str, Any]:
    return {"task": "image_classification", "training_data": "photos", **keys}


@pytest.mark.parametrize(
    ("before", "asked", "goes_on"),
    [
        # Time.
        ({"budget": "5m"}, {"budget": "10m"}, True),
        ({"budget": "5m"}, {"budget": "5m"}, False),
        ({"budget": "10m"}, {"budget": "5m"}, False),
        ({"budget": "5m"}, {"budget": "315s"}, False),
        ({"budget": "5m"}, {}, False),
        ({}, {"budget": "10m"}, True),
        ({}, {"budget": "3m"}, False),
        ({"limits": {"timeout_minutes": 5}}, {"limits": {"timeout_minutes": 10}}, True),
        # Trials.
        ({"limits": {"max_trials": 4}}, {"limits": {"max_trials": 9}}, True),
        ({"limits": {"max_trials": 9}}, {"limits": {"max_trials": 4}}, False),
        ({}, {"limits": {"max_trials": 4}}, True),
        ({"budget": "10m"}, {"limits": {"max_trials": 4}}, True),
        ({"budget": "5m", "limits": {"max_trials": 4}}, {"limits": {"max_trials": 4}}, True),
        (
            {"budget": "5m", "limits": {"max_trials": 4}},
            {"budget": "5m", "limits": {"max_trials": 9}},
            False,
        ),
        # One trial of the job's own recipe.
        (
            {"budget": "5m", "limits": {"max_trials": 1}},
            {"budget": "10m", "limits": {"max_trials": 1}},
            True,
        ),
        ({"limits": {"max_trials": 1}}, {"budget": "10m", "limits": {"max_trials": 1}}, False),
        ({"budget": "5m", "limits": {"max_trials": 1}}, {"limits": {"max_trials": 1}}, True),
    ],
)
def test_more_is_asked(before: dict[str, Any], asked: dict[str, Any], goes_on: bool) -> None:
    result = {"seconds": 298.0, **Extent.of(resolve(job(**before))).document()}
    assert Extent.of(resolve(job(**asked))).is_more_than(result) is goes_on


def test_a_result_of_before_it_said_what_it_was_given_stays() -> None:
    assert not Extent.of(resolve(job(budget="10m"))).is_more_than({"seconds": 1.0})


def test_a_job_that_is_read_back_asks_for_the_same() -> None:
    """`max_trials: 1` would ask for the job's own recipe alone."""
    for keys in (
        {},
        {"budget": "5m"},
        {"limits": {"max_trials": 1}},
        {"limits": {"max_trials": 7}},
    ):
        plan = resolve(job(**keys))
        again = resolve(plan.document())
        assert again.mode == plan.mode
        assert Extent.of(again) == Extent.of(plan)
