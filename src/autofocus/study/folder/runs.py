"""Read run folders for lists and tables, without torch."""

import json
import logging
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from autofocus.errors import RunFolderError
from autofocus.run_format import RUN_NAME, check_run_format
from autofocus.study.folder.run_folder import driver_of

REQUEST_NAME = "request.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunView:
    """State of a run, as its folder has it now.

    Attributes:
        path: The folder.
        status: `running`, `finished`, or `unfinished`: the same command goes on with it.
        process: Id of the driver's process; None where none is running.
        task: The task's published name.
        metric: Primary metric.
        changed: Local time of the folder's last change.
        leaderboard: Rows of ended trials, the best first.
        running: Rows of running trials.
        result: Output of `train --json`; None until it is finished.
        job: The job, with every default.
    """

    path: Path
    status: str
    process: int | None
    task: str
    metric: str
    changed: str
    leaderboard: list[dict[str, Any]]
    running: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    job: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any]:
        """Row of the published trial, else the leaderboard's first; {} where it is empty."""
        published = None if self.result is None else self.result.get("best_trial")
        rows = [row for row in self.leaderboard if row["id"] == published]
        return next(iter(rows or self.leaderboard), {})

    def curve(self, trial: str) -> list[float | None]:
        """Return the primary metric at each evaluation of a trial; undefined values are None."""
        path = self.path / "trials" / trial / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line).get(self.metric) for line in lines]


def find_runs(root: Path) -> list[RunView]:
    """Return the runs in a folder, the last changed first.

    Runs of another format are logged and left out.

    Args:
        root: Parent of run folders, such as `runs/`.
    """
    found = []
    for owner in root.glob(f"*/{RUN_NAME}"):
        try:
            found.append(read_run(owner.parent))
        except RunFolderError as error:
            log.warning("%s", error)
    return sorted(found, key=lambda run: run.changed, reverse=True)


def read_run(path: Path) -> RunView:
    """Return the state of the run in a folder.

    Raises:
        RunFolderError: If it is no run folder, or of another format.
    """
    if not (path / RUN_NAME).exists():
        raise RunFolderError(
            f"{path}: not a run folder ({RUN_NAME} is missing). 'autofocus runs list' shows them."
        )
    check_run_format(path)
    job = yaml.safe_load((path / "job.yml").read_text(encoding="utf-8"))
    metric, process = str(job["primary_metric"]), driver_of(path)
    result = _json(path / "result.json")
    unfinished = "unfinished" if process is None else "running"
    changed = max(entry.stat().st_mtime for entry in path.iterdir())
    return RunView(
        path=path,
        status=unfinished if result is None else "finished",
        process=process,
        task=str(job["task"]),
        metric=metric,
        changed=f"{datetime.fromtimestamp(changed):%Y-%m-%d %H:%M:%S}",
        leaderboard=_json(path / "leaderboard.json") or [],
        running=[] if result is not None else _running(path),
        result=result,
        job=job,
    )


def differences(runs: Iterable[RunView]) -> dict[str, list[Any]]:
    """Return the job keys that differ between runs, with each run's value."""
    flat = [_flat(run.job) for run in runs]
    keys = dict.fromkeys(key for job in flat for key in job if key != "output_dir")
    values = {key: [job.get(key) for job in flat] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def request(path: Path) -> tuple[dict[str, Any], Path]:
    """Return the job that a run was started with, and the folder its paths are relative to.

    Raises:
        RunFolderError: If the request is missing, or the folder is of another format.
    """
    check_run_format(path)
    asked = _json(path / REQUEST_NAME)
    if asked is None:
        raise RunFolderError(
            f"{path}: does not say what it was begun with ({REQUEST_NAME} is missing). "
            "Give 'autofocus train' the same job again."
        )
    return {**asked["job"], "output_dir": str(path.resolve())}, Path(asked["folder"])


def stop_run(path: Path) -> int:
    """Ask a run's driver to save its running trials and stop; return its process id.

    Raises:
        RunFolderError: If nothing is running there.
    """
    process = read_run(path).process
    if process is None:
        raise RunFolderError(f"{path}: nothing is running here.")
    os.kill(process, signal.SIGTERM)
    return process


def _running(path: Path) -> list[dict[str, Any]]:
    rows = [_json(trial) for trial in (path / "trials").glob("*/trial.json")]
    found = [row for row in rows if row is not None and row["status"] == "running"]
    return sorted(found, key=lambda row: int(row["id"]))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{name}.{key}" if name else str(key))
    return flat
