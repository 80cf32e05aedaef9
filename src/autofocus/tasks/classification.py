"""What the two classification tasks share: one score a class, and its wire format."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from autofocus.structures.predictions import ClassScores
from autofocus.tasks.base import RecordT, Task


class ClassificationTask(Task[RecordT, ClassScores]):
    """A task whose network emits one logit a class.

    Attributes:
        activation: How logits become probabilities; losses and heads are chosen by it.
    """

    model_kind = "classifier"
    response_columns: ClassVar[dict[str, bool]] = {
        "probs": True,
        "labels": True,
        "visualizations": False,
        "attributions": False,
    }
    activation: ClassVar[Literal["softmax", "sigmoid"]]

    def check_prediction(self, prediction: ClassScores, labels: Sequence[str]) -> None:
        """Raise ValueError unless there is one probability a label."""
        prediction.check_num_classes(len(labels))

    def wire_difference(self, left: dict[str, Any], right: dict[str, Any]) -> float:
        """Return the largest difference of a probability."""
        return float(np.abs(np.asarray(left["probs"]) - np.asarray(right["probs"])).max())

    def encode(self, prediction: ClassScores, labels: Sequence[str]) -> dict[str, Any]:
        """Return `{"probs": […], "labels": […]}`, every class in the labels' order."""
        return {"probs": prediction.probs, "labels": list(labels)}
