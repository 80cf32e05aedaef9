"""The slow path: one row read by hand, every issue named; where both paths work they agree."""

import json
import math
from typing import Any

import msgspec
import pytest

from autofocus.data.rows.issues import Issue
from autofocus.data.rows.jsonl import Schema
from autofocus.data.rows.records import (
    BoxLabel,
    DetectionRecord,
    ImageDetails,
    ImageRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
)
from autofocus.data.rows.rules import check_row


def check(
    label: Any, record_type: type[ImageRecord], **row: Any
) -> tuple[ImageRecord | None, list[Issue]]:
    whole = {"image_url": "a.jpg", "label": label, **row}
    return check_row(whole, record_type, "image_url", "label", "rows.jsonl", 17)


def codes(issues: list[Issue]) -> list[tuple[str, str]]:
    return [(issue.code, issue.path) for issue in issues]


def box(**changes: Any) -> dict[str, Any]:
    whole = {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6}
    return {key: value for key, value in {**whole, **changes}.items() if value != "absent"}


SQUARE = [0.1, 0.1, 0.5, 0.1, 0.5, 0.5, 0.1, 0.5]


def polygon(*rings: Any, **changes: Any) -> dict[str, Any]:
    return {"label": "can", "polygon": list(rings), **changes}


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("", "label.empty"),
        (True, "label.type"),
        (1.5, "label.type"),
        (["can"], "label.type"),
        ({}, "label.type"),
        (None, "label.missing"),
        ("\ud800", "text.invalid"),
        pytest.param(10**5000, "label.type", id="huge"),
    ],
)
def test_a_class_that_is_no_name_costs_the_row(label: Any, code: str) -> None:
    record, issues = check(label, MulticlassRecord)
    assert record is None
    assert codes(issues) == [(code, "label")]


def test_a_whole_number_is_the_class_of_its_text() -> None:
    assert check(3, MulticlassRecord) == (MulticlassRecord(image_url="a.jpg", label="3"), [])
    record, issues = check([3, "can"], MultilabelRecord)
    assert record == MultilabelRecord(image_url="a.jpg", label=["3", "can"])
    assert not issues


def test_an_empty_list_is_a_negative_and_no_issue() -> None:
    for record_type in (MultilabelRecord, DetectionRecord, InstanceSegmentationRecord):
        record, issues = check([], record_type)
        assert record == record_type(image_url="a.jpg", label=[])  # type: ignore[call-arg]
        assert not issues


def test_a_bad_class_of_several_costs_itself_only() -> None:
    record, issues = check(["can", 1.5, None], MultilabelRecord)
    assert record == MultilabelRecord(image_url="a.jpg", label=["can"])
    assert codes(issues) == [("label.type", "label[1]"), ("label.type", "label[2]")]


def test_a_class_named_twice_counts_once() -> None:
    record, issues = check(["3", 3, "can"], MultilabelRecord)
    assert record == MultilabelRecord(image_url="a.jpg", label=["3", "can"])
    assert codes(issues) == [("label.repeated", "label")]


def test_a_bare_class_is_no_list_of_classes() -> None:
    record, issues = check("can", MultilabelRecord)
    assert record is None
    assert codes(issues) == [("label.type", "label")]
    assert "--task" in issues[0].hint


