"""A finished run goes on with more time or more trials, and a kill meanwhile loses nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

import autofocus
from autofocus.errors import JobError
from autofocus.study.folder.reader import request
from autofocus.study.scheduler import TrialController
from autofocus.training.loop import TrainingLoop
from support.tiny_jobs import decisions, tiny_job

SPACE = [{"learning_rate": {"type": "uniform", "min_value": 0.001, "max_value": 0.1}}]


class KilledError(BaseException):
    """The driver died: no trial survives that."""


def sweep(photos: Path, folder: Path, num_trials: int) -> dict[str, Any]:
    return autofocus.train(tiny_job(photos, num_trials, search_space=SPACE, output_dir=str(folder)))


def row_of(folder: Path, trial: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((folder / "trials" / trial / "trial.json").read_text())
    return row


def epochs_of(folder: Path, trial: str) -> int:
    return int(row_of(folder, trial)["epochs"])


def test_more_trials_give_what_so_many_from_the_start_do(
    photo_folder: Path, tmp_path: Path
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    first = sweep(photo_folder, run, 1)
    kept = (run / "trials/0/metrics.jsonl").stat().st_mtime_ns
    more = sweep(photo_folder, run, 3)
    at_once = sweep(photo_folder, whole, 3)
    assert (run / "trials/0/metrics.jsonl").stat().st_mtime_ns == kept, "not repeated"
    assert (run / "leaderboard.json").read_bytes() == (whole / "leaderboard.json").read_bytes()
    assert more["best_trial"] == at_once["best_trial"]
    assert more["seconds"] > first["seconds"]
    assert more["seconds_to_first_model"] == first["seconds_to_first_model"]
    fewer = sweep(photo_folder, run, 2)
    assert fewer == more, "it is finished"
    assert json.loads((run / "result.json").read_text())["max_trials"] == 3


def test_more_time_goes_on_with_the_training_that_time_ended(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time ends after as many steps as the test says, however fast the machine is."""
    run = tmp_path / "run"
    job = tiny_job(photo_folder, 1, output_dir=str(run))
    job["training_parameters"] |= {"number_of_epochs": 100_000, "early_stopping": False}
    monkeypatch.setattr(TrainingLoop, "_is_late", lambda training: training.at.step >= 9)
    first = autofocus.train(job, budget="20m")
    num_epochs, served = epochs_of(run, "1"), (run / "best_model").resolve()
    assert row_of(run, "1")["reason"] == "budget"
    assert autofocus.train(job, budget="10m") == first, "a smaller budget is over"

    monkeypatch.setattr(TrainingLoop, "_is_late", lambda training: training.at.step >= 21)
    with monkeypatch.context() as context:
        context.setattr(TrialController, "report", _killed)
        with pytest.raises(KilledError):
            autofocus.train(job, budget="40m")
    assert (run / "best_model").resolve() == served, "a kill loses nothing"
    assert autofocus.load(run).score([photo_folder / "red" / "0.png"])
    more = autofocus.train(job, budget="40m")

    assert epochs_of(run, "1") > num_epochs > 0
    assert more["seconds"] > first["seconds"]
    (goes_on,) = decisions(run, "goes_on")
    assert goes_on["trials"] == ["1"]
    assert goes_on["seconds_before"] == first["seconds"]
    reports = (run / "trials/1/metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(report)["epoch"] for report in reports]
    assert epochs == sorted(epochs), "it trained on and did not begin anew"
    assert not (run / "result.earlier.json").exists()
    assert autofocus.train(job, budget="40m") == more


def _killed(*_: object) -> None:
    raise KilledError


def test_resume_for_ten_minutes_is_ten_minutes_more(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1}')
    asked = {"task": "t", "budget": 300, "limits": {"timeout_minutes": 5, "max_trials": 4}}
    (tmp_path / "request.json").write_text(json.dumps({"job": asked, "folder": "."}))
    where = {"task": "t", "output_dir": str(tmp_path.resolve())}
    limits = {"max_trials": 4}
    assert request(tmp_path, "10m")[0] == where | {"budget": 600.0, "limits": limits}
    for name in ("result.earlier.json", "result.json"):
        (tmp_path / name).write_text('{"seconds": 280.5}')
        assert request(tmp_path, "10m")[0] == where | {"budget": 880.5, "limits": limits}
        assert request(tmp_path)[0] == where | asked
    with pytest.raises(JobError, match="--budget: must be seconds, or a number"):
        request(tmp_path, "soon")
