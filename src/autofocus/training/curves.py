"""Loss and metric curves of a trial as a picture."""

import json
from pathlib import Path


def draw_curves(metrics: Path, picture: Path, primary_metric: str) -> None:
    """Draw `metrics.jsonl` as a PNG: training loss and validation loss, and the primary metric.

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
    for name, label in (("loss", "training loss"), ("log_loss", "validation log loss")):
        points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            left.plot(*zip(*points, strict=True), marker=".", label=label)
    points = [(r["epoch"], r[primary_metric]) for r in rows if r.get(primary_metric) is not None]
    if points:
        right.plot(*zip(*points, strict=True), marker=".", color="tab:green", label=primary_metric)
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
