"""A trial's folder `trials/<id>/`: enough to rank it, to package it, and to compare others with it.

trial.json  metrics.jsonl  manifest.json  losses.npy  published.json  best/  last/  log.txt
error.txt
"""

import json
import shutil
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autofocus.manifest import MANIFEST_NAME, Manifest, read_manifest
from autofocus.runtime import whole_file
from autofocus.study.folder.run_folder import read_json

# Runs are read and listed without torch.
if TYPE_CHECKING:
    from autofocus.training.candidate import Candidate

TRIAL_NAME = "trial.json"
METRICS_NAME = "metrics.jsonl"
# Statuses of trials that have not ended.
UNFINISHED = ("running", "stopped")
_LOSSES_NAME = "losses.npy"


class Curve:
    """A trial's values of the primary metric, one an evaluation.

    Attributes:
        points: (interval, value) of the n-th evaluation, interval n; without undefined values.
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self._steps: list[int] = []

    @property
    def interval(self) -> int:
        """Number of evaluations."""
        return len(self._steps)

    def add(self, report: dict[str, Any], metric: str) -> bool:
        """Add a report of the loop; return whether it counts: the initial network's does not.

        An evaluation that a resumed trial repeats replaces the earlier one.
        """
        if report["loss"] is None:
            return False
        known = bisect_left(self._steps, report["step"])
        del self._steps[known:]
        while self.points and self.points[-1][0] > known:
            self.points.pop()
        self._steps.append(report["step"])
        value = report.get(metric)
        if value is not None:
            self.points.append((self.interval, float(value)))
        return True


def keep_losses(folder: Path, losses: NDArray[np.float64]) -> None:
    """Write the loss of each validation image or group of images, [n]."""
    with whole_file(folder / _LOSSES_NAME) as file:
        np.save(file, losses, allow_pickle=False)


def forget_result(folder: Path) -> None:
    """Remove a trial's result and its publication: it trains on, or cannot be served."""
    for name in (MANIFEST_NAME, _LOSSES_NAME, "published.json"):
        (folder / name).unlink(missing_ok=True)


def read_row(folder: Path) -> dict[str, Any] | None:
    """Return a trial's row, or None if it was never begun."""
    row: dict[str, Any] | None = read_json(folder / TRIAL_NAME)
    return row


def read_result(folder: Path) -> Manifest | None:
    """Return the manifest of a trial's best network, or None without one."""
    return read_manifest(folder) if (folder / MANIFEST_NAME).exists() else None


def read_losses(folder: Path) -> NDArray[np.float64] | None:
    """Return the loss of each validation image or group, [n], or None without any."""
    path = folder / _LOSSES_NAME
    if not path.exists():
        return None
    losses: NDArray[np.float64] = np.load(path, allow_pickle=False)
    return losses


def read_curve(folder: Path, metric: str) -> Curve:
    """Return a trial's values of a metric so far."""
    curve = Curve()
    for report in _read_reports(folder):
        curve.add(report, metric)
    return curve


def last_epoch(folder: Path) -> int:
    """Return the last epoch that was evaluated; 0 before the first."""
    reports = _read_reports(folder)
    return int(reports[-1]["epoch"]) if reports else 0


def parse_reports(text: bytes) -> list[dict[str, Any]]:
    """Return the loop's reports in `metrics.jsonl`, one an evaluation."""
    # Not orjson: the loop writes with the standard library, which allows NaN.
    return [json.loads(line) for line in text.splitlines()]


def _read_reports(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS_NAME
    return parse_reports(path.read_bytes()) if path.exists() else []


def rebuild(folder: Path, manifest: Manifest, check_images: Sequence[str]) -> "Candidate":
    """Return a trial's best network as it was when training ended.

    Args:
        folder: Trial folder.
        manifest: The trial's manifest.
        check_images: Locations of validation images.
    """
    from autofocus.models.families import build_described
    from autofocus.models.network import Classifier
    from autofocus.training.candidate import Candidate
    from autofocus.training.checkpoint import load_checkpoint

    best = load_checkpoint(folder / "best")
    assert best is not None, "a trial with a manifest has weights"
    network = build_described(manifest)
    network.load_state_dict(best[0])
    if isinstance(network, Classifier):
        # `best/` has the trained weights; the temperature was found later.
        temperature = manifest.calibration.temperature
        network.set_head(network.head.weight / temperature, network.head.bias / temperature)
    return Candidate(network.eval(), manifest, check_images)


def drop_checkpoint(folder: Path) -> None:
    """Remove the checkpoint to resume from: most of a trial's disk space."""
    for path in folder.glob("*last*"):
        shutil.rmtree(path, ignore_errors=True)


def forget_derived(folder: Path) -> None:
    """Remove what was made of a trial that trains on: its refit, and its recipe on other folds."""
    trials, trial = folder.parent, folder.name
    for made in (trials / f"refit-{trial}", *trials.glob(f"{trial}-fold-*")):
        shutil.rmtree(made, ignore_errors=True)
