"""The conductor's front: check the job, read the data, find the run folder, conduct the study."""

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

# `info` and `not_set` leave what the command line chose.
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
    """Write down what was asked, before any default: `runs resume` asks the same again."""
    job = json.loads(json.dumps(dict(document), default=str))
    folder.write_json("request.json", {"job": job, "folder": str(Path.cwd())})


def _with_default_model(plan: Plan, folder: RunFolder, track: Track) -> Plan:
    if plan.mode == "automode":
        # It looks at several.
        return plan
    from autofocus.study.trials.prepare import with_default_model

    return with_default_model(plan, folder, track)


def _trials_of(plan: Plan) -> Callable[[Study], Outcome]:
    """Return what runs the plan's trials; importing it imports torch."""
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
    if job.unused_keys:
        log.info("not used here (cloud only): %s", ", ".join(job.unused_keys))
    if plan.unused_parameters:
        log.info("not used here: %s", ", ".join(plan.unused_parameters))
    for note in plan.notes:
        log.info("%s", note)


def _run_path(job: Job, resolved: Mapping[str, Any], sources: Sources) -> Path:
    if job.output_dir is not None:
        return Path(job.output_dir)
    name = job.experiment_name or sources.training.name
    return Path("runs") / f"{name}-{identity(resolved, sources.fingerprint)[:8]}"


def run_distributed(document: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Run a job on the first process, while the others take part in its training.

    Args:
        document: The job, not yet checked.
        **options: What `run` takes besides.

    Returns:
        The result document, on every process.

    Raises:
        InputError: On the first process, as `run` does.
        SystemExit: On the others, when the first one failed.
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
