"""Every row sample of the published schema page, and its templates, against our reader."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import IssueLog
from autofocus.data.rows.jsonl import JsonlFile, Schema, read_row_blocks
from autofocus.data.rows.records import RECORD_TYPES, ImageDetails
from autofocus.data.sources.find import find_source, infer_tasks

SAMPLES = Path(__file__).parent / "samples"
PAGE = Path(__file__).parents[2] / "../shared/reference/data-schema.ko.txt"
URL = (
    "azureml://subscriptions/my-subscription-id/resourcegroups/my-resource-group/workspaces/"
    "my-workspace/datastores/my-datastore/paths/image_data/Image_01.jpg"
)
# By published task, in the page's order.
CLASSES = {
    "image_classification": ["can", "milk_bottle", "water_bottle"],
    "image_classification_multilabel": [
        ["can"],
        ["can", "milk_bottle"],
        ["carton", "milk_bottle", "water_bottle"],
    ],
    "image_object_detection": [
        ["can"],
        ["carton", "milk_bottle"],
        ["carton", "milk_bottle", "water_bottle"],
    ],
    "image_instance_segmentation": [
        ["can"],
        ["carton", "milk_bottle"],
        ["water_bottle", "milk_bottle"],
    ],
}


def read(path: Path, task: str) -> tuple[list[Any], IssueLog]:
    schema, log = Schema(RECORD_TYPES[task]), IssueLog()
    batches = list(read_row_blocks(JsonlFile(str(path)), schema, log))
    return [schema.record(row) for batch in batches for row in batch.rows], log


def class_names(label: Any) -> Any:
    if isinstance(label, str):
        return label
    return [item if isinstance(item, str) else item.label for item in label]


@pytest.mark.parametrize("task", CLASSES)
def test_published_rows_parse_without_an_issue(task: str) -> None:
    records, log = read(SAMPLES / f"{task}.jsonl", task)
    assert log.examples() == []
    assert all(isinstance(record, RECORD_TYPES[task]) for record in records)
    assert [class_names(record.label) for record in records] == CLASSES[task]
    assert records[0].image_url == URL


@pytest.mark.parametrize("task", CLASSES)
def test_the_task_of_published_rows_is_inferred(task: str) -> None:
    options = ReadOptions()
    source = find_source(SAMPLES / f"{task}.jsonl", options)
    assert infer_tasks(source, options) == [task]


def test_published_values_arrive_in_the_records() -> None:
    records, _ = read(SAMPLES / "image_object_detection.jsonl", "image_object_detection")
    box = records[0].label[0]
    assert (box.top_x, box.top_y, box.bottom_x, box.bottom_y) == (0.260, 0.406, 0.735, 0.701)
    assert box.is_crowd is False
    assert records[0].image_details == ImageDetails(format="jpg", width=499, height=666)
    records, _ = read(SAMPLES / "image_instance_segmentation.jsonl", "image_instance_segmentation")
    assert records[0].label[0].polygon[0][:6] == [0.577, 0.689, 0.567, 0.689, 0.559, 0.686]


@pytest.mark.skipif(not PAGE.exists(), reason="the published page is not beside the project")
def test_the_samples_are_all_rows_of_the_page() -> None:
    rows = [
        json.loads(line)
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith('{"image_url"')
    ]
    ours = [
        json.loads(line)
        for task in CLASSES
        for line in (SAMPLES / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert ours == rows


# The page's templates show the shape with placeholders; they are not rows.
TEMPLATE_DETAILS = {"format": "image_format", "width": "image_width", "height": "image_height"}
TEMPLATES: dict[str, Any] = {
    "image_classification": "class_name",
    "image_classification_multilabel": ["class_name_1", "class_name_2", "...", "class_name_n"],
    "image_object_detection": [
        {
            "label": "class_name_1",
            "topX": "xmin/width",
            "topY": "ymin/height",
            "bottomX": "xmax/width",
            "bottomY": "ymax/height",
            "isCrowd": "isCrowd",
        },
        "...",
    ],
    "image_instance_segmentation": [
        {
            "label": "class_name",
            "isCrowd": "isCrowd",
            "polygon": [["x1", "y1", "x2", "y2", "x3", "y3", "...", "xn", "yn"]],
        }
    ],
}
TEMPLATE_CODES = {
    "image_classification": set(),
    "image_classification_multilabel": set(),
    "image_object_detection": {
        "coordinate.type",
        "crowd.value",
        "object.type",
        "row.nothing_valid",
    },
    "image_instance_segmentation": {"polygon.odd", "crowd.value", "row.nothing_valid"},
}


@pytest.mark.parametrize("task", TEMPLATES)
def test_a_template_on_one_line_is_answered_by_naming_its_placeholders(
    tmp_path: Path, task: str
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"image_url": URL, "image_details": TEMPLATE_DETAILS, "label": TEMPLATES[task]}
    path.write_text(json.dumps(row) + "\n")
    records, log = read(path, task)
    # Placeholders are class names like any other, but no sizes, formats or coordinates.
    assert set(log.counts) == {"details.format", "details.size"} | TEMPLATE_CODES[task]
    assert len(records) == (0 if TEMPLATE_CODES[task] else 1)
    coordinates = [issue for issue in log.examples() if issue.code == "coordinate.type"]
    assert all("placeholder" in issue.hint for issue in coordinates)


@pytest.mark.skipif(not PAGE.exists(), reason="the published page is not beside the project")
def test_a_template_as_printed_is_refused_as_spread_over_lines(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    templates = re.findall(r'^\{\n   "image_url".*?^\}', text, re.DOTALL | re.MULTILINE)
    assert len(templates) == 4
    for template, task in zip(templates, CLASSES, strict=True):
        path = tmp_path / f"{task}.jsonl"
        path.write_text(template)
        records, log = read(path, task)
        assert records == []
        assert "one line of its own" in log.examples()[0].hint
