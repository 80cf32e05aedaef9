"""Both client programs of the published page, run as they stand against a real server.

Changed is only what reaches the cloud: `ml_client` here posts the request file to the server's
URL, as the SDK does, and returns the text of the reply.
"""

import os
import types
import urllib.request
from pathlib import Path
from typing import Any

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
        with urllib.request.urlopen(request, timeout=30) as response:
            self.headers = dict(response.headers)
            text: str = response.read().decode("utf-8")
            return text


@pytest.mark.parametrize(("snippet", "explains"), [(SCORING_SNIPPET, False), (XAI_SNIPPET, True)])
def test_published_client_runs_with_only_the_url_changed(
    snippet: str,
    explains: bool,
    server: Any,
    photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(photo)
    (tmp_path / "test_image.jpg").write_bytes(photo)
    endpoints = OnlineEndpoints(server.url)
    names: dict[str, Any] = {
        "os": os,
        "ml_client": types.SimpleNamespace(online_endpoints=endpoints),
        "online_endpoint_name": "endpoint",
        "deployment": types.SimpleNamespace(name="blue"),
        "dataset_dir": str(tmp_path),
    }
    exec(compile(snippet, "<published page>", "exec"), names)

    predictions = names["json"].loads(names["resp"])
    assert len(predictions) == 1
    assert list(predictions[0]) == ["probs", "labels"]
    assert predictions[0]["labels"] == ["can", "carton", "milk_bottle", "water_bottle"]
    assert sum(predictions[0]["probs"]) == pytest.approx(1, abs=1e-5)
    assert ("x-autofocus-explanations" in endpoints.headers) is explains
