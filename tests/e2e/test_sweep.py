"""The real command sweeps: killed, stopped, side by side, it ends as if nothing had been."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from autofocus.scoring.scorer import Scorer
from support.photo_tables import COLORS, write_table

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot give a process its cores"
)

CORES = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
ENTRY = """
import os, sys
os.sched_setaffinity(0, {cores})
from autofocus.cli.__main__ import main
main()
"""
NUM_TRIALS = 4


def job(photos: Path, **changes: Any) -> dict[str, Any]:
    return {
        "type": "automl",
        "task": "image_classification",
        "training_data": str(photos),
        "weights": "random",
        "device": "cpu",
        "limits": {"max_trials": NUM_TRIALS},
        "training_parameters": {
            "validation_crop_size": 32,
            "validation_resize_size": 36,
            "training_batch_size": 8,
            "number_of_epochs": 4,
            "early_stopping": False,
        },
        "sweep": {
            "sampling_algorithm": "random",
            "early_termination": {"type": "bandit", "slack_factor": 0.05, "delay_evaluation": 2},
        },
        "search_space": [
            {
                "model_name": {"type": "choice", "values": ["test_resnet", "test_efficientnet"]},
                "learning_rate": {"type": "loguniform", "min_value": -9, "max_value": -4},
            }
        ],
    } | changes


class Run:
    """One run folder, for which the same command is started again and again.

    Every trial computes with one thread: one core for one trial, two for two side by side. So
    their numbers can be compared.
    """

    def __init__(self, document: dict[str, Any], base: Path, num_cores: int = 1) -> None:
        if len(CORES) < num_cores:
            pytest.skip("two trials side by side need two cores")
        self.folder = base / "run"
        self.lines: list[str] = []
        base.mkdir(parents=True, exist_ok=True)
        (base / "job.yml").write_text(yaml.safe_dump(document))
        self._environment = {**os.environ, "AUTOFOCUS_CACHE": str(base / "cache")}
        self._command = [
            *(sys.executable, "-c", ENTRY.format(cores=CORES[:num_cores])),
            *("train", str(base / "job.yml"), "--output-dir", str(self.folder), "--json"),
        ]

    def start(
        self,
        wanted: str = "",
        act: Callable[[subprocess.Popen[str]], None] | None = None,
        num_lines: int = 1,
    ) -> int:
        """Run the command; call `act` when so many lines have matched `wanted`.

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
            for line in process.stderr:
                self.lines.append(line.rstrip())
                num_lines -= re.search(wanted, line) is not None
                if act is not None and num_lines == 0:
                    act(process)
                    act = None
        return process.returncode

    def leaderboard(self) -> bytes:
        return (self.folder / "leaderboard.json").read_bytes()

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_bytes())
        return result

    def ended(self) -> list[str]:
        """Return the trials whose end the last command saw, by id."""
        found = [
            re.match(r"trial (\d+) \(.* · (completed|terminated|failed) ·", x) for x in self.lines
        ]
        return [match[1] for match in found if match]


def after(delay_s: float, number: int = signal.SIGKILL) -> Callable[[subprocess.Popen[str]], None]:
    """Return what sends the driver a signal that long afterwards."""
    return lambda process: threading.Timer(delay_s, process.send_signal, [number]).start()


def kill_a_worker(process: subprocess.Popen[str]) -> None:
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)


def workers_of(driver: int) -> list[int]:
    listed = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed}
    return [
        pid for pid, command in commands.items() if b"autofocus.study.executors.worker" in command
    ]


