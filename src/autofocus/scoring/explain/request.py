"""Rows that ask for explanations: checked before anything runs, joined with their answers after.

Imports no torch. `autofocus.explain` is imported when a row asks and not before: the code that a
package carries has no explanations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from autofocus.errors import ImageError, RequestError
from autofocus.scoring.request import Cell, ImageScorer, error_object
from autofocus.scoring.scorer import Scorer
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


_MAX_PROBLEMS: Final = 5
_MAX_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class ExplainRow:
    """One image of a request, and what to explain of it. Travels between processes.

    Attributes:
        place: Its index in the request.
        image: The encoded file; it has been decoded once, to score it.
        explained: Classes or boxes; may be empty.
        num_places: What `ExplainedTargets.num_places` says of the image.
    """

    place: int
    image: bytes
    parameters: "Parameters"
    explained: tuple[Explained, ...]
    num_places: int = 0

    @property
    def needs_network(self) -> bool:
        """Whether the answer takes more than empty lists."""
        return bool(self.explained) and (
            self.parameters.visualizations or self.parameters.attributions
        )


def explaining_choice(scorer: ImageScorer, cells: Sequence[Cell]) -> ExplainedTargets | None:
    """Return what can be explained when a row asks for it, else None: scores are the answer."""
    choice = choice_of(scorer.task) if isinstance(scorer, Scorer) else None
    return choice if choice and any(is_taken(choice, cell) for cell in cells) else None


def is_taken(choice: ExplainedTargets, cell: Cell) -> bool:
    """Return whether a row asks for explanations and gets them."""
    return cell.explain and choice.takes(cell.xai_parameters)


def row_parameters(
    cells: Sequence[Cell], choice: ExplainedTargets, labels: Sequence[str]
) -> dict[int, "Parameters"]:
    """Return the checked parameters of every row that is to be explained, by place.

    Raises:
        RequestError: Names the rows, in each every key that is wrong, and what is allowed.
    """
    from autofocus.explain.parameters import parse_parameters

    found: dict[int, Parameters] = {}
    problems = []
    for place, cell in enumerate(cells):
        if not is_taken(choice, cell):
            continue
        try:
            parameters = parse_parameters(cell.xai_parameters, choice.kind)
            check_target(parameters.target, labels)
        except RequestError as error:
            problems.append(f"input_data.data[{place}]: {error.message}")
        else:
            found[place] = parameters
    if problems:
        shown = problems[:_MAX_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"And {len(problems) - len(shown)} more rows.")
        raise RequestError(" ".join(shown))
    return found


def check_target(target: str | None, labels: Sequence[str]) -> None:
    """Do nothing when no class is named, or one of the model's.

    Raises:
        RequestError: Names the model's classes.
    """
    if target is None or target in labels:
        return
    shown = ", ".join(labels[:_MAX_SHOWN]) + (", …" if len(labels) > _MAX_SHOWN else "")
    raise RequestError(
        f"xai_parameters.target must be one of the model's classes ({shown}), got '{target[:40]}'."
    )


def score_and_choose(
    scorer: Scorer,
    choice: ExplainedTargets,
    cells: Sequence[Cell],
    parameters: Mapping[int, "Parameters"],
    first: int = 0,
) -> tuple[list[dict[str, Any]], list[ExplainRow]]:
    """Score rows and choose what to explain; broken images give `{"error": …}`.

    Args:
        scorer: Its scores are the reply's, with or without explanations.
        choice: What is explained.
        cells: Rows in order.
        parameters: What `row_parameters` returned for the whole request.
        first: Place of the first of `cells` in the request.
    """
    predictions = iter(
        scorer.try_predict([cell.image for cell in cells if isinstance(cell.image, bytes)])
    )
    results, rows = [], []
    for place, cell in enumerate(cells, first):
        prediction = next(predictions) if isinstance(cell.image, bytes) else cell.image
        if isinstance(prediction, ImageError):
            results.append(error_object(prediction))
            continue
        results.append(scorer.task.encode(prediction, scorer.labels))
        if wanted := parameters.get(place):
            assert isinstance(cell.image, bytes)
            chosen = choice.choose(scorer.labels, prediction, wanted)
            num_places = choice.num_places(prediction)
            rows.append(ExplainRow(place, cell.image, wanted, chosen, num_places))
    return results, rows


def check_num_explanations(rows: Sequence[ExplainRow], most: int) -> None:
    """Do nothing when what is explained of all rows together is little enough.

    Raises:
        RequestError: 413.
    """
    number = sum(len(row.explained) for row in rows if row.needs_network)
    if number > most:
        raise RequestError(
            f"The request asks for {number:,} explanations, one a class or box and image; at most"
            f" {most:,} are allowed. Send fewer images at once, name a target, raise"
            " confidence_score_threshold_multilabel, or lower max_boxes.",
            413,
        )


def reply_columns(
    choice: ExplainedTargets,
    row: ExplainRow,
    pngs: Sequence[bytes],
    maps: Sequence[NDArray[np.float32]],
) -> dict[str, Any]:
    """Return the keys that explanations add to an image's reply: those that were asked for.

    Args:
        choice: Decides between a value and a list.
        row: What was asked.
        pngs: One an explained class or box.
        maps: One an explained class or box, [channels, h, w].
    """
    columns: dict[str, Any] = {}
    if row.parameters.visualizations:
        texts = [pybase64.b64encode(png).decode() for png in pngs]
        columns["visualizations"] = choice.column(texts, row.explained, row.num_places)
    if row.parameters.attributions:
        columns["attributions"] = choice.column(list(maps), row.explained, row.num_places)
    return columns


def join(
    results: Sequence[dict[str, Any]],
    rows: Sequence[ExplainRow],
    answers: Mapping[int, Mapping[str, bytes]],
    choice: ExplainedTargets,
) -> list[dict[str, Any]]:
    """Return the results with their explanations.

    Args:
        results: One wire object an image.
        rows: What was to be explained.
        answers: Place -> key -> JSON, for every row that needs the network.
        choice: What was explained.
    """
    joined = list(results)
    for row in rows:
        columns: dict[str, Any]
        if row.needs_network:
            columns = {key: orjson.Fragment(text) for key, text in answers[row.place].items()}
        else:
            columns = reply_columns(choice, row, [], [])
        joined[row.place] = results[row.place] | columns
    return joined
