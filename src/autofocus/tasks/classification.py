"""Base of the two classification tasks: one score a class, and its wire format."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from autofocus.settings.fields import Reader
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.base import RecordT
from autofocus.tasks.explaining import Activation
from autofocus.tasks.whole_image import WholeImageTask

# Added to a probability before its logarithm: float32 tells smaller ones from nothing.
TINY = 1e-7


class ClassificationTask(WholeImageTask[RecordT, ClassScores]):
    """A task whose network emits one logit a class.

    Attributes:
        activation: Function from logits to probabilities.
    """

    reads: ClassVar[frozenset[Reader]] = frozenset({"classes", "crops"})
    response_columns: ClassVar[dict[str, bool]] = {
        "probs": True,
        "labels": True,
        "visualizations": False,
        "attributions": False,
    }
    wire_tolerance = 1e-4
    activation: ClassVar[Activation]

    @abstractmethod
    def explained_classes(self, prediction: ClassScores, threshold: float) -> list[int]:
        """See `ExplainsClasses.explained_classes`."""

    @abstractmethod
    def explanation_column(self, values: Sequence[Any]) -> Any:
        """See `ExplainsClasses.explanation_column`."""

    def check_prediction(self, prediction: ClassScores, labels: Sequence[str]) -> None:
        """Raise ValueError unless there is one probability a label."""
        prediction.check_num_classes(len(labels))

    def wire_difference(self, left: dict[str, Any], right: dict[str, Any]) -> float:
        """Return the largest difference of a probability."""
        return float(np.abs(np.asarray(left["probs"]) - np.asarray(right["probs"])).max())

    def encode(self, prediction: ClassScores, labels: Sequence[str]) -> dict[str, Any]:
        """Return `{"probs": […], "labels": […]}`, every class in the labels' order."""
        return {"probs": prediction.probs, "labels": list(labels)}

    def summarize(self, response: Mapping[str, Any]) -> str:
        """Return the three likeliest classes."""
        ranked = sorted(zip(response["probs"], response["labels"], strict=True), reverse=True)
        return "  ".join(f"{label} {prob:.3f}" for prob, label in ranked[:3])
