"""`autofocus runs`: list, show, compare, resume and stop runs."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autofocus.cli.ending import end_lines, show_result
from autofocus.cli.output import AsJson, command, emit, emit_json, showing_run
from autofocus.runtime import PROCESS_STARTED_S

if TYPE_CHECKING:
    from autofocus.study.folder.reader import RunView, TrialView

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The run folder.")]

MAX_TRIALS = 20
WATCH_S = 1.0


@app.callback()
def runs() -> None:
    """Look at runs, go on with one, stop one."""


@app.command(name="list")
@command
def list_(
    root: Annotated[Path, typer.Argument(help="Where run folders are.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder, those that changed last first."""
    from autofocus.study.folder.reader import find_runs

    found = find_runs(root)
    if as_json:
        emit_json([_summary(run) for run in found])
        return
    if not found:
        emit(f"{root}: no runs")
    for run in found:
        best = run.best_row
        text = (
            f"{run.path}  {run.status}  {run.changed()}  {run.task}  "
            f"{len(run.leaderboard)} trials  {run.metric} {_metric_text(best.get('value'))}  "
            f"{best.get('model', '')}"
        )
        emit(text.rstrip())


@app.command()
@command
def show(
    run: Folder,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", "--watch", help="Until it ends, as 'train' shows it."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run's leaderboard and the trials that are under way.

    autofocus runs show --follow runs/fridge
    """
    from autofocus.study.folder.reader import RunReader

    if follow and not as_json:
        _watch(run)
        return
    view = RunReader(run).read(MAX_TRIALS)
    if as_json:
        running = [trial.row for trial in view.running]
        emit_json({**_summary(view), "leaderboard": view.leaderboard, "running": running})
        return
    for line in _lines(view):
        emit(line)


@app.command()
@command
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")],
    as_json: AsJson = False,
) -> None:
    """Show what several runs came to, and where their jobs differ."""
    from autofocus.study.folder.reader import RunReader

    views = [RunReader(run).read(num_best=0) for run in runs]
    changed = _differences([_flat(view.job) for view in views])
    if as_json:
        emit_json({"runs": [_summary(view) for view in views], "differences": changed})
        return
    for view in views:
        best, result = view.best_row, view.result or {}
        test = (result.get("test_metrics") or {}).get(view.metric)
        seconds = f"{result['seconds']:.0f} s" if result else view.status
        measured_on = result.get("metrics_of", "validation")
        emit(
            f"{view.path}  {view.metric} {_metric_text(best.get('value'))} by {measured_on}, "
            f"{_metric_text(test)} on test data  {best.get('model', '')}  {seconds}"
        )
    for key, values in changed.items():
        emit(f"{key}: {' | '.join(str(value) for value in values)}")


@app.command()
@command
def resume(
    run: Folder,
    budget: Annotated[
        str | None,
        typer.Option(help="Time to go on for, such as 10m; a finished run goes on too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was stopped or killed; a finished one prints its result.

    autofocus runs resume runs/fridge --budget 10m
    """
    from autofocus import api
    from autofocus.study.folder.reader import request

    job, folder = request(run, budget)
    # Relative paths in the job start where the run was started.
    os.chdir(folder)
    with showing_run(as_json=as_json) as (track, on_folder):
        result = api.train(job, started_s=PROCESS_STARTED_S, track=track, on_folder=on_folder)
    if as_json:
        emit_json(result)
    else:
        show_result(result)


@app.command()
@command
def stop(run: Folder, as_json: AsJson = False) -> None:
    """Ask a run to stop; it saves what is running, and 'runs resume' goes on with it."""
    from autofocus.study.folder.reader import stop_run

    process = stop_run(run)
    if as_json:
        emit_json({"run": str(run), "process": process})
    else:
        emit(f"{run}: asked process {process} to stop; 'autofocus runs resume {run}' goes on")


def _watch(run: Path) -> None:
    """Show a run until it ends: live on a terminal, else a line for each trial as it ends."""
    from autofocus.cli.live import SteadyConsole, follow_run
    from autofocus.study.folder.reader import RunReader

    console = SteadyConsole()
    if console.is_interactive and not console.is_dumb_terminal:
        follow_run(run, console)
        return
    reader = RunReader(run)
    printed: set[str] = set()
    emit(_head(reader.read(num_best=0).metric))
    while True:
        view = reader.read(num_best=0)
        for row in view.leaderboard:
            if row["id"] not in printed:
                printed.add(row["id"])
                emit(_line(reader.trial(row)))
        if view.status != "running":
            return
        time.sleep(WATCH_S)


def _lines(view: "RunView") -> list[str]:
    lines = [
        f"{view.path}  {view.status}  {view.task} by {view.metric}",
        f"{len(view.leaderboard)} trials ended{_most(view)}{_memory(view)}",
        _head(view.metric),
    ]
    lines += map(_line, view.best)
    if len(view.leaderboard) > MAX_TRIALS:
        lines.append(f"… {len(view.leaderboard) - MAX_TRIALS} more in leaderboard.json")
    ending = [] if view.result is None else end_lines(view.result)
    return [*lines, *map(_line, view.running), *ending]


def _head(metric: str) -> str:
    from autofocus.cli.view import CURVE_WIDTH

    return f"trial  {metric}, its {'curve':{CURVE_WIDTH}}  status      model, parameters"


def _most(view: "RunView") -> str:
    return "" if view.num_trials is None else f", at most {view.num_trials}"


def _line(trial: "TrialView") -> str:
    from autofocus.cli.view import CURVE_WIDTH, parameters_text, served_text, sparkline

    curve = f"{sparkline(trial.curve):{CURVE_WIDTH}}"
    about = f"{trial.model}  {parameters_text(trial.parameters)}"
    cells = f"{trial.id:>5}  {_metric_text(trial.value)}  {curve}  {trial.status:10}  {about}"
    served = f"  {served_text(trial)}" if trial.row.get("served") else ""
    return f"{cells.rstrip()}{served}"


def _differences(jobs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the keys of flat jobs that differ, with each job's value."""
    keys = dict.fromkeys(key for job in jobs for key in job if key != "output_dir")
    values = {key: [job.get(key) for job in jobs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{name}.{key}" if name else str(key))
    return flat


def _memory(view: "RunView") -> str:
    """Return the driver's memory as text; empty where the system does not tell."""
    path = Path(f"/proc/{view.process}/statm")
    if view.process is None or not path.exists():
        return ""
    held_bytes = int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return f" · process {view.process}, {held_bytes / 2**30:.1f} GiB"


def _summary(view: "RunView") -> dict[str, Any]:
    return {
        "run": str(view.path),
        "status": view.status,
        "process": view.process,
        "task": view.task,
        "primary_metric": view.metric,
        "changed": view.changed(),
        "num_trials": len(view.leaderboard),
        "best": view.best_row,
        "result": view.result,
    }


def _metric_text(value: float | None) -> str:
    return "     –" if value is None else f"{value:.4f}"
