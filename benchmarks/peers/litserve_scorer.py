"""LitServe with autofocus's scorer: litserve_scorer.py MODEL_FOLDER PORT WORKERS."""

import sys
from pathlib import Path
from typing import Any

import litserve
import orjson
from starlette.responses import Response

from autofocus.scoring.request import parse_row, score_rows
from autofocus.scoring.scorer import Scorer


class ScorerAPI(litserve.LitAPI):
    """Rows in, wire objects out; encoded here, for its own encoder takes several times as long."""

    def setup(self, device: str) -> None:
        self._scorer = Scorer.load(Path(sys.argv[1]), num_threads=1)

    def decode_request(self, request: dict[str, Any]) -> list[Any]:
        return [parse_row(value) for value in request["input_data"]["data"]]

    def predict(self, rows: list[Any]) -> list[dict[str, Any]]:
        return score_rows(self._scorer, rows)

    def encode_response(self, results: list[dict[str, Any]]) -> Response:
        content = orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")


if __name__ == "__main__":
    server = litserve.LitServer(
        ScorerAPI(api_path="/score"),
        accelerator="cpu",
        workers_per_device=int(sys.argv[3]),
        fast_queue=True,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
