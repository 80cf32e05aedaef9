"""The log of a trial: what it works with on top, then its own lines and no others."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from autofocus.manifest import WeightsInfo
from autofocus.models import catalog
from autofocus.models.base import LoadedWeights
from autofocus.training.trial_log import LOG_NAME, draw_curves, trial_facts, trial_log

log = logging.getLogger("autofocus.training.anything")


@pytest.fixture(autouse=True)
def _verbose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "autofocus")


def test_a_trials_lines_stand_below_its_facts(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "1"
    log.info("before")
    with trial_log(folder, {"data": "photos", "precision": "bf16"}):
        log.info("epoch %d", 1)
        log.debug("not asked for")
    log.info("after")
    with trial_log(folder, {"data": "photos", "precision": "bf16"}):
        log.warning("resumed")
    lines = (folder / LOG_NAME).read_text(encoding="utf-8").splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines[:3]] == ["began", "data", "precision"]
    assert lines[1:3] == ["data       photos", "precision  bf16"]
    assert lines[3].endswith(" epoch 1")
    assert lines[4].startswith("began ")
    assert lines[7].endswith(" resumed")
    assert len(lines) == 8
    assert logging.getLogger("autofocus").handlers == []


def test_an_error_lets_go_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), trial_log(tmp_path, {}):
        raise ValueError("bad")
    assert logging.getLogger("autofocus").handlers == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_line_that_cannot_be_written_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with trial_log(tmp_path, {}):
        (handler,) = logging.getLogger("autofocus").handlers
        assert isinstance(handler, logging.FileHandler)
        handler.stream.close()
        handler.stream = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115  closed by the log
        log.info("lost")
    assert handler.stream is None
    assert "Traceback" not in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / LOG_NAME).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"), trial_log(tmp_path / "full", {}):
        pytest.fail("a disk that is full from the start is said")


def test_facts_name_data_model_weights_licence_device_precision_and_budget() -> None:
    info = WeightsInfo("embedded", "apache-2.0", "ab12")
    spec = catalog.resolve("test_resnet")
    weights, device = LoadedWeights(spec, None, info, "line"), torch.device("cpu")
    facts = trial_facts(weights, device, "no", time.monotonic() + 90.4, "photos", 7, None)
    assert facts["data"] == "photos: 7 images to learn from, a share of them to judge by"
    assert facts["model"] == "test_resnet.r160_in1k"
    assert facts["weights"] == "embedded ab12"
    assert facts["licence"] == "apache-2.0"
    assert facts["device"] == "cpu, 1 thread"
    assert facts["precision"] == "fp32"
    assert facts["budget"] == "90 s left"
    other = trial_facts(weights, device, "bf16", None, "photos", 7, 7)
    assert (other["precision"], other["budget"]) == ("bf16", "none")
    assert other["data"] == "photos: 7 images to learn from, 7 images to judge by"


START = {"epoch": 0, "loss": None, "log_loss": 1.0, "accuracy": 0.3, "is_best": True}
FIRST = {"epoch": 1, "loss": 0.9, "log_loss": 0.8, "accuracy": 0.6, "is_best": True}
SECOND = {"epoch": 2, "loss": 0.7, "log_loss": 0.9, "accuracy": 0.5, "is_best": False}
HALVES = (slice(0, 450), slice(450, 900))


def drawn(rows: list[dict[str, Any]], folder: Path, metric: str = "accuracy") -> np.ndarray:
    metrics, picture = folder / "metrics.jsonl", folder / "curves.png"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(metrics, picture, metric)
    image = cv2.imread(str(picture))
    assert image is not None
    return image


def test_picture_shows_the_curves(tmp_path: Path) -> None:
    image = drawn([START, FIRST, SECOND], tmp_path)
    assert image.shape == (360, 900, 3)
    # Changed inside the axes' limits, so that nothing but the curve moves.
    loss = drawn([START, FIRST, {**SECOND, "loss": 0.75, "log_loss": 0.7}], tmp_path)
    accuracy = drawn([START, {**FIRST, "accuracy": 0.55}, {**SECOND, "accuracy": 0.6}], tmp_path)
    differs = [[(image != other)[:, half].any() for half in HALVES] for other in (loss, accuracy)]
    assert differs == [[True, False], [False, True]]


def test_the_kept_epoch_is_marked(tmp_path: Path) -> None:
    image = drawn([START, FIRST, SECOND], tmp_path)
    other = drawn([START, {**FIRST, "is_best": False}, SECOND], tmp_path)
    assert (image[:, 450:] != other[:, 450:]).any()


@pytest.mark.parametrize(
    "rows",
    [
        [START],
        [{**START, "log_loss": None, "accuracy": None, "is_best": False}],
        [{**FIRST, "accuracy": None}, {**SECOND, "accuracy": None}],
        [{"epoch": 0, "is_best": False}],
    ],
    ids=["start only", "nothing defined", "metric undefined", "no metric"],
)
def test_missing_values_are_left_out_without_a_warning(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert drawn(rows, tmp_path).shape == (360, 900, 3)


def test_overfitting_can_be_seen(tmp_path: Path) -> None:
    watched = {"validation_loss": 0.85, "training_accuracy": 0.58}
    plain = drawn([START, FIRST, SECOND], tmp_path)
    image = drawn([START, {**FIRST, **watched}, {**SECOND, **watched}], tmp_path)
    assert all((image != plain)[:, half].any() for half in HALVES)
