"""Measuring a trial's cost changes nothing that the trial depends on, and needs no large batch."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autofocus.runtime import no_progress
from autofocus.study.folder.run_folder import RunFolder
from autofocus.study.resolve import resolve
from autofocus.study.sources import read_sources
from autofocus.study.study import Study
from autofocus.study.trials.detectors import DetectorTrials
from autofocus.training import step_cost
from autofocus.training.candidate import Samples
from autofocus.training.step_cost import measure_step
from autofocus.training.trial import TrialSpec
from support.tiny_jobs import tiny_detection_job

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[tuple[TrialSpec, Samples]]:
    plan = resolve(tiny_detection_job(tmp_path, 10, 4))
    sources = read_sources(plan, no_progress)
    with RunFolder(tmp_path / "run", {}, sources.fingerprint, overwrite=False) as run:
        study = Study(plan, sources, run, time.monotonic(), no_progress)
        trials = DetectorTrials()
        trials.begin(study, plan, "probe")
        yield trials.spec(study, plan, "0", study.train, study.validation), study.samples


def test_random_numbers_stay_as_they_are(trial: tuple[TrialSpec, Samples]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    cost = measure_step(*trial)
    assert torch.rand(4).equal(expected)
    assert cost.train_s > 0
    assert cost.evaluate_s > 0
    assert cost.num_groups > 1


def test_a_batch_that_does_not_fit_is_measured_in_part(
    trial: tuple[TrialSpec, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def step_s(*given: Any) -> float:
        sizes.append(len(given[-1]))
        if sizes[-1] > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return 5.0

    monkeypatch.setattr(step_cost, "_step_s", step_s)
    assert measure_step(*trial).train_s == 5.0
    assert sizes == [4, 2, 1, 1, 1]


def test_no_step_is_begun_after_the_limit(
    trial: tuple[TrialSpec, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([6.0, 4.0, 5.0])
    monkeypatch.setattr(step_cost, "_step_s", lambda *_: next(steps))
    assert measure_step(*trial, limit_s=0.0).train_s == 6.0 / 4, "one step there must be"
    steps = iter([6.0, 4.0, 5.0])
    assert measure_step(*trial).train_s == 4.0 / 4
