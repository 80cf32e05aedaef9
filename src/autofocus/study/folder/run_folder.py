"""A run folder and its one driver: plain files, the truth about a run, changed only atomically.

run.json  request.json  job.yml  data_check.json  leaderboard.json  decisions.jsonl  progress.json
result.json  result.earlier.json  lock  trials/<id>/  models/<n>/  best_model -> models/<n>

`reader` reads it for people, `trial_folder` is about `trials/<id>/`.
"""

import bisect
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict, Unpack

import orjson
import yaml
from filelock import FileLock, Timeout

from autofocus.errors import RunFolderError
from autofocus.run_format import RUN_FORMAT, RUN_NAME, check_run_format
from autofocus.runtime import naming_full_disk, plain, write_atomically
from autofocus.scoring.model_path import BEST_MODEL
from autofocus.study.folder.seen_images import WAY_ON, SeenImages

# `driver_of` holds the lock for less, to see whether it can.
_LOOK_S = 0.2

# Keys of the job that may differ between two commands for the same run: more time or more trials
# go on with it.
_NOT_IDENTITY = ("output_dir", "log_verbosity", "display_name", "description", "tags", "budget")
_RESULT_NAME = "result.json"
# Result of a run that goes on, until it has another one.
EARLIER_NAME = "result.earlier.json"


class RunProgress(TypedDict, total=False):
    """Content of `progress.json`: the current activity.

    Attributes:
        step: `look`, `trials`, `folds` or `refit`.
        text: Current activity.
        primary_metric: The run's metric.
        num_trials: Maximum number of trials; None for no limit.
        started: Unix time of the run's start.
        deadline: Unix time at which the budget ends; None without one.
        eta: Expected Unix time of the end; None where unknown.
    """

    step: str
    text: str
    primary_metric: str
    num_trials: int | None
    started: float
    deadline: float | None
    eta: float | None


