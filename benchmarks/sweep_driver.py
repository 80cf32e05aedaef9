"""Cost of a sweep besides training.

    python benchmarks/sweep_driver.py --trials 1000
    python benchmarks/sweep_driver.py warm

The first: CPU and fsyncs of the driver, trial by trial. Trials end at once, after two evaluations
that the early termination policy looks at. Targets: 20 ms CPU and 4 fsyncs a trial, flat from the
first to the last.

The second: a real sweep in two worker processes; from the end of a trial to the first step of the
next one in the same process, and what that time is. Target: 0.5 s.
"""

import argparse
import functools
import importlib
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

NUM_PARTS = 10
NUM_WORKERS = 2
# Where a worker writes its times, one trial a line.
TIMES = "SWEEP_DRIVER_TIMES"
# What lies between two trials of a worker: (module, name) to what it is.
PARTS = {
    ("autofocus.training.trial", "TrialSpec.prepare"): "weights",
    ("filelock", "FileLock.acquire"): "waiting for another",
    ("autofocus.models.timm.family", "TimmFamily.build"): "network",
    ("autofocus.training.probe_trial", "extract_features"): "features",
    ("autofocus.training.probe_trial", "fit_probe_once"): "probe's head",
    ("autofocus.training.loop", "TrainingLoop.__post_init__"): "optimizer",
    ("autofocus.training.loop", "TrainingLoop._start"): "first evaluation",
    ("autofocus.training.loop", "TrainingLoop._fit_into_memory"): "dry step",
}
FIRST_STEP = ("autofocus.training.loop", "TrainingLoop._on_device")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", nargs="?", default="driver", choices=["driver", "warm", "worker"])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--sampling", default="random")
    parser.add_argument("--data", help="warm: a folder of photos; default: 48 drawn ones")
    parser.add_argument("--models", nargs="+", default=["test_resnet"], help="warm")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.mode == "worker":
        work()
        return
    if arguments.mode == "warm":
        measured = measure_warm(arguments.trials or 12, arguments.data, arguments.models)
        show = show_warm
    else:
        measured = measure_driver(arguments.trials or 1000, arguments.sampling)
        show = show_driver
    if arguments.json:
        print(json.dumps(measured, indent=2))
    else:
        show(measured)


def measure_driver(num_trials: int, sampling: str) -> dict[str, Any]:
    """Return CPU and fsyncs a trial, in ten parts of the sweep."""
    from support.simulated_sweep import scheduled, sweep_job

    fsyncs = _count_fsyncs()
    policy = {"type": "bandit", "slack_factor": 0.2}
    parts = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        draw_photos(base / "data", 2, 2, (32, 32))
        job = sweep_job(
            base / "data", num_trials, sampling_algorithm=sampling, early_termination=policy
        )
        chance = random.Random(0)
        with scheduled(job, base / "run") as sweep:
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


def show_driver(measured: dict[str, Any]) -> None:
    print("trials       CPU ms a trial   fsyncs a trial")
    for part in measured["parts"]:
        print(f"{part['trials']:>11}  {part['cpu_ms']:14.2f}  {part['fsyncs']:15.2f}")


def draw_photos(folder: Path, num_labels: int, num_images: int, size: tuple[int, int]) -> None:
    from support.photos import draw_photo, write_photo

    for k in range(num_labels):
        for i in range(num_images):
            photo = draw_photo((70 * k, 9, 200 - 70 * k), 100 * k + i, size)
            write_photo(folder / f"class{k}" / f"{i}.png", photo)


def _one(sweep: Any, chance: random.Random) -> None:
    from autofocus.study.trials.base import TrialEnd

    assignment = sweep.next_trial()
    value = 0.5
    for epoch in (1, 2):
        value = chance.random()
        report = {"epoch": epoch, "step": epoch, "loss": 0.5, "accuracy": value}
        sweep.report(assignment.number, report)
    end = TrialEnd("completed", "all epochs done", value, 2, 0.1)
    sweep.end(assignment.number, end)
    sweep.publish_best()


def _count_fsyncs() -> Callable[[], int]:
    real, count = os.fsync, 0

    def counted(handle: int) -> None:
        nonlocal count
        count += 1
        real(handle)

    os.fsync = counted
    return lambda: count


