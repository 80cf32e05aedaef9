"""Curves: what counts as an interval, and what a kill makes measured twice."""

import json
from pathlib import Path

from autofocus.study.folder.trial_folder import (
    Curve,
    drop_checkpoint,
    last_epoch,
    read_curve,
    read_row,
)


def report(step: int, value: float | None, loss: float | None = 0.5) -> dict:
    return {"epoch": step // 10, "step": step, "loss": loss, "accuracy": value}


def test_what_training_starts_from_is_no_interval() -> None:
    curve = Curve()
    assert not curve.add(report(0, 0.9, loss=None), "accuracy")
    assert curve.add(report(10, 0.5), "accuracy")
    assert (curve.interval, curve.points) == (1, [(1, 0.5)])


def test_an_undefined_value_counts_but_has_no_point() -> None:
    curve = Curve()
    for step, value in ((10, 0.5), (20, None), (30, 0.7)):
        curve.add(report(step, value), "accuracy")
    assert (curve.interval, curve.points) == (3, [(1, 0.5), (3, 0.7)])


def test_what_is_measured_again_replaces_what_was_known() -> None:
    curve = Curve()
    points = curve.points
    for step, value in ((10, 0.5), (20, 0.6), (30, None), (20, 0.65)):
        curve.add(report(step, value), "accuracy")
    assert (curve.interval, curve.points) == (2, [(1, 0.5), (2, 0.65)])
    assert points is curve.points


def test_a_folder_tells_its_curve_and_epoch(tmp_path: Path) -> None:
    assert read_curve(tmp_path, "accuracy").interval == 0
    assert last_epoch(tmp_path) == 0
    rows = [report(0, 0.1, loss=None), report(10, 0.5), report(20, 0.6)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_curve(tmp_path, "accuracy").points == [(1, 0.5), (2, 0.6)]
    assert last_epoch(tmp_path) == 2
    assert read_row(tmp_path) is None


def test_only_what_goes_on_needs_is_dropped(tmp_path: Path) -> None:
    for name in ("last", ".last-new", ".last-old", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tensors.safetensors").write_bytes(b"x")
    drop_checkpoint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
