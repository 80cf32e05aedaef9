"""The published replies with boxes and polygons, against what our tasks write."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofocus.structures.polygons import from_wire
from autofocus.structures.predictions import Detections, Instances
from autofocus.tasks import TASKS

SAMPLES = Path(__file__).parent / "samples"
PAGE = Path(__file__).parents[2] / "../shared/reference/data-schema.ko.txt"
LABELS = ["can", "milk_bottle", "water_bottle"]
SIZE = (666, 499)
CORNERS = ("topX", "topY", "bottomX", "bottomY")
DETECTION, SEGMENTATION = "image_object_detection", "image_instance_segmentation"


def sample(task: str) -> list[dict[str, Any]]:
    return json.loads((SAMPLES / f"{task}.reply.json").read_text(encoding="utf-8"))


def prediction(reply: dict[str, Any]) -> Detections:
    """Return the values that a published reply states."""
    objects = reply["boxes"]
    boxes = [[item["box"][corner] for corner in CORNERS] for item in objects]
    values = (
        np.array(boxes, np.float32),
        np.array([item["score"] for item in objects], np.float32),
        np.array([LABELS.index(item["label"]) for item in objects]),
        SIZE,
    )
    if "polygon" not in objects[0]:
        return Detections(*values)
    return Instances(*values, tuple(from_wire(item["polygon"]) for item in objects))


@pytest.mark.parametrize("task", [DETECTION, SEGMENTATION])
def test_we_write_exactly_the_published_reply(task: str) -> None:
    published = sample(task)
    ours = [TASKS[task].encode(prediction(reply), LABELS) for reply in published]
    assert json.dumps(ours) == json.dumps(published)


@pytest.mark.parametrize("task", [DETECTION, SEGMENTATION])
def test_published_replies_can_be_compared_and_summarized(task: str) -> None:
    (reply,) = sample(task)
    assert TASKS[task].wire_difference(reply, reply) == 0
    first = reply["boxes"][0]
    expected = f"3 objects: {first['label']} {first['score']:.2f} · "
    assert TASKS[task].summarize(reply).startswith(expected)


@pytest.mark.skipif(not PAGE.exists(), reason="the published page is not beside the project")
def test_the_samples_are_those_of_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    replies = [
        json.loads(block)
        for block in re.findall(r"^\[\n.*?^\]", text, re.DOTALL | re.MULTILINE)
        if '"boxes"' in block
    ]
    assert replies == [sample(DETECTION), sample(SEGMENTATION)]
