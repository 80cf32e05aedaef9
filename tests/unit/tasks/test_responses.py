"""How far two replies are apart: pairs, edges of thresholds, doubles."""

from typing import Any

import pytest

from autofocus.tasks.responses import match_objects, response_difference


def found(label: str, score: float, left: float = 0.1, top: float = 0.1) -> dict[str, Any]:
    """Return a wire object of 0.2 x 0.2."""
    box = {"topX": left, "topY": top, "bottomX": left + 0.2, "bottomY": top + 0.2}
    return {"box": box, "label": label, "score": score}


CAN, JAR = found("can", 0.9), found("jar", 0.6, left=0.6)


def test_the_same_objects_in_another_order_are_no_difference() -> None:
    assert response_difference([CAN, JAR], [JAR, CAN]) == 0
    assert response_difference([], []) == 0


def test_a_pair_differs_by_its_score_or_its_corners() -> None:
    assert response_difference([CAN, JAR], [found("can", 0.88), JAR]) == pytest.approx(0.02)
    assert response_difference([CAN, JAR], [found("can", 0.9, left=0.13), JAR]) == pytest.approx(
        0.03
    )


def test_each_object_has_one_partner_the_nearest() -> None:
    left = [found("can", 0.9, left=0.1), found("can", 0.8, left=0.14)]
    right = [found("can", 0.8, left=0.14), found("can", 0.9, left=0.1)]
    assert sorted(match_objects(left, right).tolist()) == [[0, 1], [1, 0]]
    assert match_objects(left, right[:1]).tolist() == [[1, 0]]


def test_another_label_or_place_is_another_object() -> None:
    assert match_objects([CAN], [found("jar", 0.9)]).tolist() == []
    assert match_objects([CAN], [found("can", 0.9, left=0.25)]).tolist() == []
    assert response_difference([CAN], [found("jar", 0.9)]) >= 0.4


@pytest.mark.parametrize("others", [[], [JAR]])
def test_a_lost_object_counts(others: list[dict[str, Any]]) -> None:
    assert response_difference([CAN, *others], others) >= 0.3
    assert response_difference(others, [CAN, *others]) >= 0.3


def test_an_object_at_the_threshold_may_be_missing() -> None:
    edge = found("can", 0.3001, left=0.7, top=0.7)
    assert response_difference([CAN, JAR, edge], [CAN, JAR]) == 0
    lost = found("jar", 0.4, left=0.3, top=0.7)
    assert response_difference([CAN, lost, edge], [CAN]) == pytest.approx(0.0999)


def test_an_object_at_the_cap_may_be_missing() -> None:
    grid = [found("can", 0.9, left=0.5 * i, top=0.5 * j) for i in range(10) for j in range(10)]
    last, other = found("jar", 0.8, left=-3), found("jar", 0.8, left=-6)
    assert response_difference([*grid, last], [*grid, other]) == 0
    better = found("jar", 0.85, left=-9)
    assert response_difference([*grid, better, last], [*grid, last]) == pytest.approx(0.05)


def test_a_double_at_the_edge_of_suppression_may_be_missing() -> None:
    # Two cans overlap by half, as much as any two objects do; one network suppressed one.
    double = found("can", 0.7, left=0.1 + 0.2 / 3)
    assert response_difference([CAN, double, JAR], [CAN, JAR]) == 0
    # The jar overlaps no better jar: that it is missing is a difference.
    assert response_difference([CAN, double, JAR], [CAN, double]) == pytest.approx(0.1)


def crowd(num: int) -> list[dict[str, Any]]:
    """Return objects that lie apart, of falling scores."""
    return [found("can", 0.9 - 0.001 * i, left=i, top=5) for i in range(num)]


# Of two level boxes one network keeps the first, the other the second. Only the second overlaps
# a third, which it sends away.
FIRST, SECOND = found("can", 0.4002, left=0.1), found("can", 0.4, left=0.14)
THIRD = found("can", 0.35, left=0.18, top=0.14)


def test_what_a_tie_within_the_network_decided_is_no_difference() -> None:
    many = crowd(60)
    one, other = [*many, FIRST, THIRD], [*many, SECOND]
    assert response_difference(one, other) < 1e-3
    assert response_difference(other, one) < 1e-3
    # In a reply of few objects one more or less is not explained away.
    assert response_difference([JAR, FIRST, THIRD], [JAR, SECOND]) >= 0.04
    # Nor in most of a reply: these are all shifted.
    shifted = [found("can", item["score"], item["box"]["topX"] + 0.03, 5) for item in many]
    assert response_difference(many, shifted) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("left", "right", "least"),
    [
        pytest.param([FIRST], [], 0.1, id="lost"),
        pytest.param([FIRST], [found("can", 0.39, left=0.14)], 0.03, id="less certain"),
        pytest.param([FIRST], [found("can", 0.404, left=0.1)], 0.0038, id="another score"),
        pytest.param([FIRST], [found("jar", 0.4, left=0.14)], 0.1, id="another label"),
        pytest.param([FIRST, found("jar", 0.8)], [SECOND], 0.4, id="another lost"),
    ],
)
def test_a_defect_is_no_tie(
    left: list[dict[str, Any]], right: list[dict[str, Any]], least: float
) -> None:
    many = [*crowd(60), found("can", 0.3, left=80)]
    assert response_difference([*many, *left], [*many, *right]) >= least
    assert response_difference([*many, *right], [*many, *left]) >= least
