"""Reader of run folders, for lists, tables and the live view; without torch.

A folder is plain files that are replaced whole while they are read here, from whichever process.
"""

import logging
import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import yaml

from autofocus.errors import JobError, RunFolderError
from autofocus.run_format import RUN_NAME, check_run_format
from autofocus.settings.fields import Duration
from autofocus.study.folder.run_folder import (
    EARLIER_NAME,
    RunProgress,
    best_model_name,
    driver_of,
    read_decisions,
    read_json,
    read_result_document,
)
from autofocus.study.folder.trial_folder import METRICS_NAME, TRIAL_NAME, UNFINISHED, parse_reports

REQUEST_NAME = "request.json"
# Trials of the leaderboard that are read for a view.
NUM_BEST = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialView:
    """State of a trial.

    Attributes:
        id: 0, 1, 2, …, or a name.
        model: The model's name in the catalog.
        status: `running`, `completed`, `terminated`, `stopped` or `failed`.
        value: Best value of the primary metric, so far if it is running.
        epochs: Finished epochs.
        num_epochs: Maximum epochs of its recipe; None where unknown.
        seconds: Duration; of a running trial until it was last interrupted.
        began: Unix time of its start or resumption; None where unknown.
        images_a_second: Training speed in its last epoch; None where unknown.
        reason: Reason why it ended.
        parameters: Its sampled parameters.
        curve: The primary metric at each evaluation; None is undefined.
        row: Its row, as `trial.json` has it.
    """

    id: str
    model: str
    status: str
    value: float | None
    epochs: int
    num_epochs: int | None
    seconds: float | None
    began: float | None
    images_a_second: float | None
    reason: str
    parameters: Mapping[str, Any]
    curve: tuple[float | None, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True)
class RunView:
    """State of a run, as its folder had it at one moment.

    Attributes:
        path: The folder.
        process: Id of the driver's process; None where none is running.
        job: The job, with every default.
        progress: Current activity; {} where unknown.
        leaderboard: Rows of ended trials, the best first.
        result: Output of `train --json`; None until it is finished.
        best: First trials of the leaderboard.
        running: Running trials, in the order of their numbers.
        served: Trial of `best_model`; None where unknown.
    """

    path: Path
    process: int | None
    job: Mapping[str, Any]
    progress: RunProgress
    leaderboard: list[dict[str, Any]]
    result: dict[str, Any] | None
    best: tuple[TrialView, ...]
    running: tuple[TrialView, ...]
    served: str | None

    @property
    def status(self) -> str:
        """`running`, `finished`, or `unfinished`: the same command goes on with it."""
        if self.result is not None:
            return "finished"
        return "unfinished" if self.process is None else "running"

    @property
    def task(self) -> str:
        """The task's published name."""
        return str(self.job.get("task") or "")

    @property
    def metric(self) -> str:
        """Primary metric."""
        return str(self.job.get("primary_metric") or "")

    @property
    def num_trials(self) -> int | None:
        """Maximum number of trials; None for no limit."""
        return self.progress.get("num_trials", (self.job.get("limits") or {}).get("max_trials"))

    @property
    def is_several(self) -> bool:
        """Whether there may be more trials than a single run has."""
        is_known = bool(self.progress) or bool(self.job.get("search_space"))
        return is_known and self.num_trials != 1

    @property
    def best_row(self) -> dict[str, Any]:
        """Row of the published trial, else the leaderboard's first; {} where it is empty."""
        published = None if self.result is None else self.result.get("best_trial")
        rows = [row for row in self.leaderboard if row["id"] == published]
        return next(iter(rows or self.leaderboard), {})

    def changed(self) -> str:
        """Return the local time of the folder's last change, as it is now."""
        with os.scandir(self.path) as entries:
            # Names with a dot are of files being written, which vanish.
            kept = [entry for entry in entries if not entry.name.startswith(".")]
        changed_s = max(entry.stat(follow_symlinks=False).st_mtime for entry in kept)
        return f"{datetime.fromtimestamp(changed_s):%Y-%m-%d %H:%M:%S}"


