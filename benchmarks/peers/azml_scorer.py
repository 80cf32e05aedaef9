"""Entry script of azureml-inference-server-http that answers with autofocus's scorer."""

import os
from pathlib import Path
from typing import Any

import orjson
from azureml_inference_server_http.api.aml_request import rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

from autofocus.scoring.request import parse_request, score_rows
from autofocus.scoring.scorer import Scorer

loaded: dict[str, Scorer] = {}


def init() -> None:
    loaded["scorer"] = Scorer.load(Path(os.environ["AZUREML_MODEL_DIR"]), num_threads=1)


@rawhttp
def run(request: Any) -> AMLResponse:
    results = score_rows(loaded["scorer"], parse_request(request.get_data()))
    content = orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)
    return AMLResponse(content, 200, {"Content-Type": "application/json"})
