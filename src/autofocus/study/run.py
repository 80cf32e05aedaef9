"""The story of a run: check the job, read the data, take the folder, try, publish, test."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autofocus.data.images.fetch import content_hash, tag_of
from autofocus.data.sources.read import Data
from autofocus.errors import InputError, StoppedError
from autofocus.runtime import StopRequest, Track, no_progress, process_count, process_rank
from autofocus.scoring.evaluate import evaluate_model
from autofocus.settings.job import Job
from autofocus.study.extent import Extent
from autofocus.study.folder.run_folder import RunFolder, identity
from autofocus.study.resolve import Plan, resolve
from autofocus.study.sources import Sources, read_sources, with_splits

# torch takes seconds to import.
if TYPE_CHECKING:
    from autofocus.study.study import Outcome, Study

log = logging.getLogger(__name__)

# `info` and `not_set` keep the command line's level.
VERBOSITY = {
    "debug": logging.DEBUG,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def run(
    document: Mapping[str, Any],
    *,
    overwrite: bool = False,
    started_s: float | None = None,
    track: Track = no_progress,
    on_folder: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Train as the job says and return the result document (`train --json`).

    Under `torchrun` or `accelerate launch` rank 0 does that, and the other ranks only train.

    Args:
        document: The unchecked job.
        overwrite: Delete an earlier run in the same folder.
        started_s: Time (`time.monotonic()`) at which the budget began; None for now.
        track: Progress display.
        on_folder: Called with the run folder once it is this run's; None: nobody asks.

    Raises:
        JobError: If the job is wrong; names every problem.
        DataError: If nothing valid is left of the data.
        RunFolderError: If the folder is another job's, or busy.
        StoppedError: If the user stopped the run; says how to go on.
        SystemExit: On other ranks than 0, if rank 0 failed.
    """
    started_s = time.monotonic() if started_s is None else started_s
    if process_rank() > 0:
        return _train_only()
    with _leading_others() as results:
        plan = with_splits(resolve(document))
        _require_torch()
        _announce(plan)
        sources = read_sources(plan, track)
        resolved = plan.document()
        path = _run_path(plan.job, resolved, sources)
        with RunFolder(path, resolved, sources.fingerprint, overwrite) as folder:
            if on_folder is not None:
                on_folder(path)
            folder.refuse_changed_images(
                [place for data in sources.given.values() for place in data.locations]
            )
            if (finished := _finished(folder, Extent.of(plan))) is not None:
                results.append(finished)
                return finished
            _keep_request(folder, document)
            # torch takes seconds to import: only now are the job and the data known to be good.
            from autofocus.study.default_model import with_default_model
            from autofocus.study.executors.local import executor_of
            from autofocus.study.modes import SEARCHES
            from autofocus.study.scheduler import TrialController
            from autofocus.study.study import Study

            plan = with_default_model(plan, folder, track)
            study = Study(plan, sources, folder, started_s, track)
            _count_before(study)
            try:
                search = SEARCHES[plan.mode](study)
                with StopRequest() as study.is_stopped:
                    scheduler = TrialController(study, search)
                    scheduler.publish_best()
                    executor = executor_of(study, scheduler.num_left)
                    executor.run(scheduler)
                    for phase in search.last_phases:
                        if not study.is_stopped():
                            phase(study, scheduler)
                    outcome = scheduler.outcome()
            finally:
                study.write_data_check()
            if study.is_stopped():
                raise StoppedError(_how_to_go_on(folder))
            result = _result(study, outcome)
            folder.finish(result)
            results.append(result)
            return result