class RunReader:
    """Reads a run folder again and again, each time only the files that have changed.

    Args:
        path: The run folder.
        process: Id of the driver's process; None reads it from the folder's lock.

    Raises:
        RunFolderError: If it is no run folder, or of another format.
    """

    def __init__(self, path: Path, process: int | None = None) -> None:
        if not (path / RUN_NAME).exists():
            raise RunFolderError(
                f"{path}: not a run folder ({RUN_NAME} is missing). "
                "'autofocus runs list' shows them."
            )
        check_run_format(path)
        self._path = path
        self._process = process
        self._files = _Files()
        # Recipe by trial, and trial by the name of its published model's folder.
        self._recipes: dict[str, Mapping[str, Any]] = {}
        self._published: dict[str, str] = {}
        self._num_read = 0
        self._metric = ""

    def read(self, num_best: int = NUM_BEST) -> RunView:
        """Return the state of the run now, with the first `num_best` trials of its leaderboard."""
        path, read = self._path, self._files.read
        job = read(path / "job.yml", yaml.safe_load) or {}
        self._metric = str(job.get("primary_metric") or "")
        self._read_decisions()
        rows = read(path / "leaderboard.json", orjson.loads) or []
        result = read(path / "result.json", orjson.loads)
        progress: RunProgress | None = read(path / "progress.json", orjson.loads)
        is_over = result is not None
        return RunView(
            path=path,
            process=None if is_over else self._process or driver_of(path),
            job=job,
            progress=progress or {},
            leaderboard=rows,
            result=result,
            best=tuple(map(self.trial, rows[:num_best])),
            running=() if is_over else tuple(self._running(rows)),
            served=self._published.get(best_model_name(path) or ""),
        )

    def trial(self, ranked: Mapping[str, Any]) -> TrialView:
        """Return the state of a trial.

        Args:
            ranked: Its row of the leaderboard, or of `trial.json` while it is running.
        """
        folder = self._path / "trials" / ranked["id"]
        row = {**ranked, **(self._files.read(folder / TRIAL_NAME, orjson.loads) or {})}
        is_running = ranked["status"] == "running"
        if not is_running:
            # The leaderboard is newer than `trial.json`.
            row |= ranked
        reports = self._files.read(folder / METRICS_NAME, parse_reports) or []
        recipe = self._recipes.get(row["id"], {})
        curve = tuple(_defined(report.get(self._metric)) for report in reports)
        reached = [value for value in curve if value is not None]
        return TrialView(
            id=row["id"],
            model=str(row.get("model") or ""),
            status=str(row["status"]),
            value=max(reached, default=None) if is_running else row.get("value"),
            epochs=reports[-1]["epoch"] if is_running and reports else int(row.get("epochs") or 0),
            num_epochs=recipe.get("num_epochs"),
            seconds=row.get("seconds"),
            began=self._files.changed(folder / TRIAL_NAME) if is_running else None,
            images_a_second=_images_a_second(reports, recipe),
            reason=str(row.get("reason") or ""),
            parameters=row.get("parameters") or {},
            curve=curve,
            row=row,
        )

    def _running(self, rows: Iterable[Mapping[str, Any]]) -> Iterable[TrialView]:
        # Reading no trial that has ended keeps a view of a thousand trials cheap.
        ended = {row["id"] for row in rows if row["status"] not in UNFINISHED}
        for name in sorted(_names(self._path / "trials") - ended, key=_order):
            row = self._files.read(self._path / "trials" / name / TRIAL_NAME, orjson.loads)
            if row is not None and row["status"] == "running":
                yield self.trial(row)

    def _read_decisions(self) -> None:
        made, self._num_read = read_decisions(self._path, self._num_read)
        for each in made:
            if each["decision"] == "recipe" and "trial" in each:
                self._recipes[each["trial"]] = each
            elif each["decision"] == "best_model":
                self._published[Path(each["model"]).name] = each["trial"]


