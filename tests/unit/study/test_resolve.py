"""From a document to a plan: both phases' problems together."""

from typing import Any

import pytest

from autofocus.errors import JobError
from autofocus.models import catalog
from autofocus.settings.job import Bandit
from autofocus.study.resolve import resolve, trial_plan
from autofocus.tasks import TASKS

SPACE: list[dict[str, Any]] = [
    {"model_name": "choice('resnet18','vitb16r224')", "number_of_epochs": "quniform(2,9,1.0)"},
    {"learning_rate": "uniform(0.001,0.01)"},
]


def document(**keys: Any) -> dict[str, Any]:
    return {"task": "image_classification", "training_data": "x", **keys}


def problems_of(**keys: Any) -> str:
    with pytest.raises(JobError) as caught:
        resolve(document(**keys))
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_defaults_are_filled_in(task) -> None:
    plan = resolve({"task": task.name, "training_data": "x"})
    assert (plan.job.task, plan.job.primary_metric) == (task.name, task.primary_metrics[0])
    assert plan.model == catalog.resolve(catalog.default_model(task.model_kind))
    assert not plan.user_named_model
    assert (plan.space, plan.early_termination, plan.notes) == ((), None, ())


def test_problems_of_both_phases_come_together() -> None:
    with pytest.raises(JobError) as caught:
        resolve(
            {
                "task": "image_clasification",
                "seed": "x",
                "training_parameters": {"model_name": "resnet5O"},
                "search_space": [{"model_name": "vitb16r24", "beta1": 2}],
            }
        )
    text = str(caught.value)
    assert "training_data: required" in text
    assert "seed:" in text
    assert "did you mean 'image_classification'?" in text
    assert "resnet50" in text
    assert "search_space.0.model_name: " in text
    assert "vitb16r224" in text
    assert "search_space.0.beta1: must be a number ≥ 0 and ≤ 1, got 2." in text


def test_metric_of_another_task_is_refused() -> None:
    assert "primary_metric: must be one of accuracy" in problems_of(primary_metric="iou")


def test_missing_task_says_where_to_give_it() -> None:
    with pytest.raises(JobError, match="Give --task, or task in the job YAML"):
        resolve({"training_data": "x"})


def test_spellings_of_the_rest_interface() -> None:
    plan = resolve(document(task="ImageClassification", primary_metric="AUCWeighted"))
    assert (plan.job.task, plan.job.primary_metric) == ("image_classification", "AUC_weighted")


def test_azures_model_name_is_the_users_choice() -> None:
    plan = resolve(document(training_parameters={"model_name": "vitb16r224"}))
    assert plan.user_named_model
    assert plan.model.name.startswith("vit_base_patch16_224")


@pytest.mark.parametrize(
    ("keys", "mode"),
    [
        ({}, "automode"),
        ({"limits": {"max_trials": 10}}, "automode"),
        ({"limits": {"timeout_minutes": 10}}, "automode"),
        ({"training_parameters": {"number_of_epochs": 3}}, "automode"),
        ({"limits": {"max_trials": 1}}, "single"),
        ({"training_parameters": {"model_name": "resnet18"}}, "single"),
        (
            {"training_parameters": {"model_name": "resnet18"}, "limits": {"max_trials": 5}},
            "automode",
        ),
        ({"search_space": SPACE}, "sweep"),
        ({"search_space": SPACE, "limits": {"max_trials": 1}}, "sweep"),
    ],
)
def test_modes(keys: dict[str, Any], mode: str) -> None:
    assert resolve(document(**keys)).mode == mode


def test_a_sweep_is_planned() -> None:
    plan = resolve(
        document(
            search_space=SPACE,
            sweep={
                "sampling_algorithm": "random",
                "early_termination": {"type": "bandit", "slack_factor": 0.2},
            },
            limits={"max_trials": 9},
        )
    )
    assert [sorted(subspace) for subspace in plan.space] == [
        ["model_name", "number_of_epochs"],
        ["learning_rate"],
    ]
    assert plan.sampling.type == "random"
    assert plan.early_termination == Bandit(slack_factor=0.2)
    assert plan.notes == ()


def test_an_unknown_sampling_algorithm_is_named_with_the_known_ones() -> None:
    text = problems_of(search_space=SPACE, sweep={"sampling_algorithm": "baysian"})
    assert "sweep.sampling_algorithm.type: must be one of random, sobol, grid, bayesian" in text
    assert "got 'baysian'; did you mean 'bayesian'?" in text


def test_without_a_sampling_algorithm_it_is_random() -> None:
    assert resolve(document(search_space=SPACE)).sampling.type == "random"


def test_a_sweep_needs_something_to_search() -> None:
    assert "sweep: there is nothing to search" in problems_of(sweep={"sampling_algorithm": "grid"})


def test_what_the_algorithm_cannot_search_is_refused() -> None:
    text = problems_of(search_space=SPACE, sweep={"sampling_algorithm": "bayesian"})
    assert "bayesian takes one sub-space, search_space has 2" in text


