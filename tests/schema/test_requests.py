"""The published page's requests and replies (`reference/data-schema.ko.txt`), written anew.

Where the page shows Python (`json.dumps`, `True`) the value that it makes is used.
"""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from autofocus.data.rows.records import DetectionRecord, InstanceSegmentationRecord
from autofocus.scoring.request import parse_request
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification

LABELS = ["can", "carton", "milk_bottle", "water_bottle"]

SCORING_REQUEST = {"input_data": {"columns": ["image"], "data": ["image_in_base64_string_format"]}}
XAI_REQUEST = {
    "input_data": {
        "columns": ["image"],
        "data": [
            json.dumps(
                {
                    "image_base64": "image_in_base64_string_format",
                    "model_explainability": True,
                    "xai_parameters": {},
                }
            )
        ],
    }
}
XAI_PARAMETERS = {"xai_algorithm": "xrai", "visualizations": True, "attributions": False}

MULTICLASS_REPLY = [{"probs": [2.098e-06, 4.783e-08, 0.999, 8.637e-06], "labels": LABELS}]
MULTILABEL_REPLY = [{"probs": [0.997, 0.960, 0.982, 0.025], "labels": LABELS}]
DETECTION_REPLY = [
    {
        "boxes": [
            {
                "box": {"topX": 0.224, "topY": 0.285, "bottomX": 0.399, "bottomY": 0.620},
                "label": "milk_bottle",
                "score": 0.937,
            },
            {
                "box": {"topX": 0.664, "topY": 0.484, "bottomX": 0.959, "bottomY": 0.812},
                "label": "can",
                "score": 0.891,
            },
            {
                "box": {"topX": 0.423, "topY": 0.253, "bottomX": 0.632, "bottomY": 0.725},
                "label": "water_bottle",
                "score": 0.876,
            },
        ]
    }
]
# fmt: off
SEGMENTATION_REPLY = [
    {
        "boxes": [
            {
                "box": {"topX": 0.679, "topY": 0.491, "bottomX": 0.926, "bottomY": 0.810},
                "label": "can",
                "score": 0.992,
                "polygon": [[
                    0.82, 0.811, 0.771, 0.810, 0.758, 0.805, 0.741, 0.797, 0.735, 0.791, 0.718,
                    0.785, 0.715, 0.778, 0.706, 0.775, 0.696, 0.758, 0.695, 0.717, 0.698, 0.567,
                    0.705, 0.552, 0.706, 0.540, 0.725, 0.520, 0.735, 0.505, 0.745, 0.502, 0.755,
                    0.493,
                ]],
            },
            {
                "box": {"topX": 0.220, "topY": 0.298, "bottomX": 0.397, "bottomY": 0.601},
                "label": "milk_bottle",
                "score": 0.989,
                "polygon": [[
                    0.365, 0.602, 0.273, 0.602, 0.26, 0.595, 0.263, 0.588, 0.251, 0.546, 0.248,
                    0.501, 0.25, 0.485, 0.246, 0.478, 0.245, 0.463, 0.233, 0.442, 0.231, 0.43,
                    0.226, 0.423, 0.226, 0.408, 0.234, 0.385, 0.241, 0.371, 0.238, 0.345, 0.234,
                    0.335, 0.233, 0.325, 0.24, 0.305, 0.586, 0.38, 0.592, 0.375, 0.598, 0.365,
                ]],
            },
            {
                "box": {"topX": 0.433, "topY": 0.280, "bottomX": 0.621, "bottomY": 0.679},
                "label": "water_bottle",
                "score": 0.988,
                "polygon": [[
                    0.576, 0.680, 0.501, 0.680, 0.475, 0.675, 0.460, 0.625, 0.445, 0.630, 0.443,
                    0.572, 0.440, 0.560, 0.435, 0.515, 0.431, 0.501, 0.431, 0.433, 0.433, 0.426,
                    0.445, 0.417, 0.456, 0.407, 0.465, 0.381, 0.468, 0.327, 0.471, 0.318,
                ]],
            },
        ]
    }
]
# fmt: on


