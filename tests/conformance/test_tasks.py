"""Every task passes this suite; a new one is picked up from `TASKS`."""

import msgspec
import numpy as np
import pytest

from autofocus.data.rows.labels import label_map
from autofocus.data.rows.records import RECORD_TYPES
from autofocus.models.base import CLASSIFIER, SEGMENTER
from autofocus.pictures.boxes import draw_evaluated
from autofocus.runtime import plain
from autofocus.structures.frames import Frame
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task

FRAMES = [Frame((48, 64)), Frame((64, 48), (0.0, 0.0, 1.0, 1.25)), Frame((10, 10))]
NUM_CANDIDATES = 6


def box_row(label: str, left: float, top: float, right: float, bottom: float, **more: bool):
    corners = {"topX": left, "topY": top, "bottomX": right, "bottomY": bottom}
    return {"label": label, **corners, **more}


# Rows of each record type, in the wire format; three images each, labels a, b and c.
ROWS = {
    "image_classification": ["a", "b", "c"],
    "image_classification_multilabel": [["a"], ["a", "b"], []],
    "image_object_detection": [
        [box_row("a", 0.1, 0.2, 0.5, 0.6)],
        [box_row("b", 0.0, 0.0, 1.0, 1.0), box_row("c", 0.2, 0.2, 0.4, 0.4, isCrowd=True)],
        [],
    ],
    "image_instance_segmentation": [
        [{"label": "a", "polygon": [[0.1, 0.1, 0.6, 0.1, 0.6, 0.7]]}],
        [{"label": "b", "polygon": [[0, 0, 1, 0, 1, 1, 0, 1], [0.2, 0.2, 0.4, 0.2, 0.4, 0.4]]}],
        [],
    ],
}


WITH_PROBABILITIES = [task for task in TASKS.values() if "probs" in task.response_columns]


def records(task: Task):
    return [
        msgspec.convert({"image_url": f"{i}.jpg", "label": label}, task.record_type)
        for i, label in enumerate(ROWS[task.name])
    ]


def labels_of(task: Task) -> list[str]:
    return label_map(*map(task.record_labels, records(task)))


def outputs(task: Task, seed: int = 0) -> dict[str, np.ndarray]:
    """Return what a network of the task's kind would emit for three images."""
    rng, num_labels = np.random.default_rng(seed), len(labels_of(task))
    if task.model_kind == CLASSIFIER:
        return {"logits": rng.normal(size=(3, num_labels), scale=3).astype(np.float32)}
    corners = np.sort(rng.random((3, NUM_CANDIDATES, 2, 2)), axis=2)
    found = {
        "boxes": corners.reshape(3, NUM_CANDIDATES, 4).astype(np.float32),
        "scores": rng.uniform(0.4, 1, (3, NUM_CANDIDATES)).astype(np.float32),
        "classes": np.arange(3 * NUM_CANDIDATES).reshape(3, NUM_CANDIDATES) % num_labels,
    }
    if task.model_kind == SEGMENTER:
        found["box_masks"] = np.full((3, NUM_CANDIDATES, 28, 28), 0.9, np.float32)
    return found


@pytest.fixture(params=TASKS.values(), ids=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


def test_name_and_record_type_belong_together(task: Task) -> None:
    assert RECORD_TYPES[task.name] is task.record_type
    assert TASKS[task.name] is task


def test_targets_have_one_row_a_record(task: Task) -> None:
    rows = records(task)
    assert len(task.encode_targets(rows, labels_of(task))) == len(rows)


def test_postprocess_gives_one_prediction_an_image_that_fits_the_labels(task: Task) -> None:
    predictions = task.postprocess(outputs(task), FRAMES, {})
    labels = labels_of(task)
    assert len(predictions) == 3
    for prediction in predictions:
        task.check_prediction(prediction, labels)
        with pytest.raises(ValueError, match=f"{len(labels) - 1} labels"):
            task.check_prediction(prediction, labels[:-1])


def test_wire_object_is_plain_json_with_the_declared_columns(task: Task) -> None:
    import json

    for prediction in task.postprocess(outputs(task), FRAMES, {}):
        wire = plain(task.encode(prediction, labels_of(task)))
        json.dumps(wire, allow_nan=False)
        required = {name for name, needed in task.response_columns.items() if needed}
        assert required <= set(wire) <= set(task.response_columns)


@pytest.mark.parametrize("task", WITH_PROBABILITIES, ids=lambda task: task.name)
def test_probabilities_survive_extreme_logits(task: Task) -> None:
    extreme = {"logits": np.array([[1e4, -1e4, 0.0]] * 3, np.float32)}
    for prediction in task.postprocess(extreme, FRAMES, {}):
        wire = plain(task.encode(prediction, labels_of(task)))
        assert np.isfinite(wire["probs"]).all()
        assert min(wire["probs"]) >= 0
        assert max(wire["probs"]) <= 1


def test_every_primary_metric_is_computed(task: Task) -> None:
    predictions = task.postprocess(outputs(task), FRAMES, {})
    metrics = task.evaluate(
        predictions, task.encode_targets(records(task), labels_of(task)), labels_of(task), {}
    )
    assert set(task.primary_metrics) <= set(metrics)


def test_decisions_count_every_right_answer_once(task: Task) -> None:
    predictions = task.postprocess(outputs(task), FRAMES, task.evaluation_settings({}))
    rows, labels = records(task), labels_of(task)
    made = task.decisions(predictions, task.encode_targets(rows, labels), labels, {})
    assert made is not None
    assert len(made.classes) == len(made.scores) == len(made.is_right) == len(made.images) > 0
    # Crowds are no answer.
    labelled = {"image_object_detection": ["a", "b"], "image_instance_segmentation": ["a", "b"]}
    expected = labelled.get(task.name, [name for row in rows for name in task.record_labels(row)])
    assert [labels[i] for i in made.true_classes] == expected
    assert made.is_right.sum() <= len(made.true_classes)


def test_wire_difference_is_zero_for_the_same_and_grows(task: Task) -> None:
    first = task.encode(task.postprocess(outputs(task), FRAMES, {})[0], labels_of(task))
    other = task.encode(task.postprocess(outputs(task, 1), FRAMES, {})[0], labels_of(task))
    assert task.wire_difference(first, first) == 0
    assert task.wire_difference(first, other) > 1e-3


def test_what_is_reported_is_drawn_beside_the_labels(task: Task) -> None:
    image = np.full((48, 64, 3), 128, np.uint8)
    drawn = [
        draw_evaluated(task, {}, labels_of(task), record, image, prediction)
        for record, prediction in zip(
            records(task), task.postprocess(outputs(task), FRAMES, {}), strict=True
        )
    ]
    assert all(picture.shape[1] >= 64 for picture in drawn)
    assert not np.array_equal(drawn[0], drawn[1])


def test_summary_is_one_line(task: Task) -> None:
    for prediction in task.postprocess(outputs(task), FRAMES, {}):
        line = task.summarize(plain(task.encode(prediction, labels_of(task))))
        assert line
        assert "\n" not in line


def test_measuring_sees_at_least_what_serving_sees(task: Task) -> None:
    served = task.postprocess(outputs(task), FRAMES, {})
    measured = task.postprocess(outputs(task), FRAMES, task.evaluation_settings({}))
    for few, many in zip(served, measured, strict=True):
        wire = [plain(task.encode(each, labels_of(task))) for each in (few, many)]
        sizes = [len(each.get("boxes", each.get("labels", []))) for each in wire]
        assert sizes[0] <= sizes[1]
