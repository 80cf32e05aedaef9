"""Limits of a job on its model: what exceeds them is measured, named and not published."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import VisionTransformer

from autofocus.errors import JobError
from autofocus.manifest import Measured, ResizeFit, read_manifest
from autofocus.models import catalog
from autofocus.models.base import ModelSpec
from autofocus.models.timm.classifiers import build_classifier
from autofocus.package import measure as measuring
from autofocus.package.measure import measure
from autofocus.study import limits
from autofocus.study.automode import objects
from autofocus.study.limits import ModelLimits
from autofocus.study.resolve import Plan, resolve
from autofocus.study.run import run
from support.commands import invoke
from support.tiny_jobs import decisions, tiny_detection_job, tiny_job

LITE, LITE2 = Measured(9.3, 13_500_000), Measured(19.14, 24_000_000)


def test_a_packaged_network_knows_what_it_takes(model_folder: Path) -> None:
    measured = read_manifest(model_folder).measured
    assert measured is not None
    assert measured.size_bytes == (model_folder / "model.onnx").stat().st_size
    assert measured.latency_ms > 0


def test_only_the_network_is_timed_and_not_its_first_runs(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock says 40 ms of each run; the median of runs that take longer and longer says so."""
    costs = iter([0.04] * 3 + [9.0] * 2)
    clock = [0.0]
    runs: list[int] = []

    class Slow:
        def __init__(self, path: Path) -> None:
            assert path == model_folder / "model.onnx"

        def run(self, images: Any) -> None:
            runs.append(len(images))
            if len(runs) > 2:
                clock[0] += next(costs)
            else:
                clock[0] += 100.0

    monkeypatch.setattr(measuring, "OnnxBackend", Slow)
    monkeypatch.setattr(measuring.time, "thread_time", lambda: clock[0])
    assert measure(model_folder / "model.onnx", (64, 64)).latency_ms == pytest.approx(40)
    assert runs == [1] * 7


