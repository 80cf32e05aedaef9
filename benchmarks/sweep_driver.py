"""What a sweep costs besides training: CPU and fsyncs of the driver, trial by trial.

    python benchmarks/sweep_driver.py --trials 1000

Trials end at once, after two evaluations that the early termination policy looks at. Targets:
20 ms CPU and 4 fsyncs a trial, flat from the first to the last.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from autofocus.sweep.trial import TrialEnd
from conftest import draw_photo, write_photo
from simulated_sweep import conducted, sweep_job

NUM_PARTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampling", default="random")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    measured = measure(arguments.trials, arguments.sampling)
    if arguments.json:
        print(json.dumps(measured, indent=2))
        return
    print("trials       CPU ms a trial   fsyncs a trial")
    for part in measured["parts"]:
        print(f"{part['trials']:>11}  {part['cpu_ms']:14.2f}  {part['fsyncs']:15.2f}")


def measure(num_trials: int, sampling: str) -> dict[str, Any]:
    """Return CPU and fsyncs a trial, in ten parts of the sweep."""
    fsyncs = _count_fsyncs()
    policy = {"type": "bandit", "slack_factor": 0.2}
    parts = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for label in ("a", "b"):
            for i in range(2):
                write_photo(base / "data" / label / f"{i}.png", draw_photo((9, 9, 9), i, (32, 32)))
        job = sweep_job(
            base / "data", num_trials, sampling_algorithm=sampling, early_termination=policy
        )
        chance = random.Random(0)
        with conducted(job, base / "run") as sweep:
            # The first ask of a sampler imports what it needs.
            _one(sweep, chance)
            for part in range(NUM_PARTS):
                count = num_trials // NUM_PARTS - (part == 0)
                cpu_s, synced = time.process_time(), fsyncs()
                for _ in range(count):
                    _one(sweep, chance)
                parts.append(
                    {
                        "trials": f"{part * (num_trials // NUM_PARTS)}+{count}",
                        "cpu_ms": 1000 * (time.process_time() - cpu_s) / count,
                        "fsyncs": (fsyncs() - synced) / count,
                    }
                )
    return {"num_trials": num_trials, "sampling": sampling, "parts": parts}


def _one(sweep: Any, chance: random.Random) -> None:
    assignment = sweep.next_trial()
    value = 0.5
    for epoch in (1, 2):
        value = chance.random()
        report = {"epoch": epoch, "step": epoch, "loss": 0.5, "accuracy": value}
        sweep.report(assignment.number, report)
    end = TrialEnd("completed", "all epochs done", value, 2, 0.1)
    sweep.end(assignment.number, end)
    sweep.improve()


def _count_fsyncs() -> Callable[[], int]:
    real, count = os.fsync, 0

    def counted(handle: int) -> None:
        nonlocal count
        count += 1
        real(handle)

    os.fsync = counted
    return lambda: count


if __name__ == "__main__":
    main()
