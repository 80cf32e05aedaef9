"""Rows that ask for explanations: checked before anything runs, joined with their answers after.

Imports no torch. `autofocus.explain` is imported when a row asks and not before: the code that a
package carries has no explanations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from autofocus.errors import ImageError, RequestError
from autofocus.scoring.request import Cell, ImageScorer, error_object
from autofocus.scoring.scorer import Scorer
from autofocus.tasks.explaining import ExplainsClasses

if TYPE_CHECKING:
    from autofocus.explain.parameters import Parameters

_MAX_PROBLEMS: Final = 5
_MAX_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class ExplainedClass:
    """One class of one image."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class ExplainRow:
    """One image of a request, and what to explain of it. Travels between processes.

    Attributes:
        place: Its index in the request.
        image: The encoded file; it has been decoded once, to score it.
        classes: May be empty.
    """

    place: int
    image: bytes
    parameters: "Parameters"
    classes: tuple[ExplainedClass, ...]

    @property
    def needs_network(self) -> bool:
        """Whether the answer takes more than empty lists."""
        return bool(self.classes) and (
            self.parameters.visualizations or self.parameters.attributions
        )


def explaining_task(scorer: ImageScorer) -> ExplainsClasses | None:
    """Return the scorer's task when it can explain, else None: then there are scores alone."""
    task = scorer.task if isinstance(scorer, Scorer) else None
    return task if isinstance(task, ExplainsClasses) else None


def row_parameters(
    cells: Sequence[Cell], task: ExplainsClasses, labels: Sequence[str]
) -> dict[int, "Parameters"]:
    """Return the checked parameters of every row that asks for explanations, by place.

    Raises:
        RequestError: Names the rows, in each every key that is wrong, and what is allowed.
    """
    from autofocus.explain.parameters import parse_parameters

    found: dict[int, Parameters] = {}
    problems = []
    for place, cell in enumerate(cells):
        if not cell.explain:
            continue
        try:
            parameters = parse_parameters(cell.xai_parameters, task.activation)
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
    task: ExplainsClasses,
    cells: Sequence[Cell],
    parameters: Mapping[int, "Parameters"],
    first: int = 0,
) -> tuple[list[dict[str, Any]], list[ExplainRow]]:
    """Score rows and choose the classes to explain; broken images give `{"error": …}`.

    Args:
        scorer: Its probabilities are the reply's, with or without explanations.
        task: The scorer's.
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
            chosen = choose_classes(task, scorer.labels, prediction, wanted)
            rows.append(ExplainRow(place, cell.image, wanted, chosen))
    return results, rows


def choose_classes(
    task: ExplainsClasses, labels: Sequence[str], prediction: Any, parameters: "Parameters"
) -> tuple[ExplainedClass, ...]:
    """Return the named target, or the classes that the task takes of itself."""
    if parameters.target is not None:
        indices = [list(labels).index(parameters.target)]
    else:
        threshold = parameters.confidence_score_threshold_multilabel
        indices = task.explained_classes(prediction, threshold)
    return tuple(ExplainedClass(i, labels[i], float(prediction.probs[i])) for i in indices)


def check_num_explanations(rows: Sequence[ExplainRow], most: int) -> None:
    """Do nothing when the classes of all rows together are few enough.

    Raises:
        RequestError: 413.
    """
    number = sum(len(row.classes) for row in rows if row.needs_network)
    if number > most:
        raise RequestError(
            f"The request asks for {number:,} explanations, one a class and image; at most"
            f" {most:,} are allowed. Send fewer images at once, raise"
            " confidence_score_threshold_multilabel, or name a target.",
            413,
        )


def reply_columns(
    task: ExplainsClasses,
    parameters: "Parameters",
    pngs: Sequence[bytes],
    maps: Sequence[NDArray[np.float32]],
) -> dict[str, Any]:
    """Return the keys that explanations add to an image's reply: those that were asked for.

    Args:
        task: Decides between a value and a list.
        parameters: Those of the row.
        pngs: One a class.
        maps: One a class, [3, crop, crop].
    """
    columns: dict[str, Any] = {}
    if parameters.visualizations:
        texts = [pybase64.b64encode(png).decode() for png in pngs]
        columns["visualizations"] = task.explanation_column(texts)
    if parameters.attributions:
        columns["attributions"] = task.explanation_column(list(maps))
    return columns


def join(
    results: Sequence[dict[str, Any]],
    rows: Sequence[ExplainRow],
    answers: Mapping[int, Mapping[str, bytes]],
    task: ExplainsClasses,
) -> list[dict[str, Any]]:
    """Return the results with their explanations.

    Args:
        results: One wire object an image.
        rows: What was to be explained.
        answers: Place -> key -> JSON, for every row that needs the network.
        task: The scorer's.
    """
    joined = list(results)
    for row in rows:
        columns: dict[str, Any]
        if row.needs_network:
            columns = {key: orjson.Fragment(text) for key, text in answers[row.place].items()}
        else:
            columns = reply_columns(task, row.parameters, [], [])
        joined[row.place] = results[row.place] | columns
    return joined
