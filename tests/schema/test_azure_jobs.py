"""Jobs that Azure's users have: official samples, the SDK's YAML, the REST interface's names."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from autofocus.settings.check import check_job
from autofocus.settings.job import Job
from autofocus.settings.job_file import override, read_jobs
from autofocus.settings.search_space import Normal, Uniform, parse_space
from autofocus.study.resolve import resolve
from autofocus.study.search.samplers import make_sampler, sampling_problems
from autofocus.tasks import TASKS

SAMPLES = Path(__file__).parents[3] / "shared" / "reference" / "azure-jobs"
STANDALONE = sorted(SAMPLES.glob("cli-*.yml"))
PIPELINES = sorted(SAMPLES.glob("pipeline-*.yml"))

needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"the official sample jobs are not at {SAMPLES}"
)


def checked(document: dict[str, Any]) -> Job:
    job, problems = check_job(document)
    assert problems == []
    return job


@needs_samples
def test_all_twelve_are_there() -> None:
    assert (len(STANDALONE), len(PIPELINES)) == (8, 4)


@pytest.mark.parametrize("path", STANDALONE, ids=lambda path: path.stem)
def test_official_standalone_jobs(path: Path) -> None:
    (document,) = read_jobs(path).values()
    job = checked(document)
    assert job.unused_keys == ["compute"]
    assert job.training_data.path == str(path.parent / "data/training-mltable-folder")
    if path.stem.endswith("automode"):
        assert (job.sweep, job.search_space) == (None, None)
        return
    check_sweep(job)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_official_pipelines(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "autofocus"):
        ((node, document),) = read_jobs(path).items()
    assert caplog.messages == [f"pipeline: {node}; not run: register_model_node (command)"]
    job = checked(document)
    assert job.training_data.path == str(path.parent / "data/training-mltable-folder")
    assert job.experiment_name == "pipeline-with-automl"
    assert job.budget_s == 180 * 60
    check_sweep(job)


def check_sweep(job: Job) -> None:
    assert job.sweep is not None
    assert job.sweep.early_termination is not None
    assert job.sweep.early_termination.type == "bandit"
    space, problems = parse_space(job.search_space)
    assert problems == []
    sampling = job.sweep.sampling_algorithm
    assert sampling_problems(sampling, space) == []
    sampler = make_sampler(sampling, space, job.seed)
    trials = [sampler.ask(number) for number in range(job.limits.max_trials)]
    models = {trial["model_name"] for trial in trials}
    assert models <= {v for sub in space for v in sub["model_name"].values}  # type: ignore[union-attr]


@needs_samples
@pytest.mark.parametrize(
    "path", [p for p in STANDALONE + PIPELINES if "cls" in p.stem or "classification" in p.stem],
    ids=lambda path: path.stem,
)  # fmt: skip
def test_official_classification_jobs_have_a_plan(path: Path) -> None:
    (document,) = read_jobs(path).values()
    plan = resolve(override(document, ["limits.max_trials=2"]))
    assert plan.job.limits.max_concurrent_trials == 2
    assert plan.mode == ("automode" if path.stem.endswith("automode") else "sweep")
    assert plan.notes == ()
    assert set(plan.unused_parameters) <= {"training_crop_size"}


# What azure-ai-ml 1.35.2 writes for `automl.image_…(…).dump(path)`.
SDK_DETECTION = """
compute: azureml:gpu
experiment_name: exp
limits: {max_concurrent_trials: 2, max_trials: 10, timeout_minutes: 60}
log_verbosity: info
outputs: {}
primary_metric: mean_average_precision
properties: {}
search_space:
- learning_rate: {max_value: 0.01, min_value: 0.0001, type: uniform}
  model_name: {type: choice, values: [retinanet_resnet50_fpn]}
  min_size: {type: choice, values: [600, 800]}
- beta1: {mu: 0.9, sigma: 0.01, type: normal}
  beta2: {mu: 0.9, q: 0.01, sigma: 0.1, type: qnormal}
  learning_rate: {max_value: -2, min_value: -6, type: loguniform}
  model_name: {type: choice, values: [fasterrcnn_resnet50_fpn]}
  momentum: {mu: -1, sigma: 1, type: lognormal}
  nesterov: {type: choice, values: [true, false]}
  number_of_epochs: {type: randint, upper: 30}
  optimizer: {type: choice, values: [sgd, adam]}
  step_lr_gamma: {mu: 0, q: 0.1, sigma: 1, type: qlognormal}
  tile_overlap_ratio: {max_value: -1, min_value: -3, q: 0.1, type: qloguniform}
  weight_decay: {max_value: 1, min_value: 0, q: 0.1, type: quniform}
  warmup_cosine_lr_warmup_epochs: 3
sweep:
  early_termination:
    {type: bandit, slack_amount: 0.0, slack_factor: 0.2, evaluation_interval: 2,
     delay_evaluation: 6}
  sampling_algorithm: random
