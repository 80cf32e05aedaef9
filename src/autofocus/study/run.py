"""A run from job to result: check the job, read the data, take the folder, run the study."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autofocus.errors import InputError
from autofocus.runtime import Track, no_progress, process_count, process_rank
from autofocus.settings.job import Job
from autofocus.study.folder.run_folder import RunFolder, identity
from autofocus.study.resolve import Plan, resolve
from autofocus.study.sources import Sources, read_sources, with_splits
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
    """
    started_s = time.monotonic() if started_s is None else started_s
    plan = with_splits(resolve(document))
    if plan.job.log_verbosity in VERBOSITY:
        logging.getLogger("autofocus").setLevel(VERBOSITY[plan.job.log_verbosity])
    _require_torch()
    _announce(plan)
    sources = read_sources(plan, track)
    resolved = plan.job.model_dump(mode="json", by_alias=True)
    path = _run_path(plan.job, resolved, sources)
    with RunFolder(path, resolved, sources.fingerprint, overwrite) as folder:
        if on_folder is not None:
            on_folder(path)
        if finished := folder.result():
            log.info("%s: finished before; nothing to do (--overwrite starts anew)", path)
            # It may have been moved since.
            here = {"run": str(folder.path), "best_model": str(folder.path / "best_model")}
            return finished | here
        _keep_request(folder, document)
        study = Study(_with_default_model(plan, folder, track), sources, folder, started_s, track)
        result = study.run(_trials_of(plan))
        folder.write_json("result.json", result)
        return result


def _keep_request(folder: RunFolder, document: Mapping[str, Any]) -> None:
    """Keep the job before any default, for `runs resume`."""
    job = json.loads(json.dumps(dict(document), default=str))
    folder.write_json("request.json", {"job": job, "folder": str(Path.cwd())})


def _with_default_model(plan: Plan, folder: RunFolder, track: Track) -> Plan:
    if plan.mode == "automode":
        # It tries several models.
        return plan
    from autofocus.study.trials.prepare import with_default_model

    return with_default_model(plan, folder, track)


def _trials_of(plan: Plan) -> Callable[[Study], Outcome]:
    """Return the function that runs the plan's trials; this imports torch."""
    if plan.mode == "sweep":
        from autofocus.study.sweep import run_sweep

        return run_sweep
    if plan.mode == "automode":
        from autofocus.study.automode.run import run_automode

        return run_automode
    from autofocus.study.trials.runner import TRIALS

    return TRIALS[plan.model.kind].run_single


def _require_torch() -> None:
    missing = [name for name in ("torch", "timm", "sklearn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"training needs {', '.join(missing)}, which is not installed. "
            "Run pip install '.[train]' in the autofocus checkout, or scripts/setup."
        )


def _announce(plan: Plan) -> None:
    job = plan.job
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


def run_distributed(document: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Run a job on rank 0 of `torchrun` or `accelerate launch`; other ranks only train.

    Args:
        document: The unchecked job.
        **options: Other arguments of `run`.

    Returns:
        The result document, on every rank.

    Raises:
        InputError: On rank 0, as `run` does.
        SystemExit: On the other ranks, if rank 0 failed.
    """
    if process_count() == 1:
        return run(document, **options)
    from autofocus.training import distributed

    if process_rank() > 0:
        return distributed.run_worker()
    result = None
    try:
        result = run(document, **options)
        return result
    finally:
        distributed.shutdown(result)
