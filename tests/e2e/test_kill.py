"""The real command, killed and stopped at random moments: it ends as if nothing had been."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import commands
from support.photos import draw_photo, write_photo

# Of the default tests; ten kills need more to happen in.
FEW, MANY = 10, 30
# A line that every command says, and the most seconds after it that the kill comes: at the start,
# in the probe, before training, in its first step, between steps, in evaluations and in saves.
MOMENTS = [
    ("", 4.0),
    ("features of", 0.5),
    ("frozen probe", 0.5),
    ("image cache", 0.5),
    *[("epoch", 0.3)] * 4,
]


@pytest.fixture(scope="module")
def hard_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of discs that differ by little, a sixth of them with the wrong label.

    What judges is given: held out, it would ask for other folds and be learnt from in the end.
    """
    root = tmp_path_factory.mktemp("hard")
    rng = np.random.default_rng(0)
    for i in range(48):
        is_warm = i % 2 == 0
        colour = (150, 120, 110) if is_warm else (110, 120, 150)
        name = "warm" if is_warm != (rng.random() < 1 / 6) else "cold"
        split = "train" if i < 38 else "validation"
        write_photo(root / split / name / f"{i}.png", draw_photo(colour, i, (48, 64)))
    return root


class Run:
    """One run folder, for which the same command is started again and again."""

    def __init__(self, photos: Path, base: Path, num_epochs: int = FEW) -> None:
        self.folder = base / "run"
        self.lines: list[str] = []
        self._environment = {**os.environ, "AUTOFOCUS_CACHE": str(base / "cache")}
        settings = {
            "validation_crop_size": 32,
            "number_of_epochs": num_epochs,
            "training_batch_size": 8,
            "early_stopping": "false",
        }
        self._command = [
            *(sys.executable, "-m", "autofocus", "train"),
            *("--task", "image_classification", "--data", str(photos)),
            *("--model", "test_resnet", "--weights", "random", "--device", "cpu"),
            *(f"--set=training_parameters.{name}={value}" for name, value in settings.items()),
            *("--output-dir", str(self.folder), "--json"),
        ]

    def start(self, wanted: str = "", delay_s: float = 0.0, number: int | None = None) -> int:
        """Run the command; send signal `number` that long after a line with `wanted`.

        Returns:
            The exit status; `lines` are what it said.
        """
        self.lines = []
        with subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            timer = threading.Timer(delay_s, process.send_signal, [number])
            if number is not None and wanted == "":
                timer.start()
                number = None
            for line in process.stderr:
                self.lines.append(line.rstrip())
                if number is not None and wanted in line:
                    timer.start()
                    number = None
        timer.cancel()
        return process.returncode

    def epochs(self) -> list[int]:
        """Return the epochs that the last command finished."""
        done = [line.split()[1] for line in self.lines if line.startswith("epoch ")]
        return [int(word.partition("/")[0]) for word in done]

    def resumed_after(self) -> int | None:
        """Return the epoch after which the last command went on, or None."""
        for line in self.lines:
            if line.startswith("resumed after epoch "):
                return int(line.split()[3].rstrip(","))
        return None

    def metrics(self) -> list[dict[str, Any]]:
        text = (self.folder / "trials" / "1" / "metrics.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]

    def assert_same_end(self, other: "Run") -> None:
        assert self.metrics() == other.metrics()
        name = "leaderboard.json"
        assert (self.folder / name).read_bytes() == (other.folder / name).read_bytes()
        results = [json.loads((run.folder / "result.json").read_bytes()) for run in (self, other)]
        assert results[0]["metrics"] == results[1]["metrics"]
        weights = [run.folder / "best_model" / "model.safetensors" for run in (self, other)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.fixture(scope="module")
def undisturbed(
    hard_photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Run]:
    """Return what gives the run of so many epochs, started once."""

    @functools.cache
    def of(num_epochs: int) -> Run:
        run = Run(hard_photos, tmp_path_factory.mktemp("undisturbed"), num_epochs)
        assert run.start() == 0, run.lines
        assert run.epochs() == list(range(1, num_epochs + 1))
        losses = [row["loss"] for row in run.metrics()[1:]]
        assert losses[-1] < losses[0], "there is something to learn"
        return run

    return of


@pytest.mark.parametrize(
    ("num_kills", "num_epochs"),
    [(2, FEW), pytest.param(10, MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
    ids=["two", "ten"],
)
def test_killed_at_random_moments(
    hard_photos: Path,
    tmp_path: Path,
    undisturbed: Callable[[int], Run],
    num_kills: int,
    num_epochs: int,
) -> None:
    run = Run(hard_photos, tmp_path, num_epochs)
    chance = random.Random(20_000 + num_kills)
    seen, num_trained, killed = 0, 0, []
    while len(killed) < num_kills:
        # Two kills are to be in training.
        moment, most_s = chance.choice(MOMENTS if num_kills > 2 else MOMENTS[-2:])
        delay_s = chance.uniform(0, most_s)
        started_s = time.monotonic()
        status = run.start(moment, delay_s, signal.SIGKILL)
        assert status == -signal.SIGKILL, run.lines
        killed.append((moment, round(delay_s, 2), round(time.monotonic() - started_s, 1)))
        if (resumed := run.resumed_after()) is not None:
            # The line is written just before its epoch is saved: that one may be lost.
            assert resumed >= seen - 1, killed
        seen = max([seen, *run.epochs()])
        num_trained += len(run.epochs())
    assert run.start() == 0, run.lines
    resumed = run.resumed_after()
    if seen > 1:
        assert resumed is not None
        assert resumed >= seen - 1, killed
    num_trained += len(run.epochs())
    assert num_trained <= num_epochs + len(killed), "at most one epoch is repeated a kill"
    print(*killed, f"{num_trained} epochs trained", sep="\n")
    run.assert_same_end(undisturbed(num_epochs))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_interrupted_it_says_how_to_go_on(
    hard_photos: Path, tmp_path: Path, undisturbed: Callable[[int], Run]
) -> None:
    run = Run(hard_photos, tmp_path)
    assert run.start("epoch 2/", 0.05, signal.SIGINT) == 130, run.lines
    assert not any("Traceback" in line for line in run.lines)
    (said,) = [line for line in run.lines if line.startswith("error: ")]
    assert "can be served" in said
    assert "The same command goes on" in said
    assert not (run.folder / "result.json").exists()
    photo = next(hard_photos.rglob("*.png"))
    scored = commands.run("score", run.folder / "best_model", photo, "--json")
    assert scored.returncode == 0, scored.stderr
    assert "probs" in scored.stdout
    assert run.start() == 0, run.lines
    assert run.resumed_after() is not None
    run.assert_same_end(undisturbed(FEW))