class RunFolder:
    """One run's folder, held by one driver.

    Args:
        path: The folder; made when missing.
        job: The resolved job as plain data.
        data_fingerprint: Hash of the data.
        overwrite: Whether another job's run in this folder is deleted.

    Raises:
        RunFolderError: If another driver holds it, or it has another job's run.
    """

    def __init__(
        self, path: Path, job: Mapping[str, Any], data_fingerprint: str, overwrite: bool
    ) -> None:
        self.path = path
        self.images = SeenImages(path / "images.json")
        self._identity = identity(job, data_fingerprint)
        self._job = dict(job)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = hold_folder(path)
        try:
            self._adopt(job, overwrite)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def result(self) -> dict[str, Any] | None:
        """Return the finished run's result, or None while there is none."""
        return read_result_document(self.path)

    def earlier_result(self) -> dict[str, Any] | None:
        """Return the result from before a finished run went on, or None."""
        earlier: dict[str, Any] | None = read_json(self.path / EARLIER_NAME)
        return earlier

    def set_result_aside(self) -> None:
        """Let a finished run go on: it is unfinished until it has another result."""
        os.replace(self.path / _RESULT_NAME, self.path / EARLIER_NAME)
        self._write_job()

    def refuse_changed_images(self, locations: Iterable[str]) -> None:
        """Check that a run that goes on, or is finished, has seen the images that are there now.

        Args:
            locations: Paths or URLs of the job's images.

        Raises:
            RunFolderError: If some are others now, under the same names.
        """
        if self._has_begun() or next(self.path.glob("trials/*/last"), None) is not None:
            self.images.refuse_changed(locations)
        else:
            self.images.forget()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result of the run, in place of an earlier one."""
        self.write_json(_RESULT_NAME, result)
        (self.path / EARLIER_NAME).unlink(missing_ok=True)

    def write_json(self, name: str, document: Any) -> None:
        """Replace one JSON file of the folder."""
        text = orjson.dumps(plain(document), option=orjson.OPT_INDENT_2)
        write_atomically(self.path / name, text + b"\n")

    def decide(self, what: str, **inputs: Any) -> None:
        """Append a decision and its inputs to `decisions.jsonl`."""
        line = orjson.dumps(plain({"decision": what, **inputs})) + b"\n"
        path = self.path / "decisions.jsonl"
        with naming_full_disk(path), path.open("ab") as file:
            file.write(line)

    def write_progress(self, **now: Unpack[RunProgress]) -> None:
        """Replace `progress.json`; not synced to disk: a crash may lose it."""
        path = self.path / "progress.json"
        new = path.with_name(".progress.json")
        with naming_full_disk(path):
            new.write_bytes(orjson.dumps(plain(now)) + b"\n")
            os.replace(new, path)

    def decided(self, what: str) -> dict[str, Any] | None:
        """Return the last decision of this name, with its inputs, or None."""
        made, _ = read_decisions(self.path)
        return next((each for each in reversed(made) if each["decision"] == what), None)

    def next_model_dir(self) -> Path:
        """Return the folder of the next model."""
        taken = [int(p.name) for p in (self.path / "models").glob("*") if p.name.isdigit()]
        return self.path / "models" / str(max(taken, default=0) + 1)

    def published(self, trial: str) -> Path | None:
        """Return the folder of a trial's published model, or None."""
        name = _model_name(self.path / "trials" / trial / "published.json")
        if name is None or not (self.path / BEST_MODEL).exists():
            return None
        model = self.path / "models" / name
        return model if model.is_dir() else None

    def is_best_model(self, model: Path) -> bool:
        """Return whether `best_model` points at this model folder."""
        return best_model_name(self.path) == model.name

    def publish(self, model: Path, trial: str) -> Path:
        """Point `best_model` at a trial's verified model folder, atomically where possible."""
        link = self.path / BEST_MODEL
        temporary = self.path / f".{BEST_MODEL}"
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path("models") / model.name, target_is_directory=True)
            os.replace(temporary, link)
        except OSError:
            # No symlinks here (Windows without the right, some network drives): a copy instead.
            shutil.rmtree(link, ignore_errors=True)
            shutil.copytree(model, link)
            self.write_json("best_model.json", {"model": f"models/{model.name}"})
        self.write_json(f"trials/{trial}/published.json", {"model": f"models/{model.name}"})
        self._sweep_models()
        return link

    def _sweep_models(self) -> None:
        """Remove unfinished models, and those that a kill left unpublished."""
        publications = (self.path / "trials").glob("*/published.json")
        published = {*map(_model_name, publications), best_model_name(self.path)}
        for model in (self.path / "models").glob("*"):
            is_left_over = model.name.isdigit() and model.name not in published
            if is_left_over or model.name.startswith("."):
                shutil.rmtree(model)

    def _adopt(self, job: Mapping[str, Any], overwrite: bool) -> None:
        owner = self.path / RUN_NAME
        if overwrite:
            _clear(self.path)
        check_run_format(self.path)
        known = read_json(owner)
        if known is not None and known["identity"] != self._identity:
            if self._has_begun():
                raise RunFolderError(self._clash(job))
            (self.path / "decisions.jsonl").unlink(missing_ok=True)
        self._sweep_models()
        self._end_half_a_decision()
        if (self.path / _RESULT_NAME).exists():
            # A kill between the two steps of `finish` leaves both.
            (self.path / EARLIER_NAME).unlink(missing_ok=True)
        else:
            self._write_job()
        self.write_json(RUN_NAME, {"identity": self._identity, "format": RUN_FORMAT})

    def _write_job(self) -> None:
        text = yaml.safe_dump(self._job, sort_keys=False, allow_unicode=True)
        write_atomically(self.path / "job.yml", text.encode())

    def _has_begun(self) -> bool:
        """Return whether there is anything of the run here that another one would lose."""
        names = (_RESULT_NAME, "models/*", "trials/*/trial.json")
        return any(next(self.path.glob(name), None) is not None for name in names)

    def _end_half_a_decision(self) -> None:
        """Let the next decision begin a line, whatever a killed writer or a full disk left."""
        path = self.path / "decisions.jsonl"
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")

    def _clash(self, job: Mapping[str, Any]) -> str:
        there = yaml.safe_load((self.path / "job.yml").read_text(encoding="utf-8"))
        asked, known = _identifying(job), _identifying(there)
        changed = [key for key in asked if asked[key] != known.get(key)]
        what = f"these keys differ: {', '.join(changed)}" if changed else "the data changed"
        return f"{self.path}: holds a run of another job ({what}). {WAY_ON}"


