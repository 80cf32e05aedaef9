"""MLflow entry point ("models from code"), copied into each package as `model.py`.

Runs with nothing but the package's own `code/` and requirements; autofocus need not be installed.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from autofocus.errors import RequestError
from autofocus.runtime import plain
from autofocus.scoring.explain.needs import NOT_PACKAGED
from autofocus.scoring.explain.request import explaining_selector
from autofocus.scoring.request import parse_row, score_rows
from autofocus.scoring.scorer import Scorer


class AutofocusModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """MLflow model for a column `image` of base64 text, image bytes, or explain-form JSON."""

    def load_context(self, context: Any) -> None:
        """Load the network that lies beside the manifest."""
        self._scorer = Scorer.load(Path(context.artifacts["manifest"]).parent)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return one published wire object a row, in order.

        Raises:
            RequestError: If a row is no image or asks for explanations.
        """
        rows = [parse_row(value) for value in model_input["image"]]
        if explaining_selector(self._scorer, rows):
            raise RequestError(NOT_PACKAGED)
        results: list[dict[str, Any]] = plain(score_rows(self._scorer, rows))
        return results


mlflow.models.set_model(AutofocusModel())
