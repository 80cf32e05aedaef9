"""The planner: its order is fixed, and the clock says what fits."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from autofocus.study.automode.actions import Tail
from autofocus.study.automode.planner import Planner


@dataclass(frozen=True)
class Fake:
    """An action of known gain and cost."""

    id: str
    gain: float
    num_passes: float
    kind: str = "head"
    model: str = ""
    num_epochs: int = 0
    shorter: Any = None

    def passes(self, contest: Any) -> float:
        return self.num_passes

    def run(self, contest: Any, context: Any) -> list[Any]:
        return []


CHEAP, DEAR, BEST = Fake("cheap", 0.1, 2), Fake("dear", 0.2, 90), Fake("best", 0.3, 3)


def planner(left_s: float) -> Planner:
    study = SimpleNamespace(
        samples=range(100),
        left_s=lambda: left_s,
        test_reserve_s=lambda: min(left_s, 1.0),
        packaging_s=5.0,
    )
    model = SimpleNamespace(size=10)
    contest: Any = SimpleNamespace(study=study, best=model, served=model)
    return Planner(contest, pass_s=0.01)


def test_the_order_is_by_gain_for_cost() -> None:
    priced = planner(math.inf).layout([DEAR, CHEAP, BEST])
    assert [one.action.id for one in priced] == ["best", "cheap", "dear"]


def test_what_does_not_fit_is_left_out_and_a_cheaper_one_taken() -> None:
    found = planner(5.6).choose([DEAR, CHEAP, BEST])
    assert found is not None
    assert found.action is CHEAP, "3 s of passes, 2 s of all else and 1 s for the test data"
    assert planner(3.0).choose([DEAR, CHEAP, BEST]) is None
    assert planner(3.0).cheapest([DEAR, BEST, CHEAP]) == planner(9.0).price(CHEAP)
    assert planner(9.0).cheapest([]) is None


def test_what_does_not_fit_is_made_shorter_before_a_lesser_one_is_taken() -> None:
    best = Fake("best", 9.0, 90, shorter=Fake("half of it", 9.0, 45))
    names = [planner(left_s).choose([CHEAP, best]) for left_s in (200.0, 60.0, 40.0)]
    assert [one and one.action.id for one in names] == ["best", "half of it", "cheap"]
    assert [one.action.id for one in planner(60.0).layout([CHEAP, best])] == ["half of it", "cheap"]
    cheapest = planner(60.0).cheapest([best])
    assert cheapest is not None
    assert cheapest.action.id == "half of it"


def test_an_action_that_ended_corrects_the_cost_of_its_kind() -> None:
    one = planner(100.0)
    before = one.price(CHEAP).seconds
    one.took(BEST, 2 + 10 * 3.0)
    assert one.price(CHEAP).seconds == pytest.approx(2 + 10 * 2.0)
    assert one.price(Fake("other", 0.1, 2, kind="pair")).seconds == pytest.approx(before)


def test_no_more_is_laid_out_than_there_is_time_for() -> None:
    priced = planner(11.0).layout([CHEAP, BEST, Fake("third", 0.05, 2)])
    assert [one.action.id for one in priced] == ["best", "cheap"]
    assert sum(one.seconds for one in priced) <= 10.0


def test_a_larger_package_takes_longer() -> None:
    one: Any = planner(30.0)
    one._contest.best = SimpleNamespace(size=30)
    assert one.left_s() == pytest.approx(29 - 2 * 1.3 * 5)


def test_nothing_is_measured_where_there_is_no_time_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(self: Tail, contest: Any) -> float:
        raise AssertionError("it was measured")

    monkeypatch.setattr(Tail, "measure", measured)
    monkeypatch.setattr(Tail, "passes", lambda self, contest: 60.0)
    encoder: Any = SimpleNamespace(source=SimpleNamespace(name="x"))
    tail = Tail(encoder, 5, 8, 0.2)
    assert planner(19.0).choose([tail]) is None, "measuring takes seconds by itself"
    assert planner(25.0).choose([tail]) is None, "it needs about 62 s"
    assert planner(math.inf).choose([tail]) is not None, "without a budget nothing is timed"
    with pytest.raises(AssertionError, match="measured"):
        planner(40.0).choose([tail])
