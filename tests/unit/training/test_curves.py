"""The picture of a trial."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autofocus.training.curves import draw_curves

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
