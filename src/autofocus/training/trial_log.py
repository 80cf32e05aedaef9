"""The log of a trial in its own folder, below facts about it, and its curves as a picture."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import torch

from autofocus.models.base import LoadedWeights
from autofocus.runtime import naming_full_disk

LOG_NAME = "log.txt"

_PRECISIONS = {"no": "fp32"}


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Let training go on without the line; a full disk ends it where that matters."""


@contextmanager
def trial_log(folder: Path, facts: Mapping[str, object]) -> Iterator[None]:
    """Append what autofocus logs to `log.txt` in a trial's folder, while this is entered.

    Args:
        folder: Trial folder; made when missing.
        facts: Facts to write first, one a line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"began": f"{datetime.now():%Y-%m-%d %H:%M:%S}", **facts}
    width = max(map(len, facts))
    head = [f"{name:{width}}  {value}" for name, value in facts.items()]
    path = folder / LOG_NAME
    with naming_full_disk(path), path.open("a", encoding="utf-8") as file:
        file.write("\n".join(head) + "\n")
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("autofocus")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        # Lines for which the disk had no room are tried once more, and are not worth an error.
        with suppress(OSError):
            handler.close()


def trial_facts(
    weights: LoadedWeights,
    device: torch.device,
    precision: str,
    deadline_s: float | None,
    source: str,
    num_training: int,
    num_validation: int | None,
) -> dict[str, object]:
    """Return facts about a trial, for the head of its log.

    Args:
        weights: Pretrained weights.
        device: Device of training.
        precision: accelerate's name of the precision; `no` is fp32.
        deadline_s: Time (`time.monotonic()`) by which it ends; None for no limit.
        source: Name of the data.
        num_training: Training images.
        num_validation: Validation images; None for a share of the training images.
    """
    judged = "a share of them" if num_validation is None else f"{num_validation} images"
    left = "none" if deadline_s is None else f"{max(0.0, deadline_s - time.monotonic()):.0f} s left"
    return {
        "data": f"{source}: {num_training} images to learn from, {judged} to judge by",
        "model": weights.spec.name,
        "weights": f"{weights.info.source} {weights.info.sha256 or ''}".rstrip(),
        "licence": weights.info.licence,
        "device": _shown(device),
        "precision": _PRECISIONS.get(precision, precision),
        "budget": left,
    }


def _shown(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' * (threads != 1)}"


def draw_curves(metrics: Path, picture: Path, primary_metric: str) -> None:
    """Draw the losses and the primary metric of `metrics.jsonl` as a PNG.

    Args:
        metrics: The loop's `metrics.jsonl`, one evaluation a line.
        picture: File to write.
        primary_metric: Metric of the right panel.
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
