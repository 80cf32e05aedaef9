"""Run folders as a sweep leaves them, without a sweep."""

import json
from pathlib import Path
from typing import Any

from autofocus.runtime import write_atomically
from autofocus.study.folder.run_folder import Leaderboard


def write_run(folder: Path, **job: Any) -> None:
    """Begin a run of nine trials."""
    known = {
        "task": "image_classification",
        "primary_metric": "accuracy",
        "limits": {"max_trials": 9},
        "search_space": [{"learning_rate": "uniform(0.001, 0.1)"}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text('{"identity": "abc"}')
    # YAML reads JSON.
    (folder / "job.yml").write_text(json.dumps(known | job))


def write_progress(folder: Path, **changed: Any) -> None:
    """Say what happens now."""
    progress = {
        "step": "trials",
        "text": "trial 1 of 9",
        "primary_metric": "accuracy",
        "num_trials": 9,
        "started": 1000.0,
        "deadline": None,
        "eta": 1600.0,
    }
    write_atomically(folder / "progress.json", json.dumps(progress | changed).encode())


def begin_trial(folder: Path, number: int, model: str = "tiny_net") -> None:
    """Write down that a trial is running."""
    row = {"id": str(number), "model": model, "status": "running", "value": None}
    row |= {"epochs": 0, "seconds": 0.0, "reason": "", "parameters": {"learning_rate": 0.0123456}}
    _write_row(folder, row)
    recipe = {"decision": "recipe", "trial": str(number), "num_epochs": 5, "batch_size": 16}
    _decide(folder, recipe | {"accumulation": 2})


def evaluate(folder: Path, number: int, values: list[float | None]) -> None:
    """Write a trial's evaluations of the primary metric, the first before training."""
    lines = "".join(
        json.dumps(
            {"epoch": epoch, "step": 10 * epoch, "seconds": 4.0 * bool(epoch), "accuracy": v}
        )
        + "\n"
        for epoch, v in enumerate(values)
    )
    write_atomically(folder / "trials" / str(number) / "metrics.jsonl", lines.encode())


def end_trial(
    folder: Path, number: int, value: float | None, status: str = "completed", reason: str = "done"
) -> None:
    """Write down what a trial came to, rank it, and say that it was packaged."""
    path = folder / "trials" / str(number) / "trial.json"
    row = json.loads(path.read_text())
    row |= {"status": status, "value": value, "epochs": 1, "seconds": 12.5, "reason": reason}
    _write_row(folder, row)
    board = Leaderboard()
    for trial in sorted((folder / "trials").glob("*/trial.json")):
        if (each := json.loads(trial.read_text()))["status"] != "running":
            board.add(each)
    write_atomically(folder / "leaderboard.json", board.json())
    made = {"decision": "best_model", "trial": str(number), "model": f"models/{number + 1}"}
    _decide(folder, made)


def _write_row(folder: Path, row: dict[str, Any]) -> None:
    write_atomically(folder / "trials" / row["id"] / "trial.json", json.dumps(row).encode())


def _decide(folder: Path, line: dict[str, Any]) -> None:
    with (folder / "decisions.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
