"""Rows that ask for explanations: checked before anything runs, joined with their answers after.

Targets are classes of images, as published, or found boxes. Imports no torch, and nothing but names
from `autofocus.explain` before a row asks: the code that a package carries has no explanations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from autofocus.errors import ImageError, RequestError
from autofocus.explain.algorithms import Explains, names_of
from autofocus.scoring.request import (
    MAX_PROBLEMS,
    ImageScorer,
    RequestRow,
    each_checked,
    in_place,
    refuse_problems,
)
from autofocus.scoring.scorer import Scorer
from autofocus.structures.predictions import Detections
from autofocus.tasks.base import Task
from autofocus.tasks.explaining import ExplainsClasses

if TYPE_CHECKING:
    from autofocus.explain.parameters import Parameters

# Class names in an error.
_MAX_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class ExplanationTarget:
    """One class of one image, or one box.

    Attributes:
        class_index: Index of the class, or of the box's class.
        label: Class name.
        probability: Probability of the class, or score of the box.
        box_index: Index of the box in the reply's `boxes`.
        xyxy_frac: The box, in fractions of the image; None for a class of the whole.
    """

    class_index: int
    label: str
    probability: float
    box_index: int = 0
    xyxy_frac: tuple[float, float, float, float] | None = None


class TargetSelector(Protocol):
    """Selects the classes or boxes to explain, and arranges a reply's values for them."""

    @property
    def explains(self) -> Explains:
        """Kind of prediction, whose algorithms a request may name."""

    def accepts(self, raw: Mapping[str, Any] | None) -> bool:
        """Return whether a row of these `xai_parameters` gets more than scores."""

    def select(
        self, labels: Sequence[str], prediction: Any, parameters: "Parameters"
    ) -> tuple[ExplanationTarget, ...]:
        """Return the targets in one image, in the reply's order."""

    def num_boxes(self, prediction: Any) -> int:
        """Return the number of boxes in the reply; 0 for classes."""

    def arrange(
        self, values: Sequence[Any], targets: Sequence[ExplanationTarget], num_boxes: int
    ) -> Any:
        """Return a reply's value of one value a target."""


@dataclass(frozen=True)
class ClassSelector:
    """Selects classes of images, as published.

    Attributes:
        task: Selects the classes where a request names none.
    """

    task: ExplainsClasses
    explains: ClassVar[Explains] = "classes"

    def accepts(self, raw: Mapping[str, Any] | None) -> bool:
        """Return True: every row that asks is explained."""
        return True

    def select(
        self, labels: Sequence[str], prediction: Any, parameters: "Parameters"
    ) -> tuple[ExplanationTarget, ...]:
        """Return the named class, or the classes that the task explains by default."""
        if parameters.target is not None:
            indices = [list(labels).index(parameters.target)]
        else:
            threshold = parameters.confidence_score_threshold_multilabel
            indices = self.task.explained_classes(prediction, threshold)
        return tuple(ExplanationTarget(i, labels[i], float(prediction.probs[i])) for i in indices)

    def num_boxes(self, prediction: Any) -> int:
        """Return 0."""
        return 0

    def arrange(
        self, values: Sequence[Any], targets: Sequence[ExplanationTarget], num_boxes: int
    ) -> Any:
        """Return the task's form: one value, or a list."""
        return self.task.explanation_column(values)