def identity(job: Mapping[str, Any], data_fingerprint: str) -> str:
    """Return a hash that is the same for two commands of the same run."""
    text = orjson.dumps([_identifying(job), data_fingerprint], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


def _identifying(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a job that make it another run: without how much it may try."""
    kept = {key: value for key, value in job.items() if key not in _NOT_IDENTITY}
    limits = dict(kept.pop("limits", None) or {})
    limits.pop("timeout_minutes", None)
    # One trial without a search space is the job's own recipe; more of them are the system's.
    is_single = limits.pop("max_trials", None) == 1 and not job.get("search_space")
    kept["limits.max_trials"] = "one" if is_single else "several"
    return kept | {f"limits.{key}": value for key, value in limits.items()}


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None where there is no file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def read_result_document(run: Path) -> dict[str, Any] | None:
    """Return the result of a finished run, or None."""
    result: dict[str, Any] | None = read_json(run / _RESULT_NAME)
    return result


def read_decisions(run: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the decisions of a run from a byte of the file on, and the byte behind the last."""
    try:
        with (run / "decisions.jsonl").open("rb") as file:
            if file.seek(0, os.SEEK_END) < start:
                # The run was begun anew.
                start = 0
            file.seek(start)
            text = file.read()
    except FileNotFoundError:
        return [], 0
    # The last line may still be incomplete.
    whole = text[: text.rfind(b"\n") + 1]
    made = []
    for line in whole.splitlines():
        # A killed writer leaves half a line.
        with suppress(orjson.JSONDecodeError):
            made.append(orjson.loads(line))
    return made, start + len(whole)


def best_model_name(run: Path) -> str | None:
    """Return the name of the model folder that `best_model` links to or is a copy of, or None."""
    link = run / BEST_MODEL
    return link.readlink().name if link.is_symlink() else _model_name(run / "best_model.json")


def _model_name(path: Path) -> str | None:
    """Return the name of the model folder in a `published.json` or `best_model.json`, or None."""
    said = read_json(path)
    return None if said is None else PurePosixPath(said["model"]).name


def driver_of(path: Path) -> int | None:
    """Return the id of the process that holds a folder now, or None."""
    file = path / "lock"
    if not file.exists():
        return None
    try:
        with FileLock(file, blocking=False):
            return None
    except Timeout:
        holder = file.read_text(encoding="utf-8").strip()
        return int(holder) if holder.isdigit() else None


def _clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name == "lock":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def hold_folder(path: Path) -> FileLock:
    """Lock a run folder until the process ends, however it ends; write its id into the lock file.

    Raises:
        RunFolderError: If another process holds it.
    """
    file = path / "lock"
    lock = FileLock(file, timeout=_LOOK_S, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        holder = file.read_text(encoding="utf-8").strip()
        raise RunFolderError(
            f"{path}: another autofocus is running in this folder (process {holder or 'unknown'}). "
            "Wait for it, or give another --output-dir."
        ) from None
    file.write_text(str(os.getpid()), encoding="utf-8")
    return lock


# Fields that vary from run to run; the leaderboard is bit-same for the same job and seed.
LEFT_OUT = ("seconds",)


class Leaderboard:
    """Rows from best to worst; ties are in the order of their numbers."""

    def __init__(self) -> None:
        self._keys: list[tuple[bool, float, int, str]] = []
        self._key_of: dict[str, tuple[bool, float, int, str]] = {}
        self._lines: list[bytes] = []
        self._rows: dict[str, Mapping[str, Any]] = {}
        # Trial whose model is served, and why.
        self._served: tuple[str, str] | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Insert a trial's row at its rank, replacing an earlier one.

        Args:
            row: Has `id` and `value`; None is worse than every number.
        """
        name, value = str(row["id"]), row["value"]
        number = int(name) if name.isdigit() else -1
        if (known := self._key_of.get(name)) is not None:
            index = bisect.bisect_left(self._keys, known)
            del self._keys[index], self._lines[index]
        key = self._key_of[name] = (value is None, -(value or 0.0), number, name)
        index = bisect.bisect(self._keys, key)
        shown = {field: item for field, item in row.items() if field not in LEFT_OUT}
        if self._served is not None and self._served[0] == name:
            shown |= {"served": True, "why": self._served[1]}
        self._rows[name] = row
        self._keys.insert(index, key)
        self._lines.insert(index, orjson.dumps(plain(shown)))

    def serve(self, trial: str, why: str) -> None:
        """Mark the row of the trial whose model is served, and no other."""
        before, self._served = self._served, (trial, why)
        for name in {trial, *(before or ())[:1]} & self._rows.keys():
            self.add(self._rows[name])

    def json(self) -> bytes:
        """Return the rows as a JSON list, one a line."""
        return b"[\n" + b",\n".join(self._lines) + b"\n]\n"
