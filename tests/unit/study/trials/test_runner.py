"""One trial: what it leaves in its folder, and what becomes of its errors."""

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autofocus.models.base import CLASSIFIER
from autofocus.runtime import no_progress
from autofocus.study.folder.trial_folder import read_losses, read_result, rebuild
from autofocus.study.resolve import Plan, resolve, trial_plan
from autofocus.study.sources import read_sources
from autofocus.study.trials import runner as trial_runner
from autofocus.study.trials.trial import Assignment, Common, Hooks
from autofocus.training.candidate import Samples
from autofocus.training.usable import usable_samples
from support.tiny_jobs import tiny_detection_job

pytestmark = pytest.mark.usefixtures("one_thread")


def nothing(what: str, **inputs: object) -> None: ...


def plan_and_common(document: dict[str, Any], folder: Path, repeat: int = 1) -> tuple[Plan, Common]:
    """Return a plan and its data; every third image is held out, `repeat` times over."""
    plan = resolve({"weights": "random", "device": "cpu", **document})
    data = read_sources(plan, no_progress).training
    given = Samples(data.records, data.locations, data.name)
    samples = usable_samples(given, lambda issue: None, no_progress).samples
    held_out = [i for i in range(len(samples)) if i % 3 == 0]
    train = [i for i in range(len(samples)) if i % 3]
    labels = sorted({n for record in data.records for n in plan.task.record_labels(record)})
    metric = str(plan.job.primary_metric)
    return plan, Common(
        labels, samples.chosen(train), samples.chosen(held_out * repeat), "f", metric, folder
    )


def classifier(photos: Path, folder: Path, repeat: int = 1) -> tuple[Plan, Common]:
    parameters = {
        "model_name": "test_resnet",
        "validation_crop_size": 32,
        "validation_resize_size": 36,
        "training_batch_size": 8,
        "number_of_epochs": 1,
    }
    document = {"task": "image_classification", "training_data": str(photos)}
    return plan_and_common(document | {"training_parameters": parameters}, folder, repeat)


def assert_rebuilt(plan: Plan, common: Common) -> Any:
    """Train a trial and check that its folder holds the network that it returned."""
    result = trial_runner.TRIALS[plan.model.kind].train(common, plan, "0", None, Hooks(nothing))
    folder = common.folder / "trials" / "0"
    manifest = read_result(folder)
    assert manifest is not None
    rebuilt = rebuild(folder, manifest, [])
    assert manifest.metrics[common.metric] == result.candidate.metrics[common.metric]
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
    return manifest


def _listed(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@pytest.mark.parametrize("repeat", [1, 13], ids=["as-trained", "calibrated"])
def test_a_classifier_is_rebuilt_bit_by_bit(
    photo_folder: Path, tmp_path: Path, repeat: int
) -> None:
    plan, common = classifier(photo_folder, tmp_path, repeat)
    manifest = assert_rebuilt(plan, common)
    assert (manifest.calibration.temperature != 1.0) == (repeat == 13)


def test_a_detector_is_rebuilt_bit_by_bit(tmp_path: Path) -> None:
    job = tiny_detection_job(tmp_path, 6, shift=5)
    plan, common = plan_and_common(job, tmp_path / "run")
    assert_rebuilt(plan, common)


def test_a_trial_is_ranked_by_what_it_left(photo_folder: Path, tmp_path: Path) -> None:
    plan, common = classifier(photo_folder, tmp_path)
    seen: list[dict[str, Any]] = []
    drawn = trial_plan(plan, {"learning_rate": 1e-4, "number_of_epochs": 3})

    def on_epoch(report: dict[str, Any]) -> bool:
        seen.append(report)
        return report["epoch"] == 1

    end = trial_runner.run_trial(common, Assignment(3, drawn, None), Hooks(nothing, on_epoch))
    assert (end.status, end.epochs) == ("terminated", 1)
    assert [report["epoch"] for report in seen] == [0, 1]
    losses = read_losses(tmp_path / "trials" / "3")
    assert losses is not None
    assert losses.shape == (len(common.validation),)
    manifest = read_result(tmp_path / "trials" / "3")
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
    plan, common = classifier(photo_folder, tmp_path)
    folder = tmp_path / "trials" / "0"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    _raise(monkeypatch, error)
    end = trial_runner.run_trial(common, Assignment(0, plan, None), Hooks(nothing))
    assert (end.status, end.value, end.reason) == ("failed", None, reason)
    assert type(error).__name__ in (folder / "error.txt").read_text()
    assert read_result(folder) is None, "what it had come to before is no good"


def test_a_full_disk_is_everybody_s(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, common = classifier(photo_folder, tmp_path)
    _raise(monkeypatch, OSError(errno.ENOSPC, "no space"))
    with pytest.raises(OSError, match="no space"):
        trial_runner.run_trial(common, Assignment(0, plan, None), Hooks(nothing))


def _raise(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def train(*arguments: object) -> None:
        raise error

    trials = SimpleNamespace(train=train)
    monkeypatch.setattr(trial_runner, "TRIALS", {CLASSIFIER: trials})
