"""Snapshots of a run folder, cheap to take again and again.

The folder is plain files that are replaced whole while they are read here, from whichever process.
Imports no torch and draws nothing.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml

from autofocus.study.folder.run_folder import BEST_MODEL, driver_of

# Statuses of trials that have not ended.
UNFINISHED = ("running", "stopped")
NUM_BEST = 8


class Point(NamedTuple):
    """An evaluation of a trial; epoch 0 is what training starts from.

    Attributes:
        epoch: Finished epochs.
        step: Optimiser steps so far.
        value: Value of the primary metric; None is undefined.
        epoch_s: Seconds of the last epoch, without the evaluation.
    """

    epoch: int
    step: int
    value: float | None
    epoch_s: float


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


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment; times are Unix times.

    Attributes:
        path: The folder.
        status: `running`, `finished`, or `unfinished`: the same command goes on with it.
        process: Id of the driver's process; None where none is running.
        task: The task's published name; empty where unknown.
        metric: Primary metric; empty where unknown.
        text: Current activity; empty where unknown.
        num_trials: Maximum number of trials; None for no limit.
        num_ranked: Rows of the leaderboard, with those of a probe or a soup.
        counts: Number of numbered trials in the leaderboard by status.
        best: First trials of the leaderboard.
        running: Running trials, in the order of their numbers.
        served: Trial of `best_model`; None where unknown.
        started: Time of the run's start.
        deadline: Time at which the budget ends; None without one.
        eta: Expected time of the end; None where unknown.
        is_several: Whether there may be more trials than a single run has.
    """

    path: Path
    status: str
    process: int | None
    task: str
    metric: str
    text: str
    num_trials: int | None
    num_ranked: int
    counts: Mapping[str, int]
    best: tuple[TrialView, ...]
    running: tuple[TrialView, ...]
    served: str | None
    started: float | None
    deadline: float | None
    eta: float | None
    is_several: bool

    @property
    def num_ended(self) -> int:
        """Number of numbered trials in the leaderboard."""
        return sum(self.counts.values())


class RunReader:
    """Takes snapshots of a run folder; reads only files that have changed.

    Args:
        path: The run folder; files may be missing as yet.
        num_best: Trials of the leaderboard to include.
        process: Id of the driver's process; None reads it from the folder's lock.
    """

    def __init__(self, path: Path, num_best: int = NUM_BEST, process: int | None = None) -> None:
        self._path = path
        self._num_best = num_best
        self._process = process
        self._json = _Files(orjson.loads)
        self._yaml = _Files(yaml.safe_load)
        self._curves = _Files(partial(_points, metric=""))
        self._decisions = _Decisions(path / "decisions.jsonl")
        self._metric = ""

    def look(self) -> Snapshot:
        """Return a snapshot of the folder."""
        path = self._path
        job = self._yaml.read(path / "job.yml") or {}
        progress = self._json.read(path / "progress.json") or {}
        metric = str(progress.get("primary_metric") or job.get("primary_metric") or "")
        if metric != self._metric:
            self._metric, self._curves = metric, _Files(partial(_points, metric=metric))
        rows = self._json.read(path / "leaderboard.json") or []
        self._decisions.read()
        is_finished = (path / "result.json").exists()
        process = None if is_finished else self._process or driver_of(path)
        num_trials = progress.get("num_trials", (job.get("limits") or {}).get("max_trials"))
        known = bool(progress) or bool(job.get("search_space"))
        return Snapshot(
            path=path,
            status="finished" if is_finished else "unfinished" if process is None else "running",
            process=process,
            task=str(job.get("task") or ""),
            metric=metric,
            text=str(progress.get("text") or ""),
            num_trials=num_trials,
            num_ranked=len(rows),
            counts=Counter(row["status"] for row in rows if str(row["id"]).isdigit()),
            best=tuple(self._trial(row["id"], row) for row in rows[: self._num_best]),
            running=() if is_finished else tuple(self._running(rows)),
            served=self._decisions.served(path),
            started=progress.get("started"),
            deadline=progress.get("deadline"),
            eta=progress.get("eta"),
            is_several=known and num_trials != 1,
        )

    def _running(self, rows: Iterable[Mapping[str, Any]]) -> Iterable[TrialView]:
        # Reading no trial that has ended keeps a snapshot of a thousand trials cheap.
        ended = {str(row["id"]) for row in rows if row["status"] not in UNFINISHED}
        for name in sorted(_names(self._path / "trials") - ended, key=_order):
            row = self._json.read(self._row_path(name))
            if row is not None and row["status"] == "running":
                yield self._trial(name, row)

    def _trial(self, name: str, ranked: Mapping[str, Any]) -> TrialView:
        row = {**ranked, **(self._json.read(self._row_path(name)) or {})}
        if ranked["status"] != "running":
            # The leaderboard is newer than `trial.json`.
            row |= ranked
        points: list[Point] = (
            self._curves.read(self._path / "trials" / name / "metrics.jsonl") or []
        )
        recipe = self._decisions.recipes.get(name, {})
        is_running = row["status"] == "running"
        reached = [point.value for point in points if point.value is not None]
        return TrialView(
            id=name,
            model=str(row.get("model") or ""),
            status=str(row["status"]),
            value=max(reached, default=None) if is_running else row.get("value"),
            epochs=points[-1].epoch if is_running and points else int(row.get("epochs") or 0),
            num_epochs=recipe.get("num_epochs"),
            seconds=row.get("seconds"),
            began=self._json.changed(self._row_path(name)) if is_running else None,
            images_a_second=_images_a_second(points, recipe),
            reason=str(row.get("reason") or ""),
            parameters=row.get("parameters") or {},
            curve=tuple(point.value for point in points),
        )

    def _row_path(self, name: str) -> Path:
        return self._path / "trials" / name / "trial.json"


