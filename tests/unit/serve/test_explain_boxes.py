"""Boxes at the endpoint of a server without torch: scores alone unless `d_rise` is named."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autofocus.tasks.detection import ObjectDetection
from support.serving import request_for
from support.tiny_detector import CANVAS, bright_photo, write_tiny_detector

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

PLAIN = base64.b64encode(bright_photo()).decode()


@pytest.fixture(scope="module")
def served(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("boxes")
    folder: Path = write_tiny_detector(root / "model", ObjectDetection.name)
    (root / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    env = {"PYTHONPATH": str(root)}
    return start_server(folder, "--port", "0", "--workers", "1", env=env)


def row(**parameters: Any) -> str:
    document = {"image_base64": PLAIN, "model_explainability": True, "xai_parameters": parameters}
    return json.dumps(document)


def test_rows_that_name_no_or_another_algorithm_get_scores_alone_as_published(served: Any) -> None:
    (plain,) = served.score(request_for(PLAIN)).json
    reply = served.score(request_for(row(), row(xai_algorithm="xrai", n_steps=1)))
    assert reply.status == 200
    assert reply.json == [plain, plain]
    assert reply.headers["x-autofocus-explanations"] == "unavailable"


def test_d_rise_gives_a_map_and_a_picture_a_box_in_their_order(served: Any) -> None:
    asked = {"xai_algorithm": "d_rise", "num_masks": 60, "grid": 6, "attributions": True}
    first, second, third = served.score(
        request_for(PLAIN, row(**asked), row(**asked, target="star", visualizations=False))
    ).json
    assert list(first) == ["boxes"]
    assert second["boxes"] == third["boxes"] == first["boxes"]
    labels = [box["label"] for box in first["boxes"]]
    assert sorted(labels) == ["lamp", "star"]
    for i, label in enumerate(labels):
        png = base64.b64decode(second["visualizations"][i])
        assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) is not None
        saliency = np.array(second["attributions"][i])
        assert saliency.shape == (1, *CANVAS)
        _, y, x = np.unravel_index(saliency.argmax(), saliency.shape)
        box = first["boxes"][i]["box"]
        assert box["topX"] <= x / CANVAS[1] <= box["bottomX"]
        assert box["topY"] <= y / CANVAS[0] <= box["bottomY"]
        assert (third["attributions"][i] is None) == (label != "star")
    assert "visualizations" not in third


def test_headers_say_when_some_rows_of_a_request_are_left_out(served: Any) -> None:
    asked = row(xai_algorithm="d_rise", num_masks=4)
    assert "x-autofocus-explanations" not in served.score(request_for(PLAIN, asked)).headers
    mixed = served.score(request_for(asked, row()))
    assert [list(item) for item in mixed.json] == [["boxes", "visualizations"], ["boxes"]]
    assert mixed.headers["x-autofocus-explanations"] == "unavailable"


def test_bad_parameters_are_400_with_key_rule_and_row(served: Any) -> None:
    reply = served.score(request_for(PLAIN, row(xai_algorithm="d_rise", num_masks=1, grid="fine")))
    assert reply.status == 400
    assert reply.json["message"] == (
        "input_data.data[1]: xai_parameters.num_masks must be a whole number from 2 to 20000,"
        " got 1. input_data.data[1]: xai_parameters.grid must be a whole number from 1 to 64,"
        " got a text of 4 characters."
    )