@pytest.mark.parametrize("value", [1, "1", "true", "True", True, 1.0])
def test_crowd_is_true_for_the_published_spellings(value: Any) -> None:
    record, issues = check([box(isCrowd=value)], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    assert record.label[0].is_crowd is True
    assert not issues


@pytest.mark.parametrize("value", [0, "0", "false", "False", False, None])
def test_crowd_is_false_for_the_published_spellings(value: Any) -> None:
    record, issues = check([box(isCrowd=value)], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    assert record.label[0].is_crowd is False
    assert not issues


@pytest.mark.parametrize("value", [2, "yes", [], math.nan])
def test_another_crowd_is_false_with_a_warning(value: Any) -> None:
    record, issues = check([box(isCrowd=value)], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    assert record.label[0].is_crowd is False
    assert [issue.severity for issue in issues] == ["warning"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"topX": 412}, [("coordinate.out_of_range", "label[0].topX")]),
        ({"topX": -0.006}, [("coordinate.out_of_range", "label[0].topX")]),
        ({"topX": math.nan}, [("coordinate.not_finite", "label[0].topX")]),
        ({"topX": "NaN"}, [("coordinate.not_finite", "label[0].topX")]),
        ({"bottomY": math.inf}, [("coordinate.not_finite", "label[0].bottomY")]),
        ({"bottomY": 10**400}, [("coordinate.not_finite", "label[0].bottomY")]),
        ({"topX": "left"}, [("coordinate.type", "label[0].topX")]),
        ({"topX": [0.1]}, [("coordinate.type", "label[0].topX")]),
        ({"topX": True}, [("coordinate.type", "label[0].topX")]),
        ({"topX": "absent"}, [("coordinate.missing", "label[0].topX")]),
        ({"topX": None}, [("coordinate.missing", "label[0].topX")]),
        ({"topX": 0.5}, [("box.empty", "label[0]")]),
        ({"topX": 0.6}, [("box.inverted", "label[0]")]),
        ({"label": "absent"}, [("label.missing", "label[0].label")]),
        ({"label": 1.5}, [("label.type", "label[0].label")]),
        (
            {"label": "", "topX": 412, "topY": 0.9, "bottomX": "absent"},
            [
                ("label.empty", "label[0].label"),
                ("coordinate.missing", "label[0].bottomX"),
                ("coordinate.out_of_range", "label[0].topX"),
                ("box.inverted", "label[0]"),
            ],
        ),
    ],
)
def test_all_that_is_wrong_with_a_box_is_named_and_costs_it(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    record, issues = check([box(**changes)], DetectionRecord)
    assert record is None
    assert codes(issues) == [*expected, ("row.nothing_valid", "label")]
    assert {issue.severity for issue in issues} == {"error"}
    # The same object beside a good one costs itself only, at its own index.
    record, issues = check([box(), box(**changes)], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    assert len(record.label) == 1
    moved = [(code, path.replace("[0]", "[1]")) for code, path in expected]
    assert codes(issues) == moved


def test_the_message_names_place_rule_value_and_next_step() -> None:
    _, issues = check([box(), box(), box(topX=412)], DetectionRecord)
    assert issues[0].text() == (
        "rows.jsonl:17: label[2].topX must be in [0, 1], got 412. Coordinates are fractions of "
        "the image width; 'autofocus data convert --absolute' rewrites pixels."
    )


def test_text_that_is_a_number_is_read_with_a_warning() -> None:
    record, issues = check([box(topX="0.1", bottomX=" 0.5 ")], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    assert record.label == [BoxLabel(label="can", top_x=0.1, top_y=0.2, bottom_x=0.5, bottom_y=0.6)]
    assert codes(issues) == [
        ("coordinate.text", "label[0].topX"),
        ("coordinate.text", "label[0].bottomX"),
    ]
    assert {issue.severity for issue in issues} == {"warning"}


def test_edges_just_outside_are_clipped_with_a_warning() -> None:
    record, issues = check([box(topX=-0.005, bottomY=1.005)], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    assert (record.label[0].top_x, record.label[0].bottom_y) == (0.0, 1.0)
    assert [issue.code for issue in issues] == ["coordinate.clipped", "coordinate.clipped"]
    assert {issue.severity for issue in issues} == {"warning"}


def test_a_detection_object_with_only_a_polygon_gets_the_box_around_it() -> None:
    record, issues = check([polygon(SQUARE, [0.6, 0.2, 0.9, 0.2, 0.9, 0.3])], DetectionRecord)
    assert isinstance(record, DetectionRecord)
    found = record.label[0]
    assert (found.top_x, found.top_y, found.bottom_x, found.bottom_y) == (0.1, 0.1, 0.9, 0.5)
    assert [(issue.code, issue.severity) for issue in issues] == [("box.from_polygon", "info")]


@pytest.mark.parametrize(
    ("rings", "code", "path"),
    [
        ([SQUARE[:-1]], "polygon.odd", "label[0].polygon[0]"),
        ([[0.1, 0.1, 0.5, 0.5]], "polygon.few_points", "label[0].polygon"),
        ([], "polygon.few_points", "label[0].polygon"),
        ([SQUARE, [0.1, 9.0, 0.2, 0.3, 0.4, 8]], "polygon.out_of_range", "label[0].polygon[1][1]"),
        ([[0.1, "x", 0.2, 0.3, 0.4, 0.5]], "coordinate.type", "label[0].polygon[0][1]"),
        ([[0.1, math.nan, 0.2, 0.3, 0.4, 0.5]], "coordinate.not_finite", "label[0].polygon[0][1]"),
        (SQUARE, "polygon.type", "label[0].polygon[0]"),
    ],
)
def test_a_polygon_that_is_wrong_costs_its_object(rings: list[Any], code: str, path: str) -> None:
    record, issues = check([polygon(*rings)], InstanceSegmentationRecord)
    assert record is None
    assert (code, path) in codes(issues)
    assert issues[-1].code == "row.nothing_valid"


def test_polygons_of_other_kinds_are_explained() -> None:
    _, issues = check([{"label": "can", "polygon": {"counts": "x"}}], InstanceSegmentationRecord)
    assert "RLE" in issues[0].hint
    _, issues = check([box()], InstanceSegmentationRecord)
    assert issues[0].code == "polygon.missing"
    assert "detection" in issues[0].hint


def test_a_ring_without_area_is_left_out_beside_a_good_one() -> None:
    record, issues = check([polygon(SQUARE, [0.1, 0.1])], InstanceSegmentationRecord)
    assert isinstance(record, InstanceSegmentationRecord)
    assert record.label[0].polygon == [SQUARE]
    assert [(issue.code, issue.severity) for issue in issues] == [("polygon.short_ring", "warning")]


def test_repairs_of_a_polygon_are_reported_once_a_ring() -> None:
    ring = ["0.1", "0.1", 1.004, -0.001, 0.5, 0.5]
    record, issues = check([polygon(ring)], InstanceSegmentationRecord)
    assert isinstance(record, InstanceSegmentationRecord)
    assert record.label[0].polygon == [[0.1, 0.1, 1.0, 0.0, 0.5, 0.5]]
    assert codes(issues) == [
        ("coordinate.text", "label[0].polygon[0][0]"),
        ("coordinate.clipped", "label[0].polygon[0][2]"),
    ]


@pytest.mark.parametrize("row", [[1], "text", 3, None, True])
def test_a_line_that_is_no_object_is_an_issue(row: Any) -> None:
    record, issues = check_row(row, MulticlassRecord, "image_url", "label", "rows.jsonl", 1)
    assert record is None
    assert [issue.code for issue in issues] == ["row.type"]


def test_missing_columns_list_the_keys_that_are_there() -> None:
    row = {"path": "a.jpg", "class": "can"}
    record, issues = check_row(row, MulticlassRecord, "image_url", "label", "rows.jsonl", 1)
    assert record is None
    assert [issue.code for issue in issues] == ["image_url.missing", "label.missing"]
    assert "path, class" in issues[1].text()
    assert "--target-column" in issues[1].text()
    record, issues = check_row(row, MulticlassRecord, "path", "class", "rows.jsonl", 1)
    assert record == MulticlassRecord(image_url="a.jpg", label="can")
    assert not issues


@pytest.mark.parametrize(
    ("url", "code"), [(3, "image_url.type"), ("", "image_url.empty"), ("\udc00", "text.invalid")]
)
def test_an_image_url_must_be_text(url: Any, code: str) -> None:
    record, issues = check("can", MulticlassRecord, image_url=url)
    assert record is None
    assert [issue.code for issue in issues] == [code]


@pytest.mark.parametrize(
    ("details", "expected", "expected_codes"),
    [
        ({"format": "jpg", "width": "400px", "height": 258}, ("jpg", 400, 258), []),
        ({"format": "PNG", "width": "400", "height": None}, ("PNG", 400, None), []),
        ({"width": "wide", "height": -1}, (None, None, None), ["details.size", "details.size"]),
        ({"format": "gif", "width": True}, (None, None, None), ["details.format", "details.size"]),
    ],
)
def test_image_details_cost_nothing_but_a_warning(
    details: Any, expected: tuple[Any, ...], expected_codes: list[str]
) -> None:
    record, issues = check("can", MulticlassRecord, image_details=details)
    assert record is not None
    assert record.image_details == ImageDetails(*expected)
    assert [issue.code for issue in issues] == expected_codes
    assert all(issue.severity == "warning" for issue in issues)


def test_image_details_of_another_type_are_ignored_with_a_warning() -> None:
    record, issues = check("can", MulticlassRecord, image_details="400x300")
    assert record is not None
    assert record.image_details is None
    assert [issue.code for issue in issues] == ["details.type"]


ROWS: list[tuple[type[ImageRecord], Any]] = [
    (MulticlassRecord, "can"),
    (MulticlassRecord, 7),
    (MultilabelRecord, []),
    (MultilabelRecord, ["can", 3]),
    (DetectionRecord, []),
    (DetectionRecord, [box(), box(isCrowd=1), box(topX=0, bottomX=1, isCrowd=False)]),
    (InstanceSegmentationRecord, [polygon(SQUARE, SQUARE[:6]), polygon(SQUARE, isCrowd=True)]),
]


@pytest.mark.parametrize(("record_type", "label"), ROWS)
@pytest.mark.parametrize(
    "details", [None, {}, {"format": "JPG", "width": "400px", "height": 258}, {"extra": 1}]
)
def test_both_paths_give_the_same_record(
    record_type: type[ImageRecord], label: Any, details: Any
) -> None:
    row = {"image_url": "a.jpg", "label": label, "image_details": details, "more": [{}]}
    schema = Schema(record_type)
    fast = schema.decode_line(json.dumps(row).encode())
    assert fast is not None, "sound rows must take the fast path"
    slow, issues = schema.check(row, "rows.jsonl", 1)
    assert schema.record(fast) == slow
    assert not issues
    # What we write, we read: canonical rows are sound rows.
    again = schema.decode_line(msgspec.json.encode(slow))
    assert schema.record(again) == slow
