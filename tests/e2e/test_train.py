"""The real command, from photos to a servable model."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import autofocus
from support.commands import command_line, run

# The frozen probe alone: what is tested here does not depend on how long training goes on.
PROBE_ONLY = (
    *("--set", "training_parameters.number_of_epochs=0"),
    *("--set", "limits.max_trials=1"),
)


@pytest.fixture(scope="module")
def trained(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    output = tmp_path_factory.mktemp("runs") / "run"
    done = run(
        "train",
        *("--task", "image_classification", "--data", photo_folder),
        *("--test-data", photo_folder, "--output-dir", output, "--json", *PROBE_ONLY),
    )
    assert done.returncode == 0, done.stderr
    assert "tf_efficientnet_lite0" in done.stderr
    assert "apache-2.0" in done.stderr
    return json.loads(done.stdout)


def test_result_document_has_the_promised_shape(trained: dict) -> None:
    assert set(trained) == {
        "best_model",
        "best_trial",
        "run",
        "task",
        "primary_metric",
        "value",
        "metrics",
        "metrics_of",
        "intervals",
        "test_metrics",
        "test_thresholds",
        "thresholds",
        "seconds",
        "seconds_to_first_model",
        "budget_s",
        "max_trials",
        "verdict",
        "trials",
    }
    assert trained["primary_metric"] == "accuracy"
    assert trained["value"] == trained["metrics"]["accuracy"]
    assert trained["test_metrics"]["accuracy"] > 0.9
    verdict = trained["verdict"]
    assert verdict["is_useful"] is True
    # The commonest of three classes among the few images that judge.
    assert 1 / 3 <= verdict["baseline"]["metrics"]["accuracy"] <= 0.5
    assert verdict["limited_by"] is None
    assert 0 < trained["seconds_to_first_model"] <= trained["seconds"]
    (trial,) = trained["trials"]
    assert set(trial) == {"id", "model", "status", "value", "epochs", "seconds", "reason"}
    assert trial["status"] == "completed"


def test_run_folder_is_the_truth(trained: dict) -> None:
    folder = Path(trained["run"])
    for name in ("job.yml", "data_check.json", "leaderboard.json", "decisions.jsonl"):
        assert (folder / name).stat().st_size > 0
    assert os.readlink(folder / "best_model") == "models/1"
    trial = folder / "trials" / "0"
    manifest, served = (
        json.loads((place / "manifest.json").read_bytes()) for place in (trial, folder / "models/1")
    )
    assert manifest["metrics"] == served["metrics"]
    assert manifest["labels"] == served["labels"]
    facts = dict(line.split(maxsplit=1) for line in (trial / "log.txt").read_text().splitlines())
    assert facts["model"].startswith("tf_efficientnet_lite0")
    assert facts["licence"] == "apache-2.0"
    assert facts["precision"] == "fp32"
    assert facts["budget"] == "none"
    assert "24 images to learn from" in facts["data"]
    assert " features of 24 images" in (trial / "log.txt").read_text()


def test_finished_run_is_printed_not_repeated(trained: dict, photo_folder: Path) -> None:
    started_s = time.monotonic()
    again = run(
        "train",
        *("--task", "image_classification", "--data", photo_folder),
        *("--test-data", photo_folder, "--output-dir", trained["run"], "--json", *PROBE_ONLY),
    )
    assert again.returncode == 0
    assert json.loads(again.stdout) == trained
    assert "finished before" in again.stderr
    assert time.monotonic() - started_s < trained["seconds"]


def test_other_job_in_the_folder_is_refused(trained: dict, photo_folder: Path) -> None:
    other = run(
        "train",
        *("--task", "image_classification", "--data", photo_folder),
        *("--seed", 7, "--output-dir", trained["run"], "--json", *PROBE_ONLY),
    )
    assert other.returncode == 2
    assert "seed" in other.stderr
    assert json.loads(other.stdout)["error"]["type"] == "RunFolderError"


def test_evaluate_agrees_with_the_test_metrics(trained: dict, photo_folder: Path) -> None:
    done = run("evaluate", trained["best_model"], "--data", photo_folder, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["num_images"] == 24
    assert document["metrics"] == trained["test_metrics"]


def test_python_door_scores_the_same_model(trained: dict, photo_folder: Path) -> None:
    (reply,) = autofocus.load(trained["run"]).score([photo_folder / "red" / "0.png"])
    assert reply["labels"] == ["blue", "green", "red"]
    assert max(zip(reply["probs"], reply["labels"], strict=True))[1] == "red"


def test_same_seed_gives_the_same_leaderboard(photo_folder: Path, tmp_path: Path) -> None:
    boards = []
    for name in ("a", "b"):
        autofocus.train(
            task="image_classification",
            data=str(photo_folder),
            output_dir=str(tmp_path / name),
            seed=3,
            model="test_resnet",
            weights="random",
            training_parameters={"number_of_epochs": 1, "validation_crop_size": 32},
        )
        boards.append((tmp_path / name / "leaderboard.json").read_bytes())
        kept = {path.name for path in (tmp_path / name / "trials" / "1").iterdir()}
        assert kept >= {"manifest.json", "log.txt", "metrics.jsonl", "curves.png", "best"}
    assert boards[0] == boards[1]


def test_all_problems_of_a_job_come_at_once(tmp_path: Path) -> None:
    done = run("train", "--task", "nonsense", "--data", "x", "--budget", "soon", "--model", "no")
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 3
    assert "Traceback" not in done.stderr


def test_killed_run_starts_again_where_its_features_are(photo_folder: Path, tmp_path: Path) -> None:
    arguments = (
        "train",
        *("--task", "image_classification", "--data", photo_folder, "--seed", "5"),
        *("--output-dir", tmp_path / "run", "--json", *PROBE_ONLY),
    )
    first = subprocess.Popen(
        command_line(*arguments), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert first.stderr is not None
    for line in first.stderr:
        if b"features of" in line:
            first.send_signal(signal.SIGKILL)
            break
    first.communicate()
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"][0]["status"] == "completed"
