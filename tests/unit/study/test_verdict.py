"""The verdict: beside what has not looked at the images, and what limited the run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss

from autofocus.study.study import Outcome
from autofocus.study.verdict import verdict_of
from autofocus.tasks import TASKS
from autofocus.training.candidate import Samples


def verdict(
    folder: Path,
    task: str,
    targets: NDArray[np.int64],
    losses: NDArray[np.float64] | None,
    metrics: dict[str, Any],
    **more: Any,
) -> dict[str, Any]:
    num = len(targets)
    names = [str(i) for i in range(num)]
    study: Any = SimpleNamespace(
        samples=Samples(names, names, targets, names, names, "photos"),
        validation=np.arange(num),
        labels=["a", "b", "c"],
        metric=next(iter(metrics)),
        plan=SimpleNamespace(
            task=TASKS[task],
            job=SimpleNamespace(training_data=SimpleNamespace(path="photos")),
        ),
        folder=SimpleNamespace(path=folder, decided=lambda name: None),
        trials=more.pop("trials", []),
    )
    manifest: Any = SimpleNamespace(
        metrics=metrics, metrics_of="validation", intervals=more.pop("intervals", {})
    )
    return verdict_of(study, Outcome("1", manifest, folder, 1.0, losses))


TARGETS = np.array([0] * 50 + [1] * 30 + [2] * 20)


def test_the_baseline_of_classes_is_sklearns_dummy(tmp_path: Path) -> None:
    rows = np.zeros((100, 1))
    found = verdict(
        tmp_path, "image_classification", TARGETS, None, {"accuracy": 0.9, "log_loss": 0.4}
    )
    baseline = found["baseline"]
    assert baseline["class"] == "a"
    dummy = DummyClassifier(strategy="prior").fit(rows, TARGETS)
    assert baseline["metrics"]["accuracy"] == dummy.score(rows, TARGETS)
    expected = log_loss(TARGETS, dummy.predict_proba(rows))
    assert baseline["metrics"]["log_loss"] == pytest.approx(expected, abs=1e-3)
    assert baseline["metrics"]["AUC_weighted"] == 0.5


def test_useful_is_what_is_certainly_better(tmp_path: Path) -> None:
    """Of accuracy, or of the log loss, image by image."""
    rng = np.random.default_rng(0)
    freqs = np.array([0.5, 0.3, 0.2])
    baseline = -np.log(freqs[TARGETS])

    def found(gain: float, accuracy: float, **more: Any) -> dict[str, Any]:
        losses = baseline - gain + rng.normal(0, 0.5, 100)
        metrics = {"accuracy": accuracy, "log_loss": float(losses.mean())}
        return verdict(tmp_path, "image_classification", TARGETS, losses, metrics, **more)

    assert found(0.5, 0.8)["is_useful"] is True
    assert found(0.0, 0.5)["is_useful"] is False
    # Too sure of itself, and yet right far more often.
    assert found(-0.3, 0.8, intervals={"accuracy": (0.7, 0.9)})["is_useful"] is True
    # Nine of ten are of one class: accuracy says nothing, probabilities do.
    assert found(0.3, 0.5, intervals={"accuracy": (0.4, 0.6)})["is_useful"] is True
    low, high = found(0.5, 0.8)["gain"]["interval"]
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.645 * 0.5 / 10, rel=0.2)


def test_several_classes_an_image_are_beside_how_often_each_occurs(tmp_path: Path) -> None:
    targets = (np.arange(60)[:, None] % np.array([2, 3, 10]) == 0).astype(np.int64)
    found = verdict(
        tmp_path, "image_classification_multilabel", targets, None, {"iou": 0.4, "log_loss": 0.9}
    )
    freqs = targets.mean(axis=0)
    entropy = -(freqs * np.log(freqs) + (1 - freqs) * np.log(1 - freqs)).mean()
    assert found["baseline"]["class"] is None
    assert found["baseline"]["metrics"]["log_loss"] == pytest.approx(entropy, abs=2e-3)
    assert found["is_useful"] is False


@pytest.mark.parametrize(
    ("value", "groups", "is_useful"),
    [
        (0.6, np.full(20, -0.6), True),
        (0.2, -np.array([4.0] + [-0.1] * 9 + [0.2] * 10), False),
        (0.01, np.full(20, -0.01), False),
        (0.3, None, True),
        (None, None, False),
    ],
)
def test_objects_are_beside_finding_nothing(
    tmp_path: Path, value: float | None, groups: NDArray[np.float64] | None, is_useful: bool
) -> None:
    metrics = {"mean_average_precision": value}
    found = verdict(tmp_path, "image_object_detection", np.zeros(40, np.int64), groups, metrics)
    assert found["is_useful"] is is_useful
    assert found["baseline"]["metrics"] == {"mean_average_precision": 0.0}


def test_what_limited_the_run_is_said(tmp_path: Path) -> None:
    def limited(*made: dict[str, Any], reason: str = "all epochs done") -> dict[str, Any] | None:
        lines = "".join(json.dumps(each) + "\n" for each in made)
        (tmp_path / "decisions.jsonl").write_text(lines)
        row = {"id": "1", "reason": reason, "epochs": 11, "seconds": 330.0}
        found = verdict(
            tmp_path,
            "image_classification",
            TARGETS,
            None,
            {"accuracy": 0.9, "log_loss": 0.4},
            trials=[row],
        )
        limit: dict[str, Any] | None = found["limited_by"]
        return limit

    recipe = {"decision": "recipe", "trial": "1", "num_epochs": 80}
    left = {
        "cheapest": "tail",
        "expected_gain": 0.01,
        "cost_s": 9.0,
    }
    assert limited(recipe) is None
    assert limited(recipe, reason="budget") == {
        "reason": "epochs",
        "epochs": 11,
        "num_epochs": 80,
        "seconds_for_all": 2400.0,
        "seconds_more": 2070.0,
    }
    assert limited(recipe, {"decision": "nothing_left", **left}) == {
        "reason": "nothing_left",
        **left,
    }