class BoxSelector:
    """Selects found boxes. Ours, not published: only rows that name an algorithm for boxes."""

    explains: ClassVar[Explains] = "boxes"

    def accepts(self, raw: Mapping[str, Any] | None) -> bool:
        """Return whether the row names an algorithm for boxes, such as `d_rise`."""
        return (raw or {}).get("xai_algorithm") in names_of("boxes")

    def select(
        self, labels: Sequence[str], prediction: Detections, parameters: "Parameters"
    ) -> tuple[ExplanationTarget, ...]:
        """Return the boxes with the highest scores, of the named class alone when one is named."""
        rows: NDArray[np.int64] = np.arange(len(prediction))
        if parameters.target is not None:
            rows = np.flatnonzero(prediction.classes == list(labels).index(parameters.target))
        return tuple(_box(labels, prediction, int(i)) for i in rows[: parameters.max_boxes])

    def num_boxes(self, prediction: Detections) -> int:
        """Return the number of boxes."""
        return len(prediction)

    def arrange(
        self, values: Sequence[Any], targets: Sequence[ExplanationTarget], num_boxes: int
    ) -> list[Any]:
        """Return a list as long as `boxes`, None for boxes that are not explained."""
        arranged: list[Any] = [None] * num_boxes
        for target, value in zip(targets, values, strict=True):
            arranged[target.box_index] = value
        return arranged


def selector_of(task: Task[Any, Any]) -> TargetSelector | None:
    """Return the selector for a task's predictions; None where they cannot be explained."""
    if isinstance(task, ExplainsClasses):
        return ClassSelector(task)
    return BoxSelector() if task.finds_objects else None


def _box(labels: Sequence[str], prediction: Detections, i: int) -> ExplanationTarget:
    index = int(prediction.classes[i])
    left, top, right, bottom = prediction.xyxy_frac[i].tolist()
    score = float(prediction.scores[i])
    return ExplanationTarget(index, labels[index], score, i, (left, top, right, bottom))


@dataclass(frozen=True, slots=True)
class ExplainRow:
    """One image of a request and its targets. Travels between processes.

    Encoded, not as pixels: those of a large photo take longer to send than to decode again.

    Attributes:
        index: Index of the row in the request.
        image: Encoded file, which decodes.
        parameters: Parameters of the explanations.
        targets: Classes or boxes; may be empty.
        num_boxes: `TargetSelector.num_boxes` of the image.
    """

    index: int
    image: bytes
    parameters: "Parameters"
    targets: tuple[ExplanationTarget, ...]
    num_boxes: int = 0

    @property
    def needs_network(self) -> bool:
        """True if the answer takes more than empty lists."""
        return bool(self.targets) and (
            self.parameters.visualizations or self.parameters.attributions
        )


def explaining_selector(scorer: ImageScorer, rows: Sequence[RequestRow]) -> TargetSelector | None:
    """Return the model's selector when it accepts a row, else None: scores are the answer."""
    selector = selector_of(scorer.task) if isinstance(scorer, Scorer) else None
    return selector if selector and any(is_explained(selector, row) for row in rows) else None


def is_explained(selector: TargetSelector, row: RequestRow) -> bool:
    """Return whether a row asks for explanations and gets them."""
    return row.explain and selector.accepts(row.xai_parameters)


def row_parameters(
    rows: Sequence[RequestRow], selector: TargetSelector, labels: Sequence[str]
) -> dict[int, "Parameters"]:
    """Return the checked parameters of every row that is to be explained, by its index.

    Raises:
        RequestError: Names the first rows and keys that are wrong, and what is allowed; never a
            text of the request.
    """
    found: dict[int, Parameters] = {}
    problems = []
    for index, row in enumerate(rows):
        if not is_explained(selector, row):
            continue
        try:
            found[index] = checked_parameters(
                row.xai_parameters, selector, labels, repeats_texts=False
            )
        except RequestError as error:
            problems += [f"input_data.data[{index}]: {problem}" for problem in error.problems]
            # Looking up what thousands of keys could have meant takes seconds.
            if len(problems) > MAX_PROBLEMS:
                break
    refuse_problems(problems, "more at least")
    return found


