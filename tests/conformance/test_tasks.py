"""Every task passes this suite; a new one is picked up from `TASKS`."""

import numpy as np
import pytest

from autofocus.data.records import RECORD_TYPES
from autofocus.runtime import plain
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task

LABELS = ["a", "b", "c"]
SIZES = [(48, 64), (64, 48), (10, 10)]

# Rows of each record type, in the wire format; three images each, labels a, b and c.
ROWS = {
    "image_classification": ["a", "b", "c"],
    "image_classification_multilabel": [["a"], ["a", "b"], []],
}


def records(task: Task):
    return [
        task.record_type(image_url=f"{i}.jpg", label=label)
        for i, label in enumerate(ROWS[task.name])
    ]


def outputs(task: Task, seed: int = 0) -> dict[str, np.ndarray]:
    logits = np.random.default_rng(seed).normal(size=(3, len(LABELS)), scale=3)
    return {"logits": logits.astype(np.float32)}


@pytest.fixture(params=TASKS.values(), ids=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


def test_name_and_record_type_belong_together(task: Task) -> None:
    assert RECORD_TYPES[task.name] is task.record_type
    assert TASKS[task.name] is task


def test_targets_have_one_row_a_record(task: Task) -> None:
    rows = records(task)
    assert len(task.encode_targets(rows, LABELS)) == len(rows)
    assert {name for row in rows for name in task.record_labels(row)} <= set(LABELS)


def test_postprocess_gives_one_prediction_an_image_that_fits_the_labels(task: Task) -> None:
    predictions = task.postprocess(outputs(task), SIZES, {})
    assert len(predictions) == 3
    for prediction in predictions:
        task.check_prediction(prediction, LABELS)
        with pytest.raises(ValueError, match="2 labels"):
            task.check_prediction(prediction, LABELS[:2])


def test_wire_object_is_plain_json_with_the_declared_columns(task: Task) -> None:
    import json

    for prediction in task.postprocess(outputs(task), SIZES, {}):
        wire = plain(task.encode(prediction, LABELS))
        json.dumps(wire, allow_nan=False)
        required = {name for name, needed in task.response_columns.items() if needed}
        assert required <= set(wire) <= set(task.response_columns)


def test_probabilities_survive_extreme_logits(task: Task) -> None:
    extreme = {"logits": np.array([[1e4, -1e4, 0.0]] * 3, np.float32)}
    for prediction in task.postprocess(extreme, SIZES, {}):
        wire = plain(task.encode(prediction, LABELS))
        assert np.isfinite(wire["probs"]).all()
        assert min(wire["probs"]) >= 0
        assert max(wire["probs"]) <= 1


def test_every_primary_metric_is_computed(task: Task) -> None:
    predictions = task.postprocess(outputs(task), SIZES, {})
    metrics = task.evaluate(predictions, task.encode_targets(records(task), LABELS), LABELS)
    assert set(task.primary_metrics) <= set(metrics)


def test_wire_difference_is_zero_for_the_same_and_grows(task: Task) -> None:
    first = task.encode(task.postprocess(outputs(task), SIZES, {})[0], LABELS)
    other = task.encode(task.postprocess(outputs(task, 1), SIZES, {})[0], LABELS)
    assert task.wire_difference(first, first) == 0
    assert task.wire_difference(first, other) > 1e-3