def test_models_of_a_search_space_must_fit_the_task() -> None:
    text = problems_of(search_space=[{"model_name": "fasterrcnn_resnet50_fpn"}])
    assert "search_space.0.model_name: image_classification needs a classifier" in text


def test_log_base_reaches_the_space() -> None:
    plan = resolve(
        document(
            search_space=[{"learning_rate": "loguniform(-4,-2)"}],
            sweep={"sampling_algorithm": {"type": "random", "logbase": 10}},
        )
    )
    assert plan.space[0]["learning_rate"].base == 10  # type: ignore[union-attr]


def test_notes_say_what_may_not_be_meant() -> None:
    plan = resolve(
        document(
            search_space=[{"learning_rate": "choice(0.1,0.2)", "layers_to_freeze": "choice(0,2)"}],
            sweep={"sampling_algorithm": "grid"},
            training_parameters={"learning_rate": 0.3},
        )
    )
    assert plan.notes == (
        "learning_rate: in training_parameters and in search_space; the latter holds where it has "
        "them",
        "limits.max_trials is 1: the sweep is one trial",
        "limits.max_trials of 1 leaves out part of the grid of 4",
    )


def test_unused_parameters_of_the_space_are_named_too() -> None:
    plan = resolve(
        document(
            search_space=[{"number_of_workers": "choice(1,2)"}],
            training_parameters={"distributed": True, "advanced_settings": "{}"},
        )
    )
    assert plan.unused_parameters == ["advanced_settings", "distributed"]


OF_EVERY_TASK = {"log_validation_loss": True, "number_of_workers": 2, "validation_batch_size": 4}
OF_CLASSES = {"weighted_loss": 1, "validation_crop_size": 64, "validation_resize_size": 72}
OF_OBJECTS = {
    "image_size": 320,
    "log_training_metrics": True,
    "tile_grid_size": "2x2",
    "nms_iou_threshold": 0.4,
    "validation_metric_type": "coco",
}
OF_ANY_SIZE = {"multi_scale": True, "min_size": 300}
OF_MASKS = {"mask_pixel_score_threshold": 0.4}
ALL_OF_THESE = {
    **OF_EVERY_TASK,
    **OF_CLASSES,
    **OF_OBJECTS,
    **OF_ANY_SIZE,
    **OF_MASKS,
    "model_size": "small",
    "checkpoint_frequency": 2,
}


@pytest.mark.parametrize(
    ("kind", "model", "used"),
    [
        ("classifier", "resnet18", {*OF_EVERY_TASK, *OF_CLASSES}),
        ("detector", "fcos_resnet18_fpn", {*OF_EVERY_TASK, *OF_OBJECTS, *OF_ANY_SIZE}),
        ("detector", "d_fine_n", {*OF_EVERY_TASK, *OF_OBJECTS}),
        ("detector", "yolov5", {*OF_EVERY_TASK, *OF_OBJECTS, "model_size"}),
        (
            "instance segmenter",
            "maskrcnn_resnet18_fpn",
            {*OF_EVERY_TASK, *OF_OBJECTS, *OF_ANY_SIZE, *OF_MASKS},
        ),
    ],
)
def test_what_a_task_or_a_model_does_not_read_is_named(
    kind: str, model: str, used: set[str]
) -> None:
    task = next(name for name, each in TASKS.items() if each.model_kind == kind)
    parameters = {"model_name": model, **ALL_OF_THESE}
    plan = resolve({"task": task, "training_data": "x", "training_parameters": parameters})
    assert plan.unused_parameters == sorted({*ALL_OF_THESE} - used)


def test_a_trial_is_the_job_with_what_was_drawn() -> None:
    plan = resolve(
        document(search_space=SPACE, training_parameters={"learning_rate": 0.5, "optimizer": "sgd"})
    )
    trial = trial_plan(plan, {"model_name": "vitb16r224", "number_of_epochs": 4.0, "beta1": None})
    assert trial.parameters == {
        "learning_rate": 0.5,
        "optimizer": "sgd",
        "model_name": "vitb16r224",
        "number_of_epochs": 4,
    }
    assert type(trial.parameters["number_of_epochs"]) is int
    assert trial.job.model_name == "vitb16r224"
    assert trial.model == catalog.resolve("vitb16r224")
    assert (trial.user_named_model, trial.space, trial.task) == (True, (), plan.task)
    other = trial_plan(plan, {"learning_rate": 0.01})
    assert other.parameters["learning_rate"] == 0.01
    assert (other.model, other.user_named_model) == (plan.model, False)
    assert plan.parameters["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("size", "model"), [("small", "d_fine_s"), (None, "d_fine_m"), ("extra_large", "d_fine_x")]
)
def test_yolov5_is_stood_in_for_and_said(size: str | None, model: str) -> None:
    parameters = {"model_name": "YOLOv5", "model_size": size}
    plan = resolve(
        {"task": "image_object_detection", "training_data": "x", "training_parameters": parameters}
    )
    assert plan.model.architecture == model
    (note,) = plan.notes
    assert "AGPL" in note
    assert model in note