def checked_parameters(
    raw: Mapping[str, Any] | None,
    selector: TargetSelector,
    labels: Sequence[str],
    *,
    repeats_texts: bool = True,
) -> "Parameters":
    """Return the published parameters, checked against a model.

    Args:
        raw: Parameters, unchecked.
        selector: Selector of the model.
        labels: The model's labels.
        repeats_texts: Whether errors show the keys and texts that were found.

    Raises:
        RequestError: If a key is unknown or a value not allowed; names every one of them.
    """
    from autofocus.explain.parameters import abridged, parse_parameters

    algorithms = names_of(selector.explains)
    parameters = parse_parameters(raw, algorithms, repeats_texts=repeats_texts)
    target = parameters.target
    if target is not None and target not in labels:
        named = ", ".join(labels[:_MAX_NAMED]) + (", …" if len(labels) > _MAX_NAMED else "")
        raise RequestError(
            f"xai_parameters.target must be one of the model's classes ({named}),"
            f" got {abridged(target, repeats_texts)}."
        )
    return parameters


def score_and_select(
    scorer: Scorer,
    selector: TargetSelector,
    rows: Sequence[RequestRow],
    parameters: Mapping[int, "Parameters"],
    first: int = 0,
    check: Callable[[], None] = lambda: None,
) -> tuple[list[dict[str, Any]], list[ExplainRow]]:
    """Score rows and select their targets; broken images give `{"error": …}`.

    Args:
        scorer: Model; scores are the same with and without explanations.
        selector: Selector of the model.
        rows: Rows in order.
        parameters: Parameters from `row_parameters` of the whole request.
        first: Index of the first of `rows` in the request.
        check: Called before each image is decoded; may raise.
    """
    images = [row.image for row in rows]
    predictions = in_place(images, lambda good: scorer.try_predict(each_checked(good, check)))
    to_explain = []
    for index, (row, prediction) in enumerate(zip(rows, predictions, strict=True), first):
        wanted = parameters.get(index)
        if wanted is None or isinstance(prediction, ImageError):
            continue
        assert isinstance(row.image, bytes), "it was scored"
        targets = selector.select(scorer.labels, prediction, wanted)
        num_boxes = selector.num_boxes(prediction)
        to_explain.append(ExplainRow(index, row.image, wanted, targets, num_boxes))
    return scorer.encode(predictions), to_explain


def check_num_explanations(rows: Sequence[ExplainRow], max_num: int) -> None:
    """Check the number of explanations that all rows together ask for.

    Raises:
        RequestError: 413 when it is above `max_num`.
    """
    number = sum(len(row.targets) for row in rows if row.needs_network)
    if number > max_num:
        raise RequestError(
            f"The request asks for {number:,} explanations, one a class or box and image; at most"
            f" {max_num:,} are allowed. Send fewer images at once, name a target, raise"
            " confidence_score_threshold_multilabel, or lower max_boxes.",
            413,
        )


def reply_values(
    selector: TargetSelector,
    row: ExplainRow,
    pngs: Sequence[bytes],
    maps: Sequence[NDArray[np.float32]],
) -> dict[str, Any]:
    """Return the keys that explanations add to an image's reply, as asked for.

    Args:
        selector: Decides between a value and a list.
        row: Row of the request.
        pngs: One picture a target.
        maps: One map a target, [channels, h, w].
    """
    values: dict[str, Any] = {}
    if row.parameters.visualizations:
        texts = [pybase64.b64encode(png).decode() for png in pngs]
        values["visualizations"] = selector.arrange(texts, row.targets, row.num_boxes)
    if row.parameters.attributions:
        values["attributions"] = selector.arrange(list(maps), row.targets, row.num_boxes)
    return values


def join(
    results: Sequence[dict[str, Any]],
    rows: Sequence[ExplainRow],
    answers: Mapping[int, Mapping[str, bytes]],
    selector: TargetSelector,
) -> list[dict[str, Any]]:
    """Return the results with their explanations.

    Args:
        results: One wire object an image.
        rows: Rows to explain.
        answers: Index of a row -> key -> JSON, for every row that needs the network.
        selector: Selector of the rows.
    """
    joined = list(results)
    for row in rows:
        values: dict[str, Any]
        if row.needs_network:
            values = {key: orjson.Fragment(text) for key, text in answers[row.index].items()}
        else:
            values = reply_values(selector, row, [], [])
        joined[row.index] = results[row.index] | values
    return joined
