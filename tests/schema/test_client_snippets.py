"""Both client programs of the published page, run as they stand against a real server.

Changed is only what reaches the cloud: `ml_client` here posts the request file to the server's
URL, as the SDK does, and returns the text of the reply.
"""

import base64
import json
import os
import types
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCORING_SNIPPET = """
# Create request json
import base64

sample_image = os.path.join(dataset_dir, "images", "1.jpg")


def read_image(image_path):
    with open(image_path, "rb") as f:
        return f.read()


request_json = {
    "input_data": {
        "columns": ["image"],
        "data": [base64.encodebytes(read_image(sample_image)).decode("utf-8")],
    }
}
import json

request_file_name = "sample_request_data.json"

with open(request_file_name, "w") as request_file:
    json.dump(request_json, request_file)
resp = ml_client.online_endpoints.invoke(
    endpoint_name=online_endpoint_name,
    deployment_name=deployment.name,
    request_file=request_file_name,
)
"""

XAI_SNIPPET = """
import base64
import json
# Get the details for online endpoint
endpoint = ml_client.online_endpoints.get(name=online_endpoint_name)

sample_image = "./test_image.jpg"

# Define explainability (XAI) parameters
model_explainability = True
xai_parameters = {"xai_algorithm": "xrai",
                  "visualizations": True,
                  "attributions": False}

def read_image(image_path):
    with open(image_path, "rb") as f:
        return f.read()

# Create request json
request_json = {

    "input_data": {
        "columns": ["image"],
        "data": [json.dumps({"image_base64": base64.encodebytes(read_image(sample_image)).decode("utf-8"),
                             "model_explainability": model_explainability,
                             "xai_parameters": xai_parameters})],
    }
}

request_file_name = "sample_request_data.json"

with open(request_file_name, "w") as request_file:
    json.dump(request_json, request_file)

resp = ml_client.online_endpoints.invoke(
    endpoint_name=online_endpoint_name,
    deployment_name=deployment.name,
    request_file=request_file_name,
)
predictions = json.loads(resp)
"""  # noqa: E501  (as published)


class OnlineEndpoints:
    """What the snippets call, over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: dict[str, str] = {}

    def get(self, name: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(name=name, scoring_uri=f"{self.url}/score")

    def invoke(self, endpoint_name: str, deployment_name: str, request_file: str) -> str:
        headers = {
            "Content-Type": "application/json",
            "azureml-model-deployment": deployment_name,
        }
        request = urllib.request.Request(
            f"{self.url}/score", Path(request_file).read_bytes(), headers
        )
        with urllib.request.urlopen(request, timeout=180) as response:
            self.headers = dict(response.headers)
            text: str = response.read().decode("utf-8")
            return text


def run_published(
    snippet: str, url: str, photo: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the parsed reply and its headers."""
    monkeypatch.chdir(folder)
    (folder / "images").mkdir()
    (folder / "images" / "1.jpg").write_bytes(photo)
    (folder / "test_image.jpg").write_bytes(photo)
    endpoints = OnlineEndpoints(url)
    names: dict[str, Any] = {
        "os": os,
        "ml_client": types.SimpleNamespace(online_endpoints=endpoints),
        "online_endpoint_name": "endpoint",
        "deployment": types.SimpleNamespace(name="blue"),
        "dataset_dir": str(folder),
    }
    exec(compile(snippet, "<published page>", "exec"), names)
    return names["json"].loads(names["resp"]), endpoints.headers


def test_published_scoring_client_runs_with_only_the_url_changed(
    server: Any, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reply,), _ = run_published(SCORING_SNIPPET, server.url, photo, tmp_path, monkeypatch)
    assert list(reply) == ["probs", "labels"]
    assert reply["labels"] == ["can", "carton", "milk_bottle", "water_bottle"]
    assert sum(reply["probs"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_published_explaining_client_runs_with_only_the_url_changed(
    is_multilabel: bool,
    start_server: Any,
    model_folder: Path,
    multilabel_folder: Path,
    photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = multilabel_folder if is_multilabel else model_folder
    server = start_server(folder, "--port", "0", "--workers", "1")
    (reply,), headers = run_published(XAI_SNIPPET, server.url, photo, tmp_path, monkeypatch)
    assert list(reply) == ["probs", "labels", "visualizations"]
    assert reply["labels"] == ["blue", "green", "red"]
    if is_multilabel:
        # The network is random: at 0.5 each class is as likely in as out.
        assert len(reply["visualizations"]) == sum(prob >= 0.5 for prob in reply["probs"])
        pictures = reply["visualizations"]
    else:
        pictures = [reply["visualizations"]]
    for picture in pictures:
        assert base64.b64decode(picture, validate=True).startswith(b"\x89PNG")
    assert "x-autofocus-explanations" not in headers

    # Beside the page: both kinds of numbers, a threshold that takes every class and one that
    # takes none, in one request.
    image = base64.encodebytes(photo).decode()
    rows: list[str] = [image]
    for threshold in (0.0, 1.0):
        parameters = {
            "xai_algorithm": "guided_backprop",
            "attributions": True,
            "confidence_score_threshold_multilabel": threshold,
        }
        asked = {
            "image_base64": image,
            "model_explainability": True,
            "xai_parameters": parameters,
        }
        rows.append(json.dumps(asked))
    plain, every, none = server.score({"input_data": {"columns": ["image"], "data": rows}}).json
    assert list(plain) == ["probs", "labels"]
    assert plain["probs"] == every["probs"] == none["probs"] == reply["probs"]
    shape = np.array(every["attributions"]).shape
    if is_multilabel:
        assert len(every["visualizations"]) == 3
        assert shape == (3, 3, 64, 64)
        assert none["visualizations"] == none["attributions"] == []
    else:
        assert shape == (3, 64, 64)
        assert none == every
