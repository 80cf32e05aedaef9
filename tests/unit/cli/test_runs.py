"""`autofocus runs`: what a folder says of its run, as a shell sees it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autofocus import api
from support.commands import invoke
from support.simulated_sweep import SimulatedExecutor, scheduled, sweep_job

HOLD = """
import sys, time
from pathlib import Path
from autofocus.study.folder.run_folder import hold_folder
held = hold_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def runs(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one whose three trials ended, one that was killed in its second trial."""
    root = tmp_path_factory.mktemp("runs")
    for name, seed in (("whole", 0), ("killed", 7)):
        folder, job = root / name, sweep_job(photo_folder, 3) | {"seed": seed}
        with scheduled(job, folder) as sweep:
            if name == "killed":
                job = job | {"limits": {"max_trials": 1}}
                assert sweep.next_trial() is not None
            else:
                executor = SimulatedExecutor(folder, _value, random.Random(0))
                executor.run(sweep)
        os.utime(folder / "job.yml", (2e9 + seed, 2e9 + seed))
    return root


def _value(number: int, epoch: int) -> float:
    return 0.5 + 0.1 * number + 0.01 * epoch


def ask(*arguments: object) -> tuple[int, str, str]:
    done = invoke("runs", *arguments)
    return done.exit_code, done.stdout, done.stderr


def document(*arguments: object) -> Any:
    status, said, complaint = ask(*arguments, "--json")
    assert status == 0, complaint
    return json.loads(said)


def test_list_has_the_last_changed_first(runs: Path) -> None:
    assert [Path(run["run"]).name for run in document("list", runs)] == ["killed", "whole"]
    status, said, _ = ask("list", runs)
    assert status == 0
    assert "3 trials  accuracy 0.7400  test_" in said
    assert ask("list", runs / "none")[1].strip().endswith("no runs")


def test_show_has_the_leaderboard_and_what_runs(runs: Path) -> None:
    whole = document("show", runs / "whole")
    assert [row["id"] for row in whole["leaderboard"]] == ["2", "1", "0"]
    assert whole["status"] == "unfinished", "there is no result.json"
    killed = document("show", runs / "killed")
    assert killed["leaderboard"] == []
    assert [row["status"] for row in killed["running"]] == ["running"]
    status, said, _ = ask("show", runs / "whole")
    assert status == 0
    (best,) = [line for line in said.splitlines() if line.startswith("    2")]
    assert "0.7400  " in best
    assert "▁" in best
    assert "█" in best
    assert "learning_rate 0.0" in best
    assert "accuracy" in said.splitlines()[2], "values have a name"


def test_undefined_values_are_gaps_of_a_curve(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(runs / "whole", folder, symlinks=True)
    with (folder / "trials/2/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9, "step": 90, "loss": 1.0, "accuracy": NaN}\n')
    status, said, complaint = ask("show", folder)
    assert status == 0, complaint
    assert "    2  0.7400  " in said


def test_watching_what_does_not_run_ends_after_one_look(runs: Path) -> None:
    status, said, _ = ask("show", runs / "whole", "--watch")
    assert status == 0
    assert len(said.splitlines()) == 1 + 3


def test_compare_says_where_jobs_differ(runs: Path) -> None:
    compared = document("compare", runs / "whole", runs / "killed")
    assert compared["differences"] == {"seed": [0, 7]}
    said = ask("compare", runs / "whole", runs / "killed")[1]
    assert "seed: 0 | 7" in said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_stop_asks_the_driver(runs: Path) -> None:
    folder = runs / "killed"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"held\n"
        assert document("show", folder)["status"] == "running"
        assert document("stop", folder)["process"] == driver.pid
        assert driver.wait(30) == -signal.SIGTERM
    status, _, complaint = ask("stop", folder)
    assert status == 2
    assert "nothing is running here" in complaint


def test_resume_asks_the_same_again_where_it_was_asked(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs / "whole"
    status, _, complaint = ask("resume", folder)
    assert status == 2
    assert "request.json is missing" in complaint
    asked = {"job": {"training_data": "rows.jsonl"}, "folder": str(tmp_path)}
    (folder / "request.json").write_text(json.dumps(asked))
    seen: list[Any] = []

    def train(job: dict[str, Any], **display: object) -> dict[str, Any]:
        seen.append((job, Path.cwd()))
        return {"value": 1}

    monkeypatch.setattr(api, "train", train)
    monkeypatch.chdir(tmp_path.parent)
    assert document("resume", folder) == {"value": 1}
    job = {"training_data": "rows.jsonl", "output_dir": str(folder.resolve())}
    assert seen == [(job, tmp_path)]


def test_what_is_no_run_folder_is_said(tmp_path: Path) -> None:
    status, _, complaint = ask("show", tmp_path)
    assert status == 2
    assert "not a run folder" in complaint


def test_a_run_of_another_format_is_refused_and_no_list_fails_on_it(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(runs / "whole", folder, symlinks=True)
    future = tmp_path / "future"
    future.mkdir()
    (future / "run.json").write_text('{"format": 7}')
    (future / "request.json").write_text('{"job": {}, "folder": "."}')
    for command in ("show", "compare", "resume", "stop"):
        status, _, complaint = ask(command, future)
        assert status == 2
        (line,) = complaint.splitlines()
        assert f"{future}: holds a run of format 7" in line
    status, listed, _ = ask("list", tmp_path)
    assert status == 0
    assert str(folder) in listed
    assert str(future) not in listed
    assert f"{future}: holds a run of format 7" in caplog.text
