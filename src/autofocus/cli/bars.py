"""Progress bars.

A file of its own: only commands that draw a bar import it from rich.
"""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("–/s")
        return Text(f"{task.speed:.{0 if task.speed >= 10 else 1}f}/s")


def make_bars(console: Console, **options: bool) -> Progress:
    """Return bars with rate and ETA; entering the result draws them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, **options)  # type: ignore[arg-type]