class _Files:
    """Parsed files, read again only when they have changed."""

    def __init__(self, parse: Callable[[bytes], Any]) -> None:
        self._parse = parse
        self._known: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def read(self, path: Path) -> Any:
        """Return the content, or None where there is no file."""
        before = self._known.get(path)
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if before is None or before[0] != stamp:
                self._known[path] = before = stamp, self._parse(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(path, None)
            return None
        except (OSError, ValueError, KeyError, yaml.YAMLError):
            # The file is being replaced, not atomically on some file systems: the last content
            # holds until the next read.
            return None if before is None else before[1]
        return before[1]

    def changed(self, path: Path) -> float | None:
        """Return the Unix time of the last change of a file that was read, or None."""
        known = self._known.get(path)
        return None if known is None else known[0][0] / 1e9


@dataclass
class _Decisions:
    """Recipes and published models from `decisions.jsonl`; reads only new lines.

    Attributes:
        path: The file.
        recipes: Recipe by trial.
        trials: Trial by the name of its published model's folder.
    """

    path: Path
    recipes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    trials: dict[str, str] = field(default_factory=dict)
    _num_read: int = 0

    def read(self) -> None:
        """Read the lines that were appended."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._num_read:
                    self._num_read = 0
                file.seek(self._num_read)
                text = file.read()
        except OSError:
            return
        # The last line may still be incomplete.
        whole = text[: text.rfind(b"\n") + 1]
        self._num_read += len(whole)
        for line in whole.splitlines():
            if b'"recipe"' in line or b'"best_model"' in line:
                self._take(line)

    def served(self, run: Path) -> str | None:
        """Return the trial of a run's `best_model`, or None."""
        try:
            return self.trials.get((run / BEST_MODEL).readlink().name)
        except OSError:
            # No model yet, or a file system without links.
            return None

    def _take(self, line: bytes) -> None:
        try:
            made = orjson.loads(line)
        except ValueError:
            # A killed writer leaves half a line, to which the next one appends.
            return
        if made["decision"] == "recipe" and "trial" in made:
            self.recipes[str(made["trial"])] = made
        elif made["decision"] == "best_model":
            self.trials[Path(made["model"]).name] = str(made["trial"])


def _points(text: bytes, metric: str) -> list[Point]:
    # Not orjson: the loop writes with the standard library, which allows NaN.
    rows = [json.loads(line) for line in text.splitlines()]
    return [
        Point(row["epoch"], row["step"], _defined(row.get(metric)), row.get("seconds") or 0.0)
        for row in rows
    ]


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _images_a_second(points: list[Point], recipe: Mapping[str, Any]) -> float | None:
    if len(points) < 2 or not points[-1].epoch_s or "batch_size" not in recipe:
        return None
    before, last = points[-2:]
    if last.epoch <= before.epoch:
        # The budget cut the epoch short.
        return None
    steps_an_epoch = (last.step - before.step) / (last.epoch - before.epoch)
    images_a_step = recipe["batch_size"] * recipe.get("accumulation", 1)
    return float(steps_an_epoch * images_a_step / last.epoch_s)


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _order(name: str) -> tuple[bool, int, str]:
    return name.isdigit(), int(name) if name.isdigit() else 0, name
