"""Loss and metric curves of a trial as a picture."""

import json
from pathlib import Path


def draw_curves(metrics: Path, picture: Path, primary_metric: str) -> None:
    """Draw `metrics.jsonl` as a PNG: losses, and the primary metric, where they were measured.

    Args:
        metrics: One evaluation a line, as the loop writes them.
        picture: File to write.
        primary_metric: What the right panel shows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    curves = (
        (left, "loss", "training loss", "tab:blue"),
        (left, "log_loss", "validation log loss", "tab:orange"),
        (left, "validation_loss", "validation loss", "tab:red"),
        (right, primary_metric, primary_metric, "tab:green"),
        (right, f"training_{primary_metric}", "on training images", "tab:blue"),
    )
    for panel, name, label, color in curves:
        points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            panel.plot(*zip(*points, strict=True), marker=".", color=color, label=label)
    for row in reversed(rows):
        if row["is_best"]:
            right.axvline(row["epoch"], color="grey", linestyle=":", label="kept")
            break
    for panel in (left, right):
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
    figure.savefig(picture, dpi=100)
