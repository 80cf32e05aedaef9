"""What of a prediction a row may have explained: classes of the image, or boxes. Imports no torch.

`autofocus.explain` is not imported: the code that a package carries has no explanations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Detections
from autofocus.tasks.base import Task
from autofocus.tasks.explaining import ExplainsClasses
from autofocus.tasks.objects import ObjectsTask

if TYPE_CHECKING:
    from autofocus.explain.parameters import Kind, Parameters

# What must be named for boxes to be explained: the published reply has scores alone.
_BOX_ALGORITHM: Final = "d_rise"


@dataclass(frozen=True, slots=True)
class Explained:
    """One class of one image, or one box.

    Attributes:
        index: Of the class.
        label: The class.
        probability: Of the class, or the box's score.
        place: Of the box in the reply's `boxes`.
        xyxy_frac: The box, in fractions of the image; None for the whole image.
    """

    index: int
    label: str
    probability: float
    place: int = 0
    xyxy_frac: tuple[float, float, float, float] | None = None


class ExplainedTargets(Protocol):
    """Which parts of predictions are explained, and how a reply holds that."""

    @property
    def kind(self) -> "Kind":
        """What parameters are checked for."""

    def takes(self, raw: Mapping[str, Any] | None) -> bool:
        """Return whether a row of these `xai_parameters` gets more than scores."""

    def choose(
        self, labels: Sequence[str], prediction: Any, parameters: "Parameters"
    ) -> tuple[Explained, ...]:
        """Return what is explained of one image, in the reply's order."""

    def num_places(self, prediction: Any) -> int:
        """Return the length of a reply's list; a choice without lists does not use it."""

    def column(self, values: Sequence[Any], explained: Sequence[Explained], num_places: int) -> Any:
        """Return what stands in the reply for one value an explained part."""


@dataclass(frozen=True)
class ClassChoice:
    """Classes of images, as published.

    Attributes:
        task: Says which, when a request names none.
    """

    task: ExplainsClasses

    @property
    def kind(self) -> "Kind":
        """See `ExplainedTargets.kind`."""
        return self.task.activation

    def takes(self, raw: Mapping[str, Any] | None) -> bool:
        """Return True: every such row is explained."""
        return True

    def choose(
        self, labels: Sequence[str], prediction: Any, parameters: "Parameters"
    ) -> tuple[Explained, ...]:
        """Return the named target, or the classes that the task takes of itself."""
        if parameters.target is not None:
            indices = [list(labels).index(parameters.target)]
        else:
            threshold = parameters.confidence_score_threshold_multilabel
            indices = self.task.explained_classes(prediction, threshold)
        return tuple(Explained(i, labels[i], float(prediction.probs[i])) for i in indices)

    def num_places(self, prediction: Any) -> int:
        """Return 0: the task knows its lists."""
        return 0

    def column(self, values: Sequence[Any], explained: Sequence[Explained], num_places: int) -> Any:
        """Return the task's column."""
        return self.task.explanation_column(values)


class BoxChoice:
    """Found boxes. Ours, not published: only rows that name `d_rise` are explained."""

    kind: "Kind" = "boxes"

    def takes(self, raw: Mapping[str, Any] | None) -> bool:
        """Return whether the row names `d_rise`."""
        return (raw or {}).get("xai_algorithm") == _BOX_ALGORITHM

    def choose(
        self, labels: Sequence[str], prediction: Detections, parameters: "Parameters"
    ) -> tuple[Explained, ...]:
        """Return the boxes with the highest scores, of the target alone when one is named."""
        wanted: NDArray[np.int64] = np.arange(len(prediction))
        if parameters.target is not None:
            wanted = np.flatnonzero(prediction.classes == list(labels).index(parameters.target))
        return tuple(_box(labels, prediction, int(i)) for i in wanted[: parameters.max_boxes])

    def num_places(self, prediction: Detections) -> int:
        """Return the number of boxes."""
        return len(prediction)

    def column(
        self, values: Sequence[Any], explained: Sequence[Explained], num_places: int
    ) -> list[Any]:
        """Return a list as long as `boxes`: None in the place of a box that is not explained."""
        places: list[Any] = [None] * num_places
        for part, value in zip(explained, values, strict=True):
            places[part.place] = value
        return places


def choice_of(task: Task[Any, Any]) -> ExplainedTargets | None:
    """Return what of a task's predictions can be explained; None where nothing can."""
    if isinstance(task, ExplainsClasses):
        return ClassChoice(task)
    return BoxChoice() if isinstance(task, ObjectsTask) else None


def _box(labels: Sequence[str], prediction: Detections, i: int) -> Explained:
    index = int(prediction.classes[i])
    left, top, right, bottom = prediction.xyxy_frac[i].tolist()
    score = float(prediction.scores[i])
    return Explained(index, labels[index], score, i, (left, top, right, bottom))
