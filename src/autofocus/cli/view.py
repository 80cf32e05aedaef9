"""A run as lines for a terminal: its best and running trials, its end, its memory."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.text import Text

from autofocus.study.folder.reader import RunView, TrialView
from autofocus.study.folder.run_folder import RunProgress

SPARKS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 16
# Narrower terminals get shorter curves.
WIDE = 90
STYLES = {"running": "cyan", "failed": "red"}
# Title, state, memory, head of the table, two lines of omissions, activity, and its bar.
NUM_OTHER_LINES = 8
MAX_ROWS = 8


def view(run: RunView, memory: str, width: int, height: int, now: float) -> Group:
    """Return a run as lines for a terminal.

    Args:
        run: State of the run.
        memory: Memory of the run, in words; empty where unknown.
        width: Width of the terminal, in characters.
        height: Height of the terminal, in lines; a low one shows fewer trials.
        now: Unix time, in seconds.
    """
    num_rows = max(2, height - NUM_OTHER_LINES)
    running = run.running[: min(MAX_ROWS, num_rows // 2)]
    best = run.best[: min(MAX_ROWS, num_rows - len(running))]
    # A model that all trials share is named once, in the title.
    models = {trial.model for trial in (*best, *running)}
    model = next(iter(models)) if len(models) == 1 else ""
    lines = [_line(_title(run, model), "bold"), _line(_state(run, now))]
    if memory:
        lines.append(_line(memory))
    lines.append(_line(_head(run.metric, width, model), "dim"))
    for trial in best:
        style = "green" if trial.id == run.served else STYLES.get(trial.status, "")
        about = [served_text(trial) if trial.id == run.served else "", *_about(trial, model)]
        row = _row(trial, width, _epochs(trial), _spent(trial.seconds), about)
        lines.append(_line(row, style))
    if len(run.leaderboard) > len(best):
        lines.append(_line(f"… {len(run.leaderboard) - len(best)} more in leaderboard.json", "dim"))
    for trial in running:
        # Under a budget, time ends it before its epochs do.
        epochs = _epochs(trial, None if run.progress.get("deadline") else trial.num_epochs)
        row = _row(trial, width, epochs, _spent(_so_far(trial, now)), _about(trial, model))
        lines.append(_line(row, STYLES["running"]))
    if len(run.running) > len(running):
        lines.append(_line(f"… {len(run.running) - len(running)} more running", "dim"))
    return Group(*lines)


def _title(run: RunView, model: str) -> str:
    status = "" if run.status == "running" else run.status
    aim = " by ".join(filter(None, (run.task, run.metric)))
    return _joined([aim, status, model, str(run.path)])


def _state(run: RunView, now: float) -> str:
    # Probes and refits have names instead of numbers.
    counts = Counter(row["status"] for row in run.leaderboard if row["id"].isdigit())
    of = "" if run.num_trials is None else f" of {run.num_trials}"
    ended = f"{counts.total()}{of} trials ended"
    if set(counts) - {"completed"}:
        ended += f" ({', '.join(f'{n} {status}' for status, n in sorted(counts.items()))})"
    parts = [ended]
    if run.served is not None:
        parts.append(f"served: trial {run.served}")
    if run.status == "running":
        parts += _times(run.progress, now)
    return _joined(parts)


def _times(progress: RunProgress, now: float) -> Iterable[str]:
    if (started := progress.get("started")) is not None:
        yield f"{clock(now - started)} gone"
    if (eta := progress.get("eta")) is not None:
        yield f"ETA {_of_day(eta)}, in {clock(eta - now)}"
    if (deadline := progress.get("deadline")) is not None:
        yield f"budget until {_of_day(deadline)}"


def _head(metric: str, width: int, model: str) -> str:
    # A long name is in the title only.
    value = metric if len(metric) <= 8 else "value"
    about = "parameters" if model else "model, parameters"
    curve = f"{'curve':{_curve_width(width)}}"
    return f"trial  {value:>8}  {curve}  {'epochs':>7}  {'time':>7}  {'status':10}  {about}"


def _row(trial: TrialView, width: int, epochs: str, spent: str, about: Iterable[str]) -> str:
    value = "–" if trial.value is None else f"{trial.value:.4f}"
    curve_width = _curve_width(width)
    curve = f"{sparkline(trial.curve, curve_width):{curve_width}}"
    cells = f"{trial.id:>5}  {value:>8}  {curve}  {epochs:>7}  {spent:>7}  {trial.status:10}"
    return "  ".join([cells, *filter(None, about)])


def _about(trial: TrialView, model: str) -> Iterable[str]:
    if trial.status == "running" and trial.images_a_second is not None:
        yield f"{trial.images_a_second:.0f} images/s"
    if trial.status == "failed":
        yield trial.reason
    if not model:
        yield trial.model
    yield parameters_text(trial.parameters)


def served_text(trial: TrialView) -> str:
    """Return that a trial's model is served, and why where that is known."""
    why = trial.row.get("why")
    return "served" if why is None else f"served: {why}"


def _epochs(trial: TrialView, at_most: int | None = None) -> str:
    return str(trial.epochs) if at_most is None else f"{trial.epochs}/{at_most}"


def _so_far(trial: TrialView, now: float) -> float | None:
    if trial.began is None:
        return None
    return (trial.seconds or 0.0) + now - trial.began


def _spent(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds)


def _curve_width(width: int) -> int:
    return CURVE_WIDTH if width >= WIDE else CURVE_WIDTH // 2


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _joined(parts: Iterable[str]) -> str:
    return " · ".join(filter(None, parts))


def _of_day(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s):%H:%M}"


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Return parameters as text, without the model's name."""
    others = {name: value for name, value in parameters.items() if name != "model_name"}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in others.items()
    )


def clock(seconds: float) -> str:
    """Return a duration as `42 s`, `3:05` or `2:03:05`."""
    whole = math.ceil(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def sparkline(curve: Sequence[float | None], width: int = CURVE_WIDTH) -> str:
    """Return the last points of a curve, a character each, scaled to its range.

    Args:
        curve: Values; None is undefined and becomes a gap.
        width: Most characters.
    """
    known = [value for value in curve if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    latest = curve[-width:]
    return "".join(" " if v is None else SPARKS[round((v - low) * scale)] for v in latest)