def _require_torch() -> None:
    missing = [name for name in ("torch", "timm", "sklearn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"training needs {', '.join(missing)}, which is not installed. "
            "Run pip install '.[train]' in the autofocus checkout, or scripts/setup."
        )


def _announce(plan: Plan) -> None:
    """Say in the first lines what will happen."""
    job = plan.job
    if job.log_verbosity in VERBOSITY:
        logging.getLogger("autofocus").setLevel(VERBOSITY[job.log_verbosity])
    log.info(
        "%s on %s · metric %s · budget %s · seed %d",
        plan.task.name,
        job.training_data.path,
        job.primary_metric,
        "none" if job.budget_s is None else f"{job.budget_s:g} s",
        job.seed,
    )
    if unused := [*job.unused_keys, *plan.unused_parameters]:
        log.info("not used here: %s", ", ".join(unused))
    for note in plan.notes:
        log.info("%s", note)


def _run_path(job: Job, resolved: Mapping[str, Any], sources: Sources) -> Path:
    if job.output_dir is not None:
        return Path(job.output_dir)
    name = job.experiment_name or sources.training.name
    return Path("runs") / f"{name}-{identity(resolved, sources.fingerprint)[:8]}"


def _finished(folder: RunFolder, asked: Extent) -> dict[str, Any] | None:
    """Return the result of a run that ended before, or None if it begins or goes on."""
    finished = folder.result()
    if finished is None:
        return None
    if asked.is_more_than(finished):
        folder.set_result_aside()
        return None
    log.info(
        "%s: finished before, in %.0f s; nothing to do ('autofocus runs resume %s --budget 10m' "
        "goes on for 10 minutes, --overwrite starts anew)",
        folder.path,
        finished["seconds"],
        folder.path,
    )
    # It may have been moved since.
    return finished | {"run": str(folder.path), "best_model": str(folder.path / "best_model")}


def _count_before(study: "Study") -> None:
    """Count what a run took before it went on: its budget is for all of it."""
    earlier = study.folder.earlier_result()
    if earlier is None:
        return
    study.started_s -= earlier["seconds"]
    study.first_model_s = earlier["seconds_to_first_model"]
    log.info("%s: goes on, after %.0f s that it took before", study.folder.path, earlier["seconds"])


def _keep_request(folder: RunFolder, document: Mapping[str, Any]) -> None:
    """Keep the job before any default, for `runs resume`."""
    job = json.loads(json.dumps(dict(document), default=str))
    folder.write_json("request.json", {"job": job, "folder": str(Path.cwd())})


def _result(study: "Study", outcome: "Outcome") -> dict[str, Any]:
    """Score the test data, which took no part in anything, and return the result document."""
    test = study.sources.test
    from autofocus.study.verdict import verdict_of

    manifest = outcome.manifest
    tested = None if test is None else _tested(study, outcome.model, test)
    return {
        "best_model": str(study.folder.path / "best_model"),
        "best_trial": outcome.trial,
        "run": str(study.folder.path),
        "task": study.plan.task.name,
        "primary_metric": study.metric,
        "value": manifest.metrics[study.metric],
        "metrics": manifest.metrics,
        "metrics_of": manifest.metrics_of,
        "intervals": manifest.intervals,
        "thresholds": list(outcome.thresholds),
        "test_metrics": None if tested is None else tested["metrics"],
        "test_thresholds": [] if tested is None else tested["thresholds"],
        "seconds": study.seconds(),
        "seconds_to_first_model": outcome.seconds_to_first_model,
        **Extent.of(study.plan).document(),
        "verdict": verdict_of(study, outcome),
        "trials": study.trials,
    }


def _tested(study: "Study", model: Path, test: Data[Any]) -> dict[str, Any]:
    """Score the test data, and note its images as those that the run has seen."""
    places, tags, hashes = list[str](), list[str](), list[str]()

    def note(scorer: object, index: int, image: bytes, prediction: object) -> None:
        place = test.locations[index]
        places.append(place)
        # A request for each image in a store would take too long.
        tags.append("" if "://" in place else tag_of(place))
        hashes.append(content_hash(image))

    tested = evaluate_model(model, test, study.track, note)
    study.folder.images.note(places, tags, hashes)
    return tested


def _how_to_go_on(folder: RunFolder) -> str:
    return (
        f"stopped; {folder.path / 'best_model'} is verified and can be served. "
        "The same command goes on where this one stopped."
    )


@contextmanager
def _leading_others() -> Iterator[list[dict[str, Any]]]:
    """Let the other ranks train along until this is left; they get the result put in the list."""
    results: list[dict[str, Any]] = []
    try:
        yield results
    finally:
        if process_count() > 1:
            from autofocus.training import distributed

            distributed.shutdown(results[0] if results else None)


def _train_only() -> dict[str, Any]:
    """Train along with rank 0; return its result."""
    from autofocus.training import distributed

    return distributed.run_worker()
