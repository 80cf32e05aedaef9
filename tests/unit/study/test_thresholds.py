"""Fitted thresholds: from wishes of a job into the package, the result, and what is served."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from autofocus import api
from autofocus.errors import JobError, ModelFolderError
from autofocus.manifest import MANIFEST_NAME, read_manifest
from autofocus.metrics.thresholds import Reached, Threshold, threshold_line
from autofocus.scoring.scorer import Scorer
from autofocus.settings.job import Wanted
from autofocus.structures.predictions import ClassScores
from autofocus.study.run import run
from autofocus.study.thresholds import (
    check_wanted,
    fit_on_validation,
    fit_thresholds,
    write_thresholds,
)
from autofocus.tasks import TASKS
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification
from autofocus.training.candidate import Candidate, OutOfFold
from support.tiny_jobs import decisions, tiny_detection_job, tiny_job
from support.tiny_models import LABELS

PROBS = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]
PREDICTIONS = [ClassScores(np.float32(row)) for row in PROBS]


def test_multi_class_answers_below_the_threshold_are_unsure() -> None:
    """The third image is called `b` with 0.6, wrongly: 0.95 of all answers need more."""
    targets, labels = np.array([0, 0, 0, 1]), ["a", "b"]
    task = MulticlassClassification()
    (found,) = fit_thresholds(
        task, Wanted(min_precision={"*": 0.95}), PREDICTIONS, targets, labels, range(4)
    )
    assert (found.threshold, found.is_reached) == (0.69, True)
    assert (found.reached.precision, found.reached.recall) == (1.0, 0.75)
    assert fit_thresholds(task, Wanted(), PREDICTIONS, targets, labels, range(4)) == []


def test_multi_label_decides_each_class_by_itself() -> None:
    targets, labels = np.array([[1, 0], [0, 0], [1, 1], [0, 1]]), ["a", "b"]
    wanted = Wanted(min_recall={"a": 1.0}, min_precision={"b": 1.0})
    first, second = fit_thresholds(
        MultilabelClassification(), wanted, PREDICTIONS, targets, labels, range(4)
    )
    assert (first.label, first.reached.precision, first.reached.recall) == ("a", 2 / 3, 1.0)
    assert 0.39 <= first.threshold <= 0.4
    assert (second.label, second.reached.precision, second.reached.recall) == ("b", 1.0, 1.0)


def test_a_model_that_has_learnt_from_all_images_is_judged_out_of_fold(
    make_model: Any, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "m", ["a", "b"], "image_classification")
    manifest = msgspec.structs.replace(read_manifest(folder), metrics_of="cross-validation")
    judged = OutOfFold(PREDICTIONS, np.array([0, 0, 0, 1]), range(4))
    network: Any = None
    study: Any = SimpleNamespace(
        plan=SimpleNamespace(
            task=MulticlassClassification(),
            job=SimpleNamespace(thresholds=Wanted(min_precision={"*": 0.95})),
        ),
        labels=["a", "b"],
        is_stopped=lambda: False,
        folder=SimpleNamespace(decide=lambda *_, **__: None),
    )
    (found,) = fit_on_validation(study, lambda: Candidate(network, manifest, [], judged), folder)
    assert (found["threshold"], found["source"]) == (0.69, "cross-validation")


def test_a_class_that_no_image_shows_is_said(caplog: pytest.LogCaptureFixture) -> None:
    wanted, targets = Wanted(min_precision={"b": 0.9}), np.zeros((4, 2), np.int64)
    task = MultilabelClassification()
    assert fit_thresholds(task, wanted, PREDICTIONS, targets, ["a", "b"], range(4)) == []
    assert "b: no right answer to fit a threshold by" in caplog.text


def test_wishes_for_classes_that_are_not_there_are_named() -> None:
    wanted = Wanted(min_precision={"cta": 0.9, "*": 0.9}, min_recall={"dog": 0.9, "cat": 0.5})
    with pytest.raises(JobError) as caught:
        check_wanted(wanted, ["cat", "cow"])
    assert caught.value.problems == (
        "thresholds.min_precision: there is no class 'cta'; did you mean 'cat'?",
        "thresholds.min_recall: there is no class 'dog'.",
    )


def test_the_package_has_a_threshold_a_class_and_what_it_reaches(
    make_model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = make_model(tmp_path / "m", LABELS, "image_classification_multilabel")
    task = MultilabelClassification()
    before = (folder / MANIFEST_NAME).read_bytes()
    assert write_thresholds(folder, task, [], "validation") == []
    assert (folder / MANIFEST_NAME).read_bytes() == before, "nothing is asked, nothing changes"
    chance = np.random.default_rng(0)
    predictions = [ClassScores(chance.random(4).astype(np.float32)) for _ in range(30)]
    targets = chance.integers(0, 2, (30, 4))
    wanted = Wanted(min_precision={"carton": 1.0}, min_recall={"can": 0.9})
    found = fit_thresholds(task, wanted, predictions, targets, LABELS, range(30))
    documents = write_thresholds(folder, task, found, "cross-validation")
    manifest = read_manifest(folder)
    assert json.loads(json.dumps(documents)) == manifest.thresholds
    can, carton = found
    assert manifest.settings["score_thresholds"] == [can.threshold, carton.threshold, 0.5, 0.5]
    image = (Path(__file__).parents[2] / "support").name.encode()
    assert Scorer.load(folder).score([image])[0]["error"], "it loads"
    assert f"can: threshold {can.threshold:g}: precision " in caplog.text
    write_thresholds(folder, task, found[:1], "validation")
    assert read_manifest(folder).settings["score_thresholds"] == [can.threshold, 0.5, 0.5, 0.5]


def test_what_is_not_reached_is_said_so() -> None:
    document = {
        "label": "dog",
        "threshold": 0.97,
        "min_precision": 0.95,
        "min_recall": None,
        "is_reached": False,
        "precision": 0.91,
        "precision_interval": (0.7, 0.98),
        "recall": 0.4,
        "recall_interval": (0.3, 0.5),
        "source": "validation",
    }
    assert threshold_line(document) == (
        "dog: precision 0.95 is not reached; as near as it gets: threshold 0.97: "
        "precision 0.910 [0.700, 0.980], recall 0.400 [0.300, 0.500] on validation"
    )
    assert threshold_line({**document, "label": "*", "is_reached": True}).startswith(
        "all classes: threshold 0.97: precision 0.910"
    )


def test_settings_of_another_number_of_classes_are_refused(make_model: Any, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", LABELS, "image_classification")
    document = json.loads((folder / MANIFEST_NAME).read_bytes())
    document["settings"]["score_thresholds"] = [0.5]
    (folder / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(ModelFolderError, match=r"settings\.score_thresholds: .* 4 labels, got 1"):
        read_manifest(folder)


def test_a_classifiers_run_fits_what_it_wants_and_replies_as_before(
    photo_folder: Path, tmp_path: Path
) -> None:
    job = tiny_job(photo_folder, 1, output_dir=str(tmp_path / "run"))
    job["thresholds"] = {"min_precision": "0.5", "min_recall": {"red": 0.6}}
    job["test_data"] = str(photo_folder)
    result = run(job)
    manifest = read_manifest(Path(result["best_model"]))
    assert manifest.thresholds == json.loads(json.dumps(result["thresholds"]))
    assert {type(value) for one in manifest.thresholds for value in one.values()} <= {
        *(str, float, int, bool, list, type(None))
    }
    assert [one["label"] for one in result["thresholds"]] == ["red", "*"]
    (decision,) = decisions(tmp_path / "run", "thresholds")
    assert len(decision["thresholds"]) == 2
    for fitted, tested in zip(result["thresholds"], result["test_thresholds"], strict=True):
        assert tested["threshold"] == fitted["threshold"]
        assert tested["num_true"] == (8 if fitted["label"] == "red" else 16)
    model = api.load(result["best_model"])
    (reply,) = model.score([next(photo_folder.rglob("*.png"))])
    assert [*reply] == ["probs", "labels"]


def test_a_detectors_replies_obey_the_threshold_of_each_class(tmp_path: Path) -> None:
    job = tiny_detection_job(tmp_path, 8, 1, output_dir=str(tmp_path / "run"))
    job["limits"] = {"max_trials": 1}
    job["thresholds"] = {"min_recall": 1.0}
    result = run(job)
    folder = Path(result["best_model"])
    manifest, image = read_manifest(folder), (tmp_path / "0.png").read_bytes()
    assert (manifest.thresholds, result["thresholds"]) == ([], []), "one epoch finds nothing"
    task = TASKS[manifest.task]
    measured = task.evaluation_settings(manifest.settings)
    (found,) = Scorer.load(folder).try_predict([image], measured)
    reached = Reached(0.5, (0.1, 0.9), 1.0, (0.5, 1.0), 2, 1)
    threshold = Threshold("square", float(np.median(found.scores)), 0.5, None, True, reached)
    write_thresholds(folder, task, [threshold], "validation")
    (reply,) = Scorer.load(folder).score([image])
    assert len(reply["boxes"]) == (found.scores >= np.float32(threshold.threshold)).sum() > 0