tags: {a: b}
target_column_name: label
task: TASK
training_data: {path: 'azureml:./data/train', type: mltable}
training_parameters: {early_stopping: true, evaluation_frequency: 1}
type: automl
validation_data: {path: 'azureml:./data/val', type: mltable}
"""

SDK_SEGMENTATION = """
compute: azureml:c
limits: {max_trials: 2}
log_verbosity: info
outputs: {}
primary_metric: mean_average_precision
properties: {}
search_space:
- learning_rate: {type: choice, values: [0.1, 0.2]}
sweep:
  early_termination:
    {type: truncation_selection, truncation_percentage: 20, evaluation_interval: 1,
     delay_evaluation: 5}
  sampling_algorithm: grid
tags: {}
target_column_name: label
task: TASK
training_data: {path: 'azureml:t', type: mltable}
training_parameters:
  log_training_metrics: LogTrainingMetrics.ENABLE
  log_validation_loss: LogValidationLoss.DISABLE
  model_name: maskrcnn_resnet50_fpn
  model_size: extra_large
  multi_scale: true
  tile_grid_size: 3x2
  validation_metric_type: coco_voc
type: automl
"""

SDK_MULTILABEL = """
experiment_name: e
identity: {type: managed_identity}
limits: {}
log_verbosity: info
outputs: {}
primary_metric: iou
properties: {node_count_per_trial: '2'}
resources: {instance_count: 2, instance_type: Standard_NC6}
search_space:
- layers_to_freeze: {type: choice, values: [0, 2]}
  learning_rate: {max_value: 0.2, min_value: 0.1, type: uniform}
  number_of_epochs: 5
sweep:
  early_termination: {delay_evaluation: 5, evaluation_interval: 2, type: median_stopping}
  sampling_algorithm: bayesian
tags: {}
target_column_name: label
task: TASK
training_data: {path: 'azureml://datastores/workspaceblobstore/paths/x', type: mltable}
training_parameters:
  advanced_settings: '{"stream_image_files": true}'
  checkpoint_run_id: x_HD_1
  learning_rate_scheduler: warmup_cosine
  model_name: vitb16r224
  optimizer: adamw
  weighted_loss: 1
type: automl
validation_data_size: 0.3
"""


def sdk_plan(text: str, metric: str) -> Any:
    """Resolve one of the texts with the first task that has this metric."""
    task = next(task for task in TASKS.values() if metric in task.primary_metrics)
    return resolve(yaml.safe_load(text.replace("task: TASK", f"task: {task.name}")))


def test_the_sdks_yaml_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text(SDK_DETECTION)
    (document,) = read_jobs(tmp_path / "job.yml").values()
    job = checked(document)
    assert job.training_data.path == str(tmp_path / "data/train")
    space, problems = parse_space(job.search_space)
    assert problems == []
    assert space[1]["learning_rate"] == Uniform(-6, -2, base=pytest.approx(2.718281828))
    assert isinstance(space[1]["beta1"], Normal)
    assert job.sweep is not None
    assert job.sweep.early_termination is not None
    assert job.sweep.early_termination.model_dump() == {
        "type": "bandit",
        "slack_factor": 0.2,
        "slack_amount": None,
        "evaluation_interval": 2,
        "delay_evaluation": 6,
    }
    sampler = make_sampler(job.sweep.sampling_algorithm, space, 0)
    for number in range(50):
        drawn = sampler.ask(number)
        assert 0 <= drawn.get("beta2", 0) <= 1
        assert 0.0001 <= drawn["learning_rate"] <= 0.14


def test_the_sdks_yaml_of_fixed_parameters() -> None:
    document = yaml.safe_load(SDK_SEGMENTATION)
    job = checked(document)
    assert job.training_data.path == "t"
    assert job.training_parameters["tile_grid_size"] == "3x2"
    assert parse_space(job.search_space)[1] == []


def test_the_sdks_yaml_has_a_plan() -> None:
    plan = sdk_plan(SDK_MULTILABEL, "iou")
    assert plan.job.unused_keys == ["resources", "identity", "properties.node_count_per_trial"]
    assert plan.unused_parameters == ["advanced_settings", "checkpoint_run_id"]
    assert plan.sampling.type == "bayesian"
    assert plan.notes == ("limits.max_trials is 1: the sweep is one trial",)


def test_what_the_rest_interface_shows_of_a_job() -> None:
    task = next(iter(TASKS.values()))
    rest_name = "".join(word.capitalize() for word in task.name.split("_"))
    plan = resolve(
        {
            "type": "AutoML",
            "task": rest_name,
            "primary_metric": "NormMacroRecall",
            "log_verbosity": "Info",
            "training_data": {"type": "MLTable", "path": "x"},
            "training_parameters": {
                "learning_rate_scheduler": "none",
                "optimizer": "None",
                "model_name": None,
                "early_stopping": "true",
            },
            "sweep": {
                "sampling_algorithm": "Random",
                "early_termination": {"type": "MedianStopping", "evaluation_interval": 0},
            },
            "search_space": [
                {"learning_rate": "uniform(0.001,0.01)", "model_name": "choice('vitb16r224')"}
            ],
            "validation_data": None,
            "id": "/subscriptions/0/jobs/1",
            "status": "Completed",
        }
    )
    assert plan.job.primary_metric == "norm_macro_recall"
    assert plan.parameters == {"early_stopping": True}
    assert plan.early_termination is not None
    assert plan.early_termination.type == "median_stopping"
    assert plan.job.unused_keys == ["id", "status"]