class _Files:
    """Parsed files, read again only when they have changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def read(self, path: Path, parse: Callable[[bytes], Any]) -> Any:
        """Return the content, or None where there is no file."""
        before = self._known.get(path)
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if before is None or before[0] != stamp:
                self._known[path] = before = stamp, parse(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(path, None)
            return None
        except (OSError, ValueError, yaml.YAMLError):
            # The file is being replaced, not atomically on some file systems: the last content
            # holds until the next read.
            return None if before is None else before[1]
        return before[1]

    def changed(self, path: Path) -> float | None:
        """Return the Unix time of the last change of a file that was read, or None."""
        known = self._known.get(path)
        return None if known is None else known[0][0] / 1e9


def find_runs(root: Path) -> list[RunView]:
    """Return the runs in a folder without their trials, the last changed first.

    Runs of another format are logged and left out.

    Args:
        root: Parent of run folders, such as `runs/`.
    """
    found = []
    for owner in root.glob(f"*/{RUN_NAME}"):
        try:
            found.append(RunReader(owner.parent).read(num_best=0))
        except RunFolderError as error:
            log.warning("%s", error)
    return sorted(found, key=RunView.changed, reverse=True)


def request(path: Path, more: str | None = None) -> tuple[dict[str, Any], Path]:
    """Return the job that a run was started with, and the folder its paths are relative to.

    Args:
        path: The run folder.
        more: Time to go on for, such as `10m`, in place of the job's own budget; None keeps that.

    Raises:
        RunFolderError: If the request is missing, or the folder is of another format.
        JobError: If `more` is no time.
    """
    check_run_format(path)
    asked = read_json(path / REQUEST_NAME)
    if asked is None:
        raise RunFolderError(
            f"{path}: does not say what it was begun with ({REQUEST_NAME} is missing). "
            "Give 'autofocus train' the same job again."
        )
    job = {**asked["job"], "output_dir": str(path.resolve())}
    if more is not None:
        job |= _more_time(path, job, more)
    return job, Path(asked["folder"])


def _more_time(path: Path, job: Mapping[str, Any], more: str) -> dict[str, Any]:
    """Return the keys of a job whose run goes on for `more` after what it has taken."""
    try:
        more_s = Duration().parse(more)
    except ValueError as error:
        raise JobError(f"--budget: must be {error}, got {more!r}.") from None
    before = read_result_document(path) or read_json(path / EARLIER_NAME) or {"seconds": 0.0}
    limits = job.get("limits") or {}
    return {
        "budget": before["seconds"] + more_s,
        # The smaller of the two would hold.
        "limits": {key: limits[key] for key in limits if key != "timeout_minutes"},
    }


def stop_run(path: Path) -> int:
    """Ask a run's driver to save its running trials and stop; return its process id.

    Raises:
        RunFolderError: If nothing is running there.
    """
    process = RunReader(path).read(num_best=0).process
    if process is None:
        raise RunFolderError(f"{path}: nothing is running here.")
    os.kill(process, signal.SIGTERM)
    return process


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _images_a_second(
    reports: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]
) -> float | None:
    if len(reports) < 2 or not reports[-1].get("seconds") or "batch_size" not in recipe:
        return None
    before, last = reports[-2:]
    if last["epoch"] <= before["epoch"]:
        # The budget cut the epoch short.
        return None
    steps_an_epoch = (last["step"] - before["step"]) / (last["epoch"] - before["epoch"])
    images_a_step = recipe["batch_size"] * recipe.get("accumulation", 1)
    return float(steps_an_epoch * images_a_step / last["seconds"])


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _order(name: str) -> tuple[bool, int, str]:
    return name.isdigit(), int(name) if name.isdigit() else 0, name
