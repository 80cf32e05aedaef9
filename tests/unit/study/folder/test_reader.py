"""A run folder at one moment: what is read of it, and what is not read again."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from autofocus.study.folder.reader import RunReader
from support.run_folders import begin_trial, end_trial, evaluate, write_progress, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two trials ended, the second is served; a third runs."""
    write_run(tmp_path)
    for number, values in enumerate([[0.5, 0.6], [0.5, 0.9]]):
        begin_trial(tmp_path, number)
        evaluate(tmp_path, number, values)
        end_trial(tmp_path, number, max(values))
    begin_trial(tmp_path, 2)
    evaluate(tmp_path, 2, [0.5, None, 0.7])
    (tmp_path / "best_model").symlink_to("models/2")
    write_progress(tmp_path, text="trial 3 of 9")
    return tmp_path


def test_what_a_folder_shows(run: Path) -> None:
    seen = RunReader(run, process=7).read()
    assert (seen.status, seen.process, seen.progress["text"]) == ("running", 7, "trial 3 of 9")
    assert (seen.task, seen.metric) == ("image_classification", "accuracy")
    assert (seen.num_trials, len(seen.leaderboard)) == (9, 2)
    assert (seen.progress["started"], seen.progress["eta"]) == (1000.0, 1600.0)
    assert [(trial.id, trial.value, trial.seconds) for trial in seen.best] == [
        ("1", 0.9, 12.5),
        ("0", 0.6, 12.5),
    ]
    assert seen.best[0].curve == (0.5, 0.9)
    assert seen.served == "1"
    assert seen.is_several


def test_a_trial_under_way(run: Path) -> None:
    (trial,) = RunReader(run, process=7).read().running
    assert (trial.id, trial.status, trial.value) == ("2", "running", 0.7)
    assert trial.curve == (0.5, None, 0.7)
    assert (trial.epochs, trial.num_epochs) == (2, 5)
    # 10 steps an epoch of 16 images and two batches each, in 4 seconds.
    assert trial.images_a_second == 80
    assert trial.began == (run / "trials/2/trial.json").stat().st_mtime_ns / 1e9


def test_little_is_known_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    write_run(tmp_path, search_space=None)
    seen = RunReader(tmp_path).read()
    assert (seen.status, seen.process, seen.metric) == ("unfinished", None, "accuracy")
    assert (seen.best, seen.running, seen.served, seen.num_trials) == ((), (), None, 9)
    assert not seen.is_several


def test_files_may_vanish_under_the_reader(run: Path) -> None:
    """`train --overwrite` clears a folder that another process follows."""
    reader = RunReader(run, process=7)
    reader.read()
    for path in (run / "job.yml", run / "leaderboard.json", run / "decisions.jsonl"):
        path.unlink()
    seen = reader.read()
    assert (seen.task, seen.metric, seen.num_trials, seen.best) == ("", "", 9, ())


def test_files_that_are_being_written_are_no_change(run: Path) -> None:
    """They vanish, and `best_model` may link to what is gone."""
    (run / ".leaderboard.json.x7").symlink_to("gone")
    os.utime(run / "job.yml", (2e9, 2e9))
    assert RunReader(run).read().changed() == f"{datetime.fromtimestamp(2e9):%Y-%m-%d %H:%M:%S}"


def test_the_served_trial_is_known_where_links_are_missing(run: Path) -> None:
    (run / "best_model").unlink()
    (run / "best_model").mkdir()
    (run / "best_model.json").write_text('{"model": "models/1"}')
    assert RunReader(run).read().served == "0"


def test_a_run_without_progress_shows_what_its_job_says(run: Path) -> None:
    (run / "progress.json").unlink()
    seen = RunReader(run, process=7).read()
    assert (seen.metric, seen.num_trials, seen.progress) == ("accuracy", 9, {})
    assert seen.is_several
    assert seen.best[0].curve == (0.5, 0.9)


@pytest.mark.parametrize(
    ("changed", "is_several"),
    [({"num_trials": 1}, False), ({"num_trials": None}, True)],
)
def test_a_single_run_is_not_several(run: Path, changed: dict[str, Any], is_several: bool) -> None:
    write_progress(run, **changed)
    assert RunReader(run).read().is_several is is_several


