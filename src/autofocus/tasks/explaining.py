"""The capability of tasks whose predictions can be explained class by class.

A task without it answers requests for explanations with scores alone, as published for boxes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from autofocus.structures.predictions import ClassScores

Activation = Literal["softmax", "sigmoid"]


@runtime_checkable
class ExplainsClasses(Protocol):
    """A task whose predictions can be explained class by class.

    Attributes:
        activation: Function from logits to probabilities.
    """

    activation: ClassVar[Activation]

    def explained_classes(self, prediction: ClassScores, threshold: float) -> list[int]:
        """Return the indices of the classes to explain when the request names none.

        Args:
            prediction: Prediction of one image.
            threshold: The request's `confidence_score_threshold_multilabel`.
        """
        ...

    def explanation_column(self, values: Sequence[Any]) -> Any:
        """Return the response's form of one value an explained class, in their order."""
        ...