@pytest.fixture(scope="module")
def undisturbed(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(job(photo_folder), tmp_path_factory.mktemp("undisturbed"))
    assert run.start() == 0, run.lines
    return run


def test_a_sweep_ends_with_ranked_trials_and_a_model(undisturbed: Run) -> None:
    rows = json.loads(undisturbed.leaderboard())
    assert sorted(row["id"] for row in rows) == ["0", "1", "2", "3", "probe"]
    statuses = {row["id"]: row["status"] for row in rows}
    assert set(statuses.values()) >= {"completed", "terminated"}
    result = undisturbed.result()
    assert [row["id"] for row in result["trials"]] == ["probe", "0", "1", "2", "3"]
    assert result["best_trial"] in statuses
    assert result["value"] == result["metrics"]["accuracy"]
    assert Scorer.load(undisturbed.folder / "best_model").labels == ["blue", "green", "red"]
    assert not list(undisturbed.folder.glob("trials/*/last")), "only running trials need it"


def test_finished_it_is_printed_not_repeated(undisturbed: Run) -> None:
    before = undisturbed.leaderboard()
    assert undisturbed.start() == 0
    assert any("finished before" in line for line in undisturbed.lines)
    assert undisturbed.leaderboard() == before


def test_killed_and_interrupted_it_ends_the_same(
    photo_folder: Path, tmp_path: Path, undisturbed: Run
) -> None:
    run = Run(job(photo_folder), tmp_path)
    assert run.start("^epoch 2/", after(0.05)) == -signal.SIGKILL, run.lines
    assert run.start(r"^trial 2 \(3 of 4", after(0.1, signal.SIGINT)) == 130, run.lines
    assert any("The same command goes on" in line for line in run.lines)
    seen = run.ended()
    assert run.start() == 0, run.lines
    assert not set(seen) & set(run.ended()), "what had ended is not repeated"
    assert run.leaderboard() == undisturbed.leaderboard()
    assert run.result()["best_trial"] == undisturbed.result()["best_trial"]


def test_side_by_side_driver_and_worker_killed_it_ends_the_same(
    photo_folder: Path, tmp_path: Path, undisturbed: Run
) -> None:
    limits = {"max_trials": NUM_TRIALS, "max_concurrent_trials": 2}
    run = Run(job(photo_folder, limits=limits), tmp_path, num_cores=2)
    orphans: list[int] = []

    def kill_the_driver(process: subprocess.Popen[str]) -> None:
        orphans.extend(workers_of(process.pid))
        process.kill()

    assert run.start(r"^trial \d: epoch 1/", kill_the_driver) == -signal.SIGKILL, run.lines
    assert len(orphans) == 2
    assert_gone(orphans)
    assert run.start(r"^trial \d: epoch", kill_a_worker) == 0, run.lines
    assert any("died (signal 9)" in line for line in run.lines), run.lines
    assert run.leaderboard() == undisturbed.leaderboard()


def assert_gone(processes: list[int]) -> None:
    """Check that processes end by themselves; they may be busy saving on a slow machine."""
    until_s = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in processes) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_random_kills(photo_folder: Path, tmp_path: Path) -> None:
    """In the probe, in training, in packaging and in between; now and then a worker goes first."""
    most = {"max_trials": 36}
    undisturbed = Run(job(photo_folder, limits=most), tmp_path / "undisturbed")
    assert undisturbed.start() == 0, undisturbed.lines
    limits = {**most, "max_concurrent_trials": 2}
    run = Run(job(photo_folder, limits=limits), tmp_path / "killed", num_cores=2)
    chance = random.Random(0)
    moments = [
        "",
        "features of",
        "frozen probe",
        "at a time",
        *["epoch"] * 4,
        r"· (completed|terminated|failed) ·",
    ]

    killed: list[str] = []

    def kill_both(process: subprocess.Popen[str]) -> None:
        kill_a_worker(process)
        killed.append("worker")
        after(chance.uniform(0, 1))(process)

    for _ in range(20):
        moment, delay_s = chance.choice(moments), chance.uniform(0, 0.3)
        wanted = r"trial \d+: epoch" if moment == "epoch" else moment
        act = kill_both if moment == "epoch" and chance.random() < 0.4 else after(delay_s)
        # What is said of an epoch is said before it is saved: the first one alone gains nothing.
        num_lines = chance.randint(1, 3) if moment == "epoch" else 1
        assert run.start(wanted, act, num_lines) == -signal.SIGKILL, run.lines
        killed.append(f"driver at {moment or 'once'}")
    assert run.start() == 0, run.lines
    print(f"killed: {dict(Counter(killed))}; ended by the last command: {len(run.ended())} of 36")
    assert run.leaderboard() == undisturbed.leaderboard()
    assert run.result()["best_trial"] == undisturbed.result()["best_trial"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_detectors_side_by_side_and_killed_end_as_they_do_alone(tmp_path: Path) -> None:
    photos = write_table(tmp_path / "photos", "boxes", 16)
    parameters = {
        "image_size": 64,
        "training_batch_size": 4,
        "number_of_epochs": 3,
        "early_stopping": False,
    }
    space = [
        {
            "model_name": "fcos_test_resnet_fpn",
            "learning_rate": {"type": "uniform", "min_value": 0.001, "max_value": 0.01},
        }
    ]
    changes: dict[str, Any] = {
        "task": "image_object_detection",
        "training_parameters": parameters,
        "sweep": {"sampling_algorithm": "random"},
        "search_space": space,
    }
    alone = Run(job(photos, **changes, limits={"max_trials": 2}), tmp_path / "alone")
    assert alone.start() == 0, alone.lines
    limits = {"max_trials": 2, "max_concurrent_trials": 2}
    run = Run(job(photos, **changes, limits=limits), tmp_path / "killed", num_cores=2)
    assert run.start(r"^trial \d: epoch 2/", kill_a_worker) == 0, run.lines
    assert any("died (signal 9)" in line for line in run.lines), run.lines
    assert run.leaderboard() == alone.leaderboard()
    rows = json.loads(run.leaderboard())
    assert [(row["status"], row["epochs"]) for row in rows] == [("completed", 3)] * 2
    model = Scorer.load(run.folder / "best_model")
    (reply,) = model.score([(photos / "0.png").read_bytes()])
    assert {box["label"] for box in reply["boxes"]} <= set(model.labels) == set(COLORS)
