"""The conductor: data, trials, package, verify, swap. A single run is a study of one trial."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autofocus.data.issues import IssueLog
from autofocus.data.labels import label_map
from autofocus.data.locate import open_bytes
from autofocus.data.source import Data, ReadOptions, read_data
from autofocus.errors import DataError, InputError
from autofocus.job import Job
from autofocus.manifest import ResizeCrop
from autofocus.runtime import Track, no_progress
from autofocus.sweep.resolve import Plan, resolve
from autofocus.sweep.run_folder import RunFolder, identity
from autofocus.tasks.classification import ClassificationTask

log = logging.getLogger(__name__)

# Seconds kept back from a budget for fitting, export and verification before they were measured.
PACKAGING_RESERVE_S = 20.0
PROBE_ID = "0"


@dataclass(frozen=True)
class Sources:
    """The three roles of data; only training must be given."""

    training: Data[Any]
    validation: Data[Any] | None
    test: Data[Any] | None

    @property
    def given(self) -> dict[str, Data[Any]]:
        """Return those that were given, by role."""
        roles = {"training": self.training, "validation": self.validation, "test": self.test}
        return {role: data for role, data in roles.items() if data is not None}

    @property
    def fingerprint(self) -> str:
        """What all of the data is, as one string."""
        return "+".join(f"{role}:{data.fingerprint}" for role, data in self.given.items())


def run(
    document: Mapping[str, Any],
    *,
    overwrite: bool = False,
    started_s: float | None = None,
    track: Track = no_progress,
) -> dict[str, Any]:
    """Train as the job says and return the result document (`train --json`).

    Args:
        document: The job, not yet checked.
        overwrite: Forget an earlier run of another job in the same folder.
        started_s: `time.monotonic()` at which the budget began to run; None is now.
        track: Shows progress.

    Raises:
        JobError: If the job is wrong; names every problem.
        DataError: If nothing valid is left of the data.
        RunFolderError: If the folder is another job's, or busy.
    """
    started_s = time.monotonic() if started_s is None else started_s
    plan = resolve(document)
    _require_torch()
    _announce(plan)
    sources = _read_sources(plan, track)
    resolved = plan.job.model_dump(mode="json", by_alias=True)
    path = _run_path(plan.job, resolved, sources)
    with RunFolder(path, resolved, sources.fingerprint, overwrite) as folder:
        if finished := folder.result():
            log.info("%s: finished before; nothing to do (--overwrite starts anew)", path)
            return finished
        result = _Study(plan, sources, folder, started_s, track).conduct()
        folder.write_json("result.json", result)
        return result


def _require_torch() -> None:
    missing = [name for name in ("torch", "timm", "sklearn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"training needs {', '.join(missing)}, which is not installed. "
            "Run pip install '.[train]' in the autofocus checkout, or scripts/setup."
        )


def _announce(plan: Plan) -> None:
    job = plan.job
    budget = "none" if job.budget_s is None else f"{job.budget_s:g} s"
    log.info(
        "%s on %s · metric %s · budget %s · seed %d",
        plan.task.name,
        job.training_data.path,
        job.primary_metric,
        budget,
        job.seed,
    )
    if job.unused_keys:
        log.info("not used here (cloud only): %s", ", ".join(job.unused_keys))
    if job.sweep or job.search_space:
        log.info("not used yet: sweep and search_space; one frozen-feature probe runs")
    used = {"model_name", "validation_resize_size", "validation_crop_size", "random_seed"}
    if idle := sorted(set(job.training_parameters) - used):
        log.info("not used by a frozen-feature probe: %s", ", ".join(idle))


def _read_sources(plan: Plan, track: Track) -> Sources:
    job = plan.job
    options = ReadOptions(
        image_column=job.image_column_name,
        label_column=job.target_column_name,
        image_root=None if job.image_root is None else Path(job.image_root),
        maps=job.data_maps,
        on_invalid=job.data.on_invalid,
    )
    given = {
        "training_data": job.training_data,
        "validation_data": job.validation_data,
        "test_data": job.test_data,
    }
    read: dict[str, Data[Any] | None] = {}
    problems: list[str] = []
    for key, entry in given.items():
        read[key] = None
        if entry is None:
            continue
        try:
            read[key] = read_data(entry.path, plan.task.record_type, options, track)
        except DataError as error:
            problems += error.problems
    training = read["training_data"]
    if problems or training is None:
        raise DataError(problems)
    return Sources(training, read["validation_data"], read["test_data"])


def _run_path(job: Job, resolved: Mapping[str, Any], sources: Sources) -> Path:
    if job.output_dir is not None:
        return Path(job.output_dir)
    name = job.experiment_name or sources.training.name
    return Path("runs") / f"{name}-{identity(resolved, sources.fingerprint)[:8]}"


class _Study:
    """One run's state while it is conducted."""

    def __init__(
        self, plan: Plan, sources: Sources, folder: RunFolder, started_s: float, track: Track
    ) -> None:
        self.plan = plan
        self.sources = sources
        self.folder = folder
        self.started_s = started_s
        self.track = track
        self.issues = {role: data.issues for role, data in sources.given.items()}
        self.trials: list[dict[str, Any]] = []
        self.labels = self._labels()

    def conduct(self) -> dict[str, Any]:
        """Run the trials; return the result document."""
        self._write_data_check()
        candidate = self._probe()
        self._write_data_check()
        model = self._package(candidate)
        seconds_to_first_model = self._seconds()
        test_metrics = self._test(model)
        self._rank()
        metric = str(self.plan.job.primary_metric)
        return {
            "best_model": str(self.folder.path / "best_model"),
            "run": str(self.folder.path),
            "task": self.plan.task.name,
            "primary_metric": metric,
            "value": candidate.metrics[metric],
            "metrics": candidate.metrics,
            "test_metrics": test_metrics,
            "seconds": self._seconds(),
            "seconds_to_first_model": seconds_to_first_model,
            "trials": self.trials,
        }

    def _labels(self) -> list[str]:
        task = self.plan.task
        known = [self.sources.training, self.sources.validation]
        labels = label_map(
            *(task.record_labels(r) for data in known if data is not None for r in data.records)
        )
        if not labels:
            source = self.plan.job.training_data.path
            raise DataError(f"{source}: no row has a label; there is nothing to learn.")
        return labels

    def _probe(self) -> Any:
        # torch takes seconds to import: only once the job and the data are known to be good.
        from autofocus.models.weights import load_weights
        from autofocus.training.candidate import Samples
        from autofocus.training.device import choose_device, prepare_torch
        from autofocus.training.probe_trial import ProbeSetup, run_probe

        job, task = self.plan.job, self.plan.task
        assert isinstance(task, ClassificationTask), "only classifiers have frozen features"
        prepare_torch()
        device = choose_device(job.device)
        weights = load_weights(
            self.plan.model,
            job.weights,
            job.on_missing_weights,
            job.accept_license,
            self.plan.user_named_model,
            track=self.track,
        )
        log.info("%s · device %s · %d classes", weights.line, device, len(self.labels))
        started_s = time.monotonic()
        setup = ProbeSetup(
            task=task,
            weights=weights,
            preprocess=_preprocess(job, weights.spec.preprocess),
            labels=self.labels,
            validation_frac=job.validation_data_size,
            seed=int(job.training_parameters.get("random_seed", job.seed)),
            device=device,
            data_fingerprint=self.sources.fingerprint,
            deadline_s=self._deadline(PACKAGING_RESERVE_S),
        )
        roles = {
            role: Samples(data.records, data.locations, data.name)
            for role, data in self.sources.given.items()
        }
        candidate = run_probe(
            setup,
            roles["training"],
            roles.get("validation"),
            report=self._report,
            decide=self.folder.decide,
            track=self.track,
        )
        self._record(PROBE_ID, weights.spec.name, candidate, time.monotonic() - started_s)
        return candidate

    def _report(self, issue: Any) -> None:
        self.issues["training"].add(issue)
        if self.plan.job.data.on_invalid == "error":
            raise DataError(issue.text())
        log.warning("%s", issue.text())

    def _package(self, candidate: Any) -> Path:
        from autofocus.package.mlflow_model import write_package
        from autofocus.package.verify import verify_package

        target = self.folder.next_model_dir()
        unfinished = target.with_name(f".{target.name}")
        manifest = write_package(unfinished, candidate.network, candidate.manifest)
        images = _readable(candidate.check_images)
        try:
            difference = verify_package(unfinished, candidate.network, manifest, images)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        unfinished.rename(target)
        self.folder.publish(target)
        self.folder.decide(
            "best_model",
            trial=PROBE_ID,
            model=f"models/{target.name}",
            largest_difference_onnx_torch=difference,
            num_images=len(images),
        )
        log.info(
            "%s verified on %d images: ONNX differs from torch by %.1g",
            target,
            len(images),
            difference,
        )
        return target

    def _test(self, model: Path) -> dict[str, Any] | None:
        """Score the test data with the package itself; it took part in nothing before."""
        if self.sources.test is None:
            return None
        from autofocus.scoring.evaluate import evaluate_model

        metrics: dict[str, Any] = evaluate_model(model, self.sources.test, self.track)["metrics"]
        return metrics

    def _record(self, trial: str, model: str, candidate: Any, seconds: float) -> None:
        metric = str(self.plan.job.primary_metric)
        self.trials.append(
            {
                "id": trial,
                "model": model,
                "status": "completed",
                "value": candidate.metrics[metric],
                "epochs": 0,
                "seconds": round(seconds, 3),
                "reason": None,
            }
        )
        folder = f"trials/{trial}"
        self.folder.write_json(f"{folder}/metrics.json", candidate.metrics)

    def _rank(self) -> None:
        # Seconds vary from run to run; the leaderboard is bit-same for the same job and seed.
        rows = [{k: v for k, v in trial.items() if k != "seconds"} for trial in self.trials]
        rows.sort(key=lambda row: (row["value"] is None, -(row["value"] or 0.0)))
        self.folder.write_json("leaderboard.json", rows)

    def _write_data_check(self) -> None:
        self.folder.write_json(
            "data_check.json",
            {
                role: _check_document(data, self.issues[role])
                for role, data in self.sources.given.items()
            },
        )

    def _deadline(self, reserve_s: float) -> float | None:
        budget_s = self.plan.job.budget_s
        return None if budget_s is None else self.started_s + budget_s - reserve_s

    def _seconds(self) -> float:
        return round(time.monotonic() - self.started_s, 3)


def _check_document(data: Data[Any], issues: IssueLog) -> dict[str, Any]:
    return {
        "num_rows": data.num_rows,
        "num_valid": len(data.records),
        "counts": dict(issues.counts),
        "issues": [issue.text() for issue in issues.examples()],
    }


def _preprocess(job: Job, default: ResizeCrop) -> ResizeCrop:
    parameters = job.training_parameters
    crop = int(parameters.get("validation_crop_size", default.crop_size))
    scaled = round(default.resize_size * crop / default.crop_size)
    resize = int(parameters.get("validation_resize_size", scaled))
    return ResizeCrop(resize, crop, default.mean, default.std)


def _readable(locations: Sequence[str]) -> list[bytes]:
    images = []
    for location in locations:
        try:
            images.append(open_bytes(location))
        except InputError as error:
            # It was read minutes ago; the check goes on with the others.
            log.warning("%s", error)
    return images
