"""`autofocus runs`: list, show, compare, resume and stop runs."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.output import AsJson, command, emit, emit_json, showing_run
from autofocus.cli.train import show_result

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
    from autofocus.study.folder.runs import find_runs

    found = find_runs(root)
    if as_json:
        emit_json([_summary(run) for run in found])
        return
    if not found:
        emit(f"{root}: no runs")
    for run in found:
        best = run.best
        text = (
            f"{run.path}  {run.status}  {run.changed}  {run.task}  "
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
    from autofocus.study.folder.runs import read_run

    if follow and not as_json:
        _watch(run)
        return
    view = read_run(run)
    if as_json:
        emit_json({**_summary(view), "leaderboard": view.leaderboard, "running": view.running})
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
    from autofocus.study.folder.runs import differences, read_run

    views = [read_run(run) for run in runs]
    changed = differences(views)
    if as_json:
        emit_json({"runs": [_summary(view) for view in views], "differences": changed})
        return
    for view in views:
        best, result = view.best, view.result or {}
        test = (result.get("test_metrics") or {}).get(view.metric)
        seconds = f"{result['seconds']:.0f} s" if result else view.status
        emit(
            f"{view.path}  {view.metric} {_metric_text(best.get('value'))} on validation, "
            f"{_metric_text(test)} on test data  {best.get('model', '')}  {seconds}"
        )
    for key, values in changed.items():
        emit(f"{key}: {' | '.join(str(value) for value in values)}")


@app.command()
@command
def resume(run: Folder, as_json: AsJson = False) -> None:
    """Go on with a run that was stopped or killed; a finished one prints its result."""
    from autofocus import api
    from autofocus.study.folder.runs import request

    job, folder = request(run)
    # Relative paths in the job start where the run was started.
    os.chdir(folder)
    with showing_run(as_json=as_json) as (track, on_folder):
        result = api.train(job, track=track, on_folder=on_folder)
    if as_json:
        emit_json(result)
    else:
        show_result(result)


@app.command()
@command
def stop(run: Folder, as_json: AsJson = False) -> None:
    """Ask a run to stop; it saves what is running, and 'runs resume' goes on with it."""
    from autofocus.study.folder.runs import stop_run

    process = stop_run(run)
    if as_json:
        emit_json({"run": str(run), "process": process})
    else:
        emit(f"{run}: asked process {process} to stop; 'autofocus runs resume {run}' goes on")


def _watch(run: Path) -> None:
    from autofocus.cli.live import SteadyConsole, follow_run
    from autofocus.study.folder.runs import read_run

    # Raises an error if this is no run folder.
    read_run(run)
    console = SteadyConsole()
    if console.is_interactive and not console.is_dumb_terminal:
        follow_run(run, console)
    else:
        _follow(run)


def _follow(run: Path) -> None:
    """Print a line for each trial as it ends, as for a log."""
    from autofocus.study.folder.runs import read_run

    printed: set[str] = set()
    while True:
        view = read_run(run)
        for row in view.leaderboard:
            if row["id"] not in printed:
                printed.add(row["id"])
                emit(_line(row, view.curve(row["id"])))
        if view.status != "running":
            return
        time.sleep(WATCH_S)


def _lines(view: Any) -> list[str]:
    limits = view.job["limits"]
    lines = [
        f"{view.path}  {view.status}  {view.task} by {view.metric}",
        f"{len(view.leaderboard)} trials ended, at most {limits['max_trials']}{_memory(view)}",
    ]
    lines += [_line(row, view.curve(row["id"])) for row in view.leaderboard[:MAX_TRIALS]]
    if len(view.leaderboard) > MAX_TRIALS:
        lines.append(f"… {len(view.leaderboard) - MAX_TRIALS} more in leaderboard.json")
    return [*lines, *(_line(row, view.curve(row["id"])) for row in view.running)]


def _line(row: dict[str, Any], curve: list[float | None]) -> str:
    from autofocus.cli.view import CURVE_WIDTH, parameters_text, sparkline

    known = [value for value in curve if value is not None]
    value = row["value"] if row["status"] != "running" else max(known, default=None)
    cells = f"{row['id']:>5}  {_metric_text(value)}  {sparkline(curve):{CURVE_WIDTH}}"
    about = f"{row['model']}  {parameters_text(row.get('parameters', {}))}"
    return f"{cells}  {row['status']:10}  {about}".rstrip()


def _memory(view: Any) -> str:
    """Return the driver's memory as text; empty where the system does not tell."""
    path = Path(f"/proc/{view.process}/statm")
    if view.process is None or not path.exists():
        return ""
    held_bytes = int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return f" · process {view.process}, {held_bytes / 2**30:.1f} GiB"


def _summary(view: Any) -> dict[str, Any]:
    return {
        "run": str(view.path),
        "status": view.status,
        "process": view.process,
        "task": view.task,
        "primary_metric": view.metric,
        "changed": view.changed,
        "num_trials": len(view.leaderboard),
        "best": view.best,
        "result": view.result,
    }


def _metric_text(value: float | None) -> str:
    return "     –" if value is None else f"{value:.4f}"
