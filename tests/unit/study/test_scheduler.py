"""The scheduler: order, early termination, failures and kills, without training anything."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from autofocus.errors import BudgetError, StoppedError, TrainingError
from autofocus.study.trials.base import TrialEnd
from support.simulated_sweep import (
    KilledError,
    SimulatedExecutor,
    Values,
    scheduled,
    sweep_job,
)

NUM_TRIALS = 9
POLICIES: dict[str, dict[str, Any]] = {
    "bandit": {"type": "bandit", "slack_factor": 0.1, "delay_evaluation": 1},
    "median": {"type": "median_stopping"},
    "truncation": {
        "type": "truncation_selection",
        "truncation_percentage": 40,
        "evaluation_interval": 2,
    },
    "truncation-running": {
        "type": "truncation_selection",
        "truncation_percentage": 40,
        "exclude_finished_jobs": True,
    },
    "asha": {"type": "asha", "eta": 2, "rungs": [1, 2]},
}


def values(number: int, epoch: int) -> float | None:
    """Curves that cross; now and then a metric is undefined."""
    if (number, epoch) in {(2, 1), (5, 3)}:
        return None
    return 0.5 + 0.4 * math.sin(number * 2.3) * math.tanh(epoch / 2) + 0.01 * epoch


def fails_at(number: int) -> int:
    return {3: 2, 6: 1}.get(number, 0)


def leaderboard(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "leaderboard.json").read_bytes())
    return rows


def undisturbed(job: dict[str, Any], folder: Path, curves: Values = values) -> bytes:
    with scheduled(job, folder) as sweep:
        SimulatedExecutor(folder, curves, random.Random(0), fails_at=fails_at).run(sweep)
    return (folder / "leaderboard.json").read_bytes()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("sampling", ["random", "sobol", "bayesian"])
def test_kills_and_company_change_no_byte(
    photo_folder: Path, tmp_path: Path, policy: str, sampling: str
) -> None:
    """Bayesian sampling looks at what has ended, so for it only one worker gives the same."""
    job = sweep_job(
        photo_folder, NUM_TRIALS, sampling_algorithm=sampling, early_termination=POLICIES[policy]
    )
    expected = undisturbed(job, tmp_path / "undisturbed")
    statuses = {row["status"] for row in json.loads(expected)}
    assert statuses == {"completed", "terminated", "failed"}, "the policy has something to do"
    for seed in range(2):
        chance, folder, num_kills = random.Random(seed), tmp_path / str(seed), 0
        num_workers = 1 if sampling == "bayesian" else chance.randint(1, 4)
        while True:
            with scheduled(job, folder) as sweep:
                executor = SimulatedExecutor(
                    folder,
                    values,
                    chance,
                    num_workers,
                    kill_share=0.1,
                    lose_share=0.03,
                    fails_at=fails_at,
                )
                try:
                    executor.run(sweep)
                    break
                except KilledError:
                    num_kills += 1
        assert num_kills > 0
        assert (folder / "leaderboard.json").read_bytes() == expected, (seed, num_workers)


def test_without_a_policy_all_run_to_their_end(photo_folder: Path, tmp_path: Path) -> None:
    undisturbed(sweep_job(photo_folder, NUM_TRIALS), tmp_path)
    rows = leaderboard(tmp_path)
    assert sorted(int(row["id"]) for row in rows) == list(range(NUM_TRIALS))
    assert {row["epochs"] for row in rows if row["status"] == "completed"} == {4}
    found = [row["value"] for row in rows]
    assert found == sorted(found, key=lambda value: -math.inf if value is None else value)[::-1]
    assert [row["reason"] for row in rows if row["value"] is None] == ["NaN", "NaN"]


def test_a_grid_ends_when_it_is_through(photo_folder: Path, tmp_path: Path) -> None:
    job = sweep_job(photo_folder, NUM_TRIALS, sampling_algorithm="grid")
    job["search_space"] = [
        {
            "model_name": {"type": "choice", "values": ["test_resnet", "test_efficientnet"]},
            "learning_rate": {"type": "choice", "values": [0.1, 0.01]},
        }
    ]
    undisturbed(job, tmp_path)
    tried = [tuple(row["parameters"].values()) for row in leaderboard(tmp_path)]
    assert len(tried) == len(set(tried)) == 4


def test_under_a_budget_nobody_waits(photo_folder: Path, tmp_path: Path) -> None:
    job = sweep_job(photo_folder, 3, early_termination=POLICIES["bandit"]) | {"budget": "100d"}
    with scheduled(job, tmp_path) as sweep:
        for _ in range(3):
            assert sweep.next_trial() is not None
        report = {"epoch": 1, "step": 10, "loss": 0.5, "accuracy": 0.1}
        assert sweep.report(2, report) == "continue"
        assert sweep.report(0, report | {"accuracy": 0.9}) == "continue"
        assert sweep.report(1, report) == "stop"


def test_in_order_a_trial_waits_for_those_before_it(photo_folder: Path, tmp_path: Path) -> None:
    job = sweep_job(photo_folder, 3, early_termination=POLICIES["bandit"])
    report = {"epoch": 1, "step": 10, "loss": 0.5, "accuracy": 0.1}
    with scheduled(job, tmp_path) as sweep:
        for _ in range(3):
            assert sweep.next_trial() is not None
        assert sweep.report(2, report) == "wait"
        assert sweep.report(0, report | {"accuracy": 0.9}) == "continue"
        assert sweep.prune_decision(2) == "wait"
        sweep.end(1, TrialEnd("failed", "NaN", None, 0, 0.0))
        assert sweep.prune_decision(2) == "stop"


def test_no_trial_is_begun_without_time_for_it(photo_folder: Path, tmp_path: Path) -> None:
    # The study of these tests began when the machine did.
    job = sweep_job(photo_folder, 3) | {"budget": 1}
    with scheduled(job, tmp_path) as sweep:
        assert sweep.next_trial() is None
        with pytest.raises(BudgetError, match="before any trial had a model"):
            sweep.outcome()
    assert not (tmp_path / "trials").exists()
    assert "no_more_trials" in (tmp_path / "decisions.jsonl").read_text()


def test_a_process_that_dies_without_getting_on_is_given_up(
    photo_folder: Path, tmp_path: Path
) -> None:
    with scheduled(sweep_job(photo_folder, 2), tmp_path) as sweep:
        report = {"epoch": 1, "step": 10, "loss": 0.5, "accuracy": 0.1}
        for _ in range(2):
            assert sweep.next_trial().number == 0
            sweep.requeue(0, "signal 9")
        assert sweep.next_trial().number == 0
        sweep.report(0, report)
        for _ in range(3):
            sweep.requeue(0, "signal 9")
            following = sweep.next_trial().number
        assert following == 1
        sweep.end(1, TrialEnd("failed", "NaN", None, 0, 0.0))
        with pytest.raises(
            TrainingError, match=r"trial 0: its process died 3 times .*trial 1: NaN"
        ):
            sweep.outcome()
    lost = next(row for row in leaderboard(tmp_path) if row["id"] == "0")
    assert lost["status"] == "failed"
    assert "signal 9" in lost["reason"]


def test_stopped_by_the_user_it_begins_nothing_and_goes_on_later(
    photo_folder: Path, tmp_path: Path
) -> None:
    job, asked = sweep_job(photo_folder, 3), []
    with scheduled(job, tmp_path, lambda: bool(asked)) as sweep:
        assert sweep.next_trial().number == 0
        asked.append(True)
        sweep.end(0, TrialEnd("stopped", "stopped by the user", 0.4, 1, 2.0))
        assert sweep.next_trial() is None
        with pytest.raises(StoppedError, match="same command goes on"):
            sweep.outcome()
    with scheduled(job, tmp_path) as sweep:
        assert [sweep.next_trial().number for _ in range(3)] == [0, 1, 2]
        sweep.end(0, TrialEnd("completed", "all epochs done", 0.6, 4, 1.0))
    (row,) = [row for row in leaderboard(tmp_path) if row["id"] == "0"]
    assert (row["status"], row["value"]) == ("completed", 0.6)
    kept = json.loads((tmp_path / "trials" / "0" / "trial.json").read_bytes())
    assert kept["seconds"] == pytest.approx(3.0)