def measure_warm(num_trials: int, data: str | None, models: Sequence[str]) -> dict[str, Any]:
    """Return the gaps between the trials of each worker of a real sweep, in seconds."""
    from autofocus.study import study
    from autofocus.study.executors import local
    from autofocus.study.run import run

    local.WORKER = (__file__, "worker")
    publishing: list[tuple[float, float]] = []
    study.Study.publish = _timed(study.Study.publish, lambda *span: publishing.append(span))
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        os.environ[TIMES] = str(base / "times.jsonl")
        os.environ.setdefault("AUTOFOCUS_CACHE", str(base / "cache"))
        if data is None:
            draw_photos(base / "data", 3, 16, (96, 128))
        run(
            {
                "task": "image_classification",
                "training_data": data or str(base / "data"),
                "output_dir": str(base / "run"),
                "weights": "random",
                "device": "cpu",
                "limits": {"max_trials": num_trials, "max_concurrent_trials": NUM_WORKERS},
                "training_parameters": {
                    "number_of_epochs": 1,
                    "validation_crop_size": 64,
                    "validation_resize_size": 72,
                },
                "search_space": [
                    {
                        "model_name": {"type": "choice", "values": list(models)},
                        "learning_rate": {"type": "uniform", "min_value": 1e-4, "max_value": 1e-2},
                    }
                ],
            }
        )
        trials = [json.loads(line) for line in (base / "times.jsonl").read_text().splitlines()]
    return {"models": list(models), "gaps": gaps(trials, publishing), "target_s": 0.5}


def gaps(
    trials: Sequence[dict[str, Any]], publishing: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Return the gaps between consecutive trials in one process."""
    found = []
    for process in {trial["process"] for trial in trials}:
        mine = [trial for trial in trials if trial["process"] == process]
        for before, after in itertools.pairwise(mine):
            if after["first_step"] is None:
                continue
            since, until = before["end"], after["first_step"]
            busy = sum(max(0.0, min(until, b) - max(since, a)) for a, b in publishing)
            parts = {"driver": after["start"] - since, **after["parts"]}
            whole_s = until - since
            gap = {"trial": after["trial"], "whole": whole_s, **parts}
            gap["other"] = whole_s - sum(parts.values())
            found.append(gap | {"while the driver packaged": busy})
    return sorted(found, key=lambda gap: int(gap["trial"]))


def show_warm(measured: dict[str, Any]) -> None:
    names = list(dict.fromkeys(name for gap in measured["gaps"] for name in gap))
    names.remove("trial")
    print(f"{len(measured['gaps'])} times from a trial's end to the next one's first step, in s")
    print(f"{'':26}  {'median':>7}  {'most':>7}")
    for name in names:
        values = [gap.get(name, 0.0) for gap in measured["gaps"]]
        print(f"{name:26}  {statistics.median(values):7.3f}  {max(values):7.3f}")


def work() -> None:
    """Run a worker that records the begin, first step and end of each of its trials."""
    from autofocus.study.executors import worker as workers

    now: dict[str, Any] = {}

    def add(what: str, began_s: float, ended_s: float) -> None:
        # What comes after the first step is training.
        if now.get("first_step") is None and now:
            now["parts"][what] = now["parts"].get(what, 0.0) + ended_s - began_s

    def step(began_s: float, ended_s: float) -> None:
        if now["first_step"] is None:
            now["first_step"] = began_s

    for (module, name), what in PARTS.items():
        _replace(module, name, functools.partial(add, what))
    _replace(*FIRST_STEP, step)
    run_trial = workers.run_trial

    def timed_trial(spec: Any, samples: Any, context: Any) -> Any:
        began_s = time.monotonic()
        now.update(start=began_s, first_step=None, parts={}, trial=spec.id)
        try:
            return run_trial(spec, samples, context)
        finally:
            line = {**now, "end": time.monotonic(), "process": os.getpid()}
            with Path(os.environ[TIMES]).open("a") as file:
                file.write(json.dumps(line) + "\n")

    workers.run_trial = timed_trial
    workers.main()


def _replace(module: str, name: str, take: Callable[[float, float], None]) -> None:
    *owners, attribute = name.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, attribute, _timed(getattr(owner, attribute), take))


def _timed(function: Callable[..., Any], take: Callable[[float, float], None]) -> Any:
    @functools.wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        began_s = time.monotonic()
        try:
            return function(*arguments, **options)
        finally:
            take(began_s, time.monotonic())

    return timed


if __name__ == "__main__":
    main()
