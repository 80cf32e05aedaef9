"""One trial: what it leaves in its folder, and what becomes of its errors."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autofocus.runtime import no_progress
from autofocus.study.folder.run_folder import RunFolder
from autofocus.study.folder.trial_folder import read_losses, read_result, rebuild
from autofocus.study.resolve import Plan, resolve, trial_plan
from autofocus.study.sources import read_sources
from autofocus.study.study import Study
from autofocus.study.trials import runner as trial_runner
from autofocus.study.trials.classifiers import ClassifierTrials
from autofocus.training.candidate import Samples
from autofocus.training.trial import RunContext, TrialSpec
from autofocus.training.usable import usable_images
from support.tiny_jobs import tiny_detection_job

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Given:
    """A plan and its images; every third is held out."""

    plan: Plan
    study: Study

    def spec(self, trial: str, plan: Plan | None = None) -> TrialSpec:
        plan, study = plan or self.plan, self.study
        trials = trial_runner.TRIALS[plan.model.kind]
        return trials.spec(study, plan, trial, study.train, study.validation)


def given(document: dict[str, Any], folder: Path, repeat: int = 1) -> Given:
    """Return a plan and its data; every third image is held out, `repeat` times over."""
    plan = resolve({"weights": "random", "device": "cpu", **document})
    sources = read_sources(plan, no_progress)
    study = Study(plan, sources, RunFolder(folder, {}, "f", overwrite=False), 0.0, no_progress)
    data = sources.training
    usable = usable_images(data.records, data.locations, lambda issue: None, no_progress)
    targets = plan.task.encode_targets(usable.records, study.labels)
    study.samples = Samples(
        usable.records, usable.locations, targets, usable.hashes, usable.hashes, data.name
    )
    everything = np.arange(len(study.samples))
    study.train, study.validation = everything[everything % 3 > 0], np.tile(everything[::3], repeat)
    return Given(plan, study)


def classifier(photos: Path, folder: Path, repeat: int = 1) -> Given:
    parameters = {
        "model_name": "test_resnet",
        "validation_crop_size": 32,
        "validation_resize_size": 36,
        "training_batch_size": 8,
        "number_of_epochs": 1,
    }
    document = {"task": "image_classification", "training_data": str(photos)}
    return given(document | {"training_parameters": parameters}, folder, repeat)


def assert_rebuilt(data: Given, folder: Path) -> Any:
    """Train a trial and check that its folder holds the network that it returned."""
    spec, folder = data.spec("0"), folder / "trials" / "0"
    trials = trial_runner.TRIALS[data.plan.model.kind]
    result = trials.train(spec, data.study.samples, RunContext(folder))
    manifest = read_result(folder)
    assert manifest is not None
    rebuilt = rebuild(folder, manifest, [])
    metric = spec.primary_metric
    assert manifest.metrics[metric] == result.candidate.metrics[metric]
    expected = result.candidate.network.state_dict()
    found = rebuilt.network.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not rebuilt.network.training
    images = torch.rand(2, 3, *manifest.preprocess.size)
    with torch.inference_mode():
        outputs = [network(images) for network in (result.candidate.network, rebuilt.network)]
    for left, right in zip(*map(_listed, outputs), strict=True):
        assert torch.equal(left, right)
    return manifest, result


def _listed(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@pytest.mark.parametrize("repeat", [1, 13], ids=["as-trained", "calibrated"])
def test_a_classifier_is_rebuilt_bit_by_bit(
    photo_folder: Path, tmp_path: Path, repeat: int
) -> None:
    manifest, result = assert_rebuilt(classifier(photo_folder, tmp_path, repeat), tmp_path)
    is_calibrated = repeat == 13 and result.trained.improved
    assert (manifest.calibration.temperature != 1.0) == is_calibrated


def test_a_detector_is_rebuilt_bit_by_bit(tmp_path: Path) -> None:
    job = tiny_detection_job(tmp_path, 6, shift=5)
    assert_rebuilt(given(job, tmp_path / "run"), tmp_path / "run")


def test_a_trial_is_ranked_by_what_it_left(photo_folder: Path, tmp_path: Path) -> None:
    data = classifier(photo_folder, tmp_path)
    seen: list[dict[str, Any]] = []
    drawn = trial_plan(data.plan, {"learning_rate": 1e-4, "number_of_epochs": 3})

    def on_epoch(report: dict[str, Any]) -> bool:
        seen.append(report)
        return report["epoch"] == 1

    folder = tmp_path / "trials" / "3"
    context = RunContext(folder, on_epoch=on_epoch)
    end = trial_runner.run_trial(data.spec("3", drawn), data.study.samples, context)
    assert (end.status, end.epochs) == ("terminated", 1)
    assert [report["epoch"] for report in seen] == [0, 1]
    losses = read_losses(folder)
    assert losses is not None
    assert losses.shape == (len(data.study.validation),)
    manifest = read_result(folder)
    assert manifest is not None
    assert end.value == manifest.metrics["accuracy"]
    assert end.seconds > 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("no room"), "out of memory: no room"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried"),
            "out of memory: CUDA out of memory.",
        ),
        (OSError(errno.ENOMEM, "cannot"), "out of memory: [Errno 12] cannot"),
        (RuntimeError("size mismatch\nat layer 3"), "RuntimeError: size mismatch"),
        (KeyError(), "KeyError"),
    ],
)
def test_an_error_is_the_trial_s_own(
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    data = classifier(photo_folder, tmp_path)
    folder = tmp_path / "trials" / "0"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    _raise(monkeypatch, error)
    end = trial_runner.run_trial(data.spec("0"), data.study.samples, RunContext(folder))
    assert (end.status, end.value, end.reason) == ("failed", None, reason)
    assert type(error).__name__ in (folder / "error.txt").read_text()
    assert read_result(folder) is None, "what it had come to before is no good"


def test_a_full_disk_is_everybody_s(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = classifier(photo_folder, tmp_path)
    folder = tmp_path / "trials" / "0"
    _raise(monkeypatch, OSError(errno.ENOSPC, "no space"))
    with pytest.raises(OSError, match="no space"):
        trial_runner.run_trial(data.spec("0"), data.study.samples, RunContext(folder))


def _raise(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def train(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(ClassifierTrials, "train", staticmethod(train))
