"""The real command, started by `torchrun` as several processes that train as one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.commands import run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="torchrun is for Linux and macOS")

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(photos: Path, folder: Path, num_processes: int, epochs: int) -> list[str]:
    launch = TORCHRUN if num_processes > 1 else ("-m",)
    settings = {
        "validation_crop_size": 32,
        "number_of_epochs": epochs,
        "training_batch_size": 6,
        "early_stopping": "false",
    }
    return [
        *(sys.executable, *launch, "autofocus", "train"),
        *("--task", "image_classification", "--data", str(photos)),
        *("--model", "test_resnet", "--weights", "random", "--device", "cpu"),
        *(f"--set=training_parameters.{name}={value}" for name, value in settings.items()),
        *("--output-dir", str(folder)),
    ]


def train(
    photos: Path, folder: Path, *arguments: str, num_processes: int = 2, epochs: int = 3
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(photos, folder, num_processes, epochs), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env=ENVIRONMENT,
    )


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "trials" / "1" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def decisions_of(folder: Path) -> list[str]:
    lines = (folder / "decisions.jsonl").read_text().splitlines()
    return [json.loads(line)["decision"] for line in lines]


@pytest.fixture(scope="module")
def trained(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "two"
    return folder, train(photo_folder, folder, "--json")


def test_one_conducts_and_both_train(trained: tuple[Path, Any], photo_folder: Path) -> None:
    folder, done = trained
    assert done.returncode == 0, done.stderr
    # One document on stdout, and no line twice on stderr.
    result = json.loads(done.stdout)
    said = [line for line in done.stderr.splitlines() if line.startswith(("epoch", "weights"))]
    assert len(said) == len(set(said)) == 4
    assert [trial["status"] for trial in result["trials"]] == ["completed", "completed"]
    assert decisions_of(folder).count("recipe") == 1
    scored = run("score", folder, photo_folder / "red" / "0.png")
    assert scored.returncode == 0, scored.stderr


def test_the_losses_are_those_of_one_process(
    trained: tuple[Path, Any], photo_folder: Path, tmp_path: Path
) -> None:
    one = train(photo_folder, tmp_path / "one", num_processes=1)
    assert one.returncode == 0, one.stderr
    rows, other_rows = metrics_of(tmp_path / "one"), metrics_of(trained[0])
    assert len(rows) == 4
    for name in ("loss", "log_loss", "learning_rate"):
        curve = [row[name] for row in rows if row[name] is not None]
        other_curve = [row[name] for row in other_rows if row[name] is not None]
        assert curve == pytest.approx(other_curve, abs=1e-4), name


@pytest.mark.slow
def test_a_finished_run_is_printed_once(trained: tuple[Path, Any], photo_folder: Path) -> None:
    folder, first = trained
    again = train(photo_folder, folder, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert again.stderr.count("finished before") == 1


def test_wrong_input_is_said_once_and_no_process_stays(photo_folder: Path, tmp_path: Path) -> None:
    done = train(photo_folder, tmp_path / "run", "--seed", "-3")
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_budget_ends_both(photo_folder: Path, tmp_path: Path) -> None:
    done = train(photo_folder, tmp_path / "run", "--budget", "120s", "--json", epochs=100_000)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["trials"][1]["reason"] == "budget"
    assert result["trials"][1]["epochs"] > 0


@pytest.mark.slow
def test_killed_it_goes_on_with_the_same_losses(
    trained: tuple[Path, Any], photo_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        command(photo_folder, folder, 2, 3), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 2/"):
                # The first process holds the folder; the others must not outlive it.
                os.kill(int((folder / "lock").read_text()), signal.SIGKILL)
    assert process.returncode != 0
    again = train(photo_folder, folder)
    assert again.returncode == 0, again.stderr
    assert "resumed after epoch" in again.stderr
    assert metrics_of(folder) == metrics_of(trained[0])