def made(max_latency: str | None, max_size: str | None) -> tuple[ModelLimits, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    return ModelLimits(max_latency, max_size, lambda what, **inputs: said.append(inputs)), said


@pytest.mark.parametrize(
    ("max_latency", "max_size", "says"),
    [
        (None, None, None),
        ("20ms", "25MB", None),
        ("0.02s", "23MiB", None),
        ("15ms", "25MB", "b at 260 px: 19.1 ms, limits.max_latency allows 15ms"),
        (None, "20MB", "b at 260 px: 24.0 MB, limits.max_size allows 20MB"),
        (
            "15ms",
            "20MB",
            "b at 260 px: 19.1 ms, limits.max_latency allows 15ms and "
            "24.0 MB, limits.max_size allows 20MB",
        ),
    ],
)
def test_what_exceeds_a_limit_is_said_with_both_numbers(
    max_latency: str | None, max_size: str | None, says: str | None
) -> None:
    checked, said = made(max_latency, max_size)
    for _ in range(2):
        assert checked.problem_of_measured("b", (260, 260), LITE2) == says
    assert checked.problem_of_measured("a", (224, 224), LITE) is None
    assert checked.problem_of_measured("of an older version", (224, 224), None) is None
    assert len(said) == (says is not None), "once each"
    if said:
        assert said[0]["latency_ms"] == 19.14
        assert said[0]["size_bytes"] == 24_000_000
        assert (said[0]["max_latency"], said[0]["max_size"]) == (max_latency, max_size)


def test_a_network_is_exported_once_and_only_where_there_is_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported: list[Any] = []
    write = limits.export_onnx

    def count(*arguments: Any) -> None:
        exported.append(arguments)
        write(*arguments)

    monkeypatch.setattr(limits, "export_onnx", count)
    torch.manual_seed(0)
    network = build_classifier(catalog.resolve("test_resnet"), 3, None, 64)
    assert made(None, None)[0].problem("test_resnet", network, (64, 64)) is None
    assert not exported
    checked, _ = made(None, "1kB")
    for _ in range(2):
        text = checked.problem("test_resnet", network, (64, 64))
        assert text is not None
        assert text.startswith("test_resnet at 64 px: ")
    assert len(exported) == 1


def test_a_classifier_over_the_limit_ends_before_any_image_is_read(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autofocus.study.trials.classifiers.encode", None)
    job = tiny_job(photo_folder, 1, output_dir=str(tmp_path / "run"))
    job["limits"]["max_size"] = "1kB"
    with pytest.raises(JobError) as caught:
        run(job)
    assert caught.value.exit_status == 2
    first, ways = caught.value.problems
    assert first.startswith("test_resnet.r160_in1k at 32 px: ")
    assert first.endswith("MB, limits.max_size allows 1kB.")
    assert "training_parameters.validation_crop_size" in ways
    assert "The smallest model here is tf_efficientnet_lite0.in1k: at 32 px " in ways
    named, smallest = decisions(tmp_path / "run", "over_limit")
    assert named["size"] == smallest["size"] == [32, 32]


def test_a_detector_over_the_limit_is_not_trained(tmp_path: Path) -> None:
    job = tiny_detection_job(tmp_path, 8, 1, output_dir=str(tmp_path / "run"))
    job["limits"] = {"max_size": "1kB", "max_trials": 1}
    for _ in range(2):
        with pytest.raises(JobError, match=r"fcos_test_resnet.*limits\.max_size allows 1kB"):
            run(job)
    (row,) = json.loads((tmp_path / "run" / "leaderboard.json").read_bytes())
    assert (row["status"], row["epochs"], row["over_limit"]) == ("failed", 0, True)


@pytest.mark.usefixtures("empty_packages")
def test_a_sweep_goes_on_with_models_within_the_limit(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger is drawn first, and is neither probed nor trained."""
    seen: list[Any] = []

    def measured(*_: object) -> Measured:
        return Measured(1.0, 2 if isinstance(seen[-1].encoder, VisionTransformer) else 1)

    monkeypatch.setattr(limits, "export_onnx", lambda network, *_: seen.append(network))
    monkeypatch.setattr(limits, "measure", measured)
    job = tiny_job(photo_folder, 2, output_dir=str(tmp_path / "run"))
    del job["training_parameters"]["model_name"]
    job["search_space"] = [{"model_name": "choice('test_vit', 'test_resnet')"}]
    job["sweep"] = {"sampling_algorithm": "grid"}
    job["limits"]["max_size"] = "0.0015kB"
    result = run(job)
    assert [(row["model"].split(".")[0], row["status"]) for row in result["trials"]] == [
        ("test_resnet", "completed"),
        ("test_vit", "failed"),
        ("test_resnet", "completed"),
    ]
    (decision,) = decisions(tmp_path / "run", "over_limit")
    assert decision["model"].startswith("test_vit")


class FakeStudy:
    """A study of 640 px whose networks take 1 ms for each 1,000 pixels."""

    def __init__(self, max_latency: str, monkeypatch: pytest.MonkeyPatch, **parameters: Any):
        job = {"task": "image_object_detection", "training_data": "x"}
        self.plan = resolve({**job, "training_parameters": parameters})
        self.train = self.validation = np.arange(4)
        self.made: list[dict[str, Any]] = []
        self.folder = self
        self.limits = ModelLimits(max_latency, None, self.decide)
        monkeypatch.setattr(limits, "export_onnx", lambda *_: None)
        monkeypatch.setattr(limits, "family_of", lambda _: SimpleNamespace(build=lambda *_: None))
        monkeypatch.setattr(
            limits, "measure", lambda _, size: Measured(size[0] * size[1] / 1000, 1)
        )
        monkeypatch.setattr(objects, "designed_spec", self.designed_spec)

    def decide(self, what: str, **inputs: Any) -> None:
        self.made.append({"decision": what, **inputs})

    def decided(self, what: str) -> dict[str, Any] | None:
        return next((made for made in reversed(self.made) if made["decision"] == what), None)

    def model_of(self, plan: Plan) -> ModelSpec:
        return plan.model

    def designed_spec(self, study: Any, plan: Plan, *_: Any) -> tuple[Any, None]:
        side = plan.parameters.get("image_size", 640)
        preprocess = ResizeFit(side, side)
        spec = SimpleNamespace(model=plan.model, preprocess=preprocess, labels=["a"], network={})
        return spec, None


def test_a_detectors_input_is_as_large_as_the_limit_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study: Any = FakeStudy("200ms", monkeypatch)
    plan = objects.within_limits(study)
    assert plan.parameters["image_size"] == 416, "448 px take 200.7 ms"
    study.plan = resolve({"task": "image_object_detection", "training_data": "x"})
    study.limits = None
    assert objects.within_limits(study).parameters == plan.parameters, "chosen once a run"
    study = FakeStudy("500ms", monkeypatch)
    assert objects.within_limits(study) is study.plan


@pytest.mark.parametrize(("max_latency", "given"), [("10ms", {}), ("200ms", {"image_size": 640})])
def test_a_detector_that_no_input_makes_quick_enough_is_said(
    max_latency: str, given: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    study: Any = FakeStudy(max_latency, monkeypatch, **given)
    with pytest.raises(JobError, match=r"fcos_tf_efficientnet_lite0_fpn at 640 px: 409.6 ms"):
        objects.within_limits(study)


def test_the_better_of_two_measurements_counts() -> None:
    """A machine with more to do while the model is packaged takes nothing back."""
    checked, said = made("15ms", None)
    assert checked.problem_of_measured("a", (224, 224), LITE) is None
    assert checked.problem_of_measured("a", (224, 224), LITE2) is None
    assert not said


def test_limits_are_flags_of_train(photo_folder: Path) -> None:
    flags = ["--max-latency", "15 MS", "--max-size", "20mb", "--dry-run", "--json"]
    of = ("--task", "image_classification", "--data", photo_folder)
    plan = json.loads(invoke("train", *of, *flags).stdout)
    assert plan["limits"]["max_latency"] == "15ms"
    assert plan["limits"]["max_size"] == "20MB"