def with_image(request: dict[str, Any], image: bytes) -> dict[str, Any]:
    """Put real base64, broken into lines as the page does, where the page has words."""
    text = json.dumps(request)
    lines = json.dumps(json.dumps(base64.encodebytes(image).decode())[1:-1])[1:-1]
    if "image_base64" not in text:
        lines = json.dumps(base64.encodebytes(image).decode())[1:-1]
    filled: dict[str, Any] = json.loads(text.replace("image_in_base64_string_format", lines))
    return filled


def test_published_scoring_request_is_read(photo: bytes) -> None:
    (cell,) = parse_request(json.dumps(with_image(SCORING_REQUEST, photo)).encode())
    assert (cell.image, cell.explain, cell.xai_parameters) == (photo, False, None)


def test_published_explain_request_is_read(photo: bytes) -> None:
    (cell,) = parse_request(json.dumps(with_image(XAI_REQUEST, photo)).encode())
    assert (cell.image, cell.explain, cell.xai_parameters) == (photo, True, {})


def test_published_explain_parameters_reach_their_row(photo: bytes) -> None:
    request = with_image(XAI_REQUEST, photo)
    row = json.loads(request["input_data"]["data"][0])
    row["xai_parameters"] = XAI_PARAMETERS
    request["input_data"]["data"] = [json.dumps(row), base64.b64encode(photo).decode()]
    first, second = parse_request(json.dumps(request).encode())
    assert first.xai_parameters == XAI_PARAMETERS
    assert second.xai_parameters is None


@pytest.mark.parametrize(
    ("task", "published"),
    [
        (MulticlassClassification(), MULTICLASS_REPLY),
        (MultilabelClassification(), MULTILABEL_REPLY),
    ],
)
def test_published_classification_replies_are_produced_key_by_key(
    task: Any, published: list[dict[str, Any]]
) -> None:
    scores = ClassScores(np.array(published[0]["probs"], dtype=np.float32))
    reply = [task.encode(scores, LABELS)]
    produced = json.loads(orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY))
    assert produced == published
    # A request that only scores has neither `visualizations` nor `attributions`.
    assert list(produced[0]) == ["probs", "labels"]


@pytest.mark.parametrize(
    ("record_type", "reply", "shape"),
    [
        (DetectionRecord, DETECTION_REPLY, lambda item: item["box"]),
        (
            InstanceSegmentationRecord,
            SEGMENTATION_REPLY,
            lambda item: {"polygon": item["polygon"]},
        ),
    ],
)
def test_published_box_replies_are_rows_that_can_be_trained_on(
    record_type: type[Any], reply: list[dict[str, Any]], shape: Any
) -> None:
    items = reply[0]["boxes"]
    objects = [{"label": item["label"], **shape(item)} for item in items]
    record = msgspec.convert({"image_url": "1.jpg", "label": objects}, record_type)
    assert msgspec.to_builtins(record)["label"] == [{**o, "isCrowd": False} for o in objects]


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_served_replies_have_the_published_keys(
    photo: bytes, tiny_model: Path, tiny_multilabel_model: Path, is_multilabel: bool
) -> None:
    from autofocus.scoring.request import score_rows
    from autofocus.scoring.scorer import Scorer

    scorer = Scorer.load(tiny_multilabel_model if is_multilabel else tiny_model)
    cells = parse_request(json.dumps(with_image(SCORING_REQUEST, photo)).encode())
    reply = json.loads(orjson.dumps(score_rows(scorer, cells), option=orjson.OPT_SERIALIZE_NUMPY))
    assert list(reply[0]) == ["probs", "labels"]
    assert reply[0]["labels"] == LABELS
    assert all(isinstance(prob, float) and 0 <= prob <= 1 for prob in reply[0]["probs"])
    total = sum(reply[0]["probs"])
    assert (abs(total - 1) < 1e-5) is not is_multilabel