def test_a_finished_run_has_nothing_under_way(run: Path) -> None:
    (run / "result.json").write_text("{}")
    seen = RunReader(run).read()
    assert (seen.status, seen.running, len(seen.best)) == ("finished", (), 2)


@pytest.mark.parametrize(
    "name", ["leaderboard.json", "progress.json", "trials/2/trial.json", "trials/2/metrics.jsonl"]
)
def test_half_a_file_changes_nothing(run: Path, name: str) -> None:
    reader = RunReader(run, process=7)
    before = reader.read()
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])
    seen = reader.read()
    assert [trial.id for trial in seen.running] == ["2"]
    assert (seen.best, seen.progress, seen.running[0].curve) == (
        before.best,
        before.progress,
        before.running[0].curve,
    )


def test_half_a_file_at_the_first_look_is_not_known_yet(run: Path) -> None:
    text = (run / "leaderboard.json").read_bytes()
    (run / "leaderboard.json").write_bytes(text[:-10])
    reader = RunReader(run, process=7)
    assert reader.read().best == ()
    (run / "leaderboard.json").write_bytes(text)
    assert len(reader.read().best) == 2


def test_what_ends_and_what_begins_is_seen(run: Path) -> None:
    reader = RunReader(run, process=7)
    reader.read()
    end_trial(run, 2, 0.95)
    begin_trial(run, 10)
    begin_trial(run, 9)
    seen = reader.read()
    assert [trial.id for trial in seen.best] == ["2", "1", "0"]
    assert [trial.id for trial in seen.running] == ["9", "10"]


def test_a_trial_that_goes_on_is_under_way_again(run: Path) -> None:
    end_trial(run, 2, 0.7, status="stopped")
    reader = RunReader(run, process=7)
    assert reader.read().running == ()
    row = json.loads((run / "trials/2/trial.json").read_text())
    (run / "trials/2/trial.json").write_text(json.dumps({**row, "status": "running"}))
    assert [trial.id for trial in reader.read().running] == ["2"]


def test_half_a_decision_is_read_once_it_is_whole(run: Path) -> None:
    reader = RunReader(run, process=7)
    reader.read()
    line = b'{"decision":"recipe","trial":"2","num_epochs":30}\n'
    with (run / "decisions.jsonl").open("ab") as file:
        file.write(line[:30])
        file.flush()
        assert reader.read().running[0].num_epochs == 5
        file.write(line[30:])
    assert reader.read().running[0].num_epochs == 30


def test_undefined_values_may_be_written_as_nan(run: Path) -> None:
    evaluate(run, 2, [0.5, float("nan"), 0.6])
    (trial,) = RunReader(run, process=7).read().running
    assert trial.curve == (0.5, None, 0.6)
    assert trial.value == 0.6


def test_of_a_thousand_trials_only_what_changed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    rows = []
    for number in range(1000):
        folder = tmp_path / "trials" / str(number)
        folder.mkdir(parents=True)
        row = {"id": str(number), "model": "m", "status": "completed", "value": 1 - number / 1000}
        rows.append(row)
        (folder / "trial.json").write_text(json.dumps(row))
    (tmp_path / "leaderboard.json").write_text(json.dumps(rows))
    begin_trial(tmp_path, 1000)
    evaluate(tmp_path, 1000, [0.1, 0.2])
    (tmp_path / "best_model").symlink_to("models/1")
    reader = RunReader(tmp_path, process=7)
    reader.read()
    looked: list[str] = []
    read: list[str] = []
    stat, read_bytes = Path.stat, Path.read_bytes

    def counted_stat(self: Path, **options: Any) -> os.stat_result:
        looked.append(self.name)
        return stat(self, **options)

    def counted_read(self: Path) -> bytes:
        read.append(self.name)
        return read_bytes(self)

    monkeypatch.setattr(Path, "stat", counted_stat)
    monkeypatch.setattr(Path, "read_bytes", counted_read)
    reader.read()
    # Two files of each trial that is shown, and a handful of the run.
    assert len(looked) < 30
    assert read == []
    evaluate(tmp_path, 1000, [0.1, 0.2, 0.3])
    assert reader.read().running[0].value == 0.3
    assert read == ["metrics.jsonl"]
