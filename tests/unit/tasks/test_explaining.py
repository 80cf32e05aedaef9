import numpy as np
import pytest

from autofocus.structures.predictions import ClassScores
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task
from autofocus.tasks.explaining import ExplainsClasses
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_tasks_of_classes_can_be_explained(task: Task) -> None:
    assert isinstance(task, ExplainsClasses) == ("probs" in task.response_columns)


def test_multiclass_explains_the_most_probable_class_whatever_the_threshold() -> None:
    task = MulticlassClassification()
    scores = ClassScores(np.array([0.2, 0.5, 0.3], np.float32))
    assert [task.explained_classes(scores, at) for at in (0.0, 0.9)] == [[1], [1]]
    assert task.explanation_column(["png"]) == "png"


def test_multilabel_explains_every_class_at_or_above_the_threshold() -> None:
    task = MultilabelClassification()
    scores = ClassScores(np.array([0.3, 0.5, 0.9], np.float32))
    assert task.explained_classes(scores, 0.5) == [1, 2]
    # 0.3 is not a single-precision number: what is reported as 0.3 counts as 0.3.
    assert task.explained_classes(scores, 0.3) == [0, 1, 2]
    assert task.explained_classes(scores, 0.95) == []
    assert task.explanation_column(["a", "b"]) == ["a", "b"]
    assert task.explanation_column([]) == []
