"""From a document to a plan: both phases' problems together."""

import pytest

from autofocus.errors import JobError
from autofocus.models import catalog
from autofocus.sweep.resolve import resolve
from autofocus.tasks import TASKS


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_defaults_are_filled_in(task) -> None:
    plan = resolve({"task": task.name, "training_data": "x"})
    assert plan.job.primary_metric == task.primary_metrics[0]
    assert plan.model == catalog.resolve(catalog.default_model(task.model_kind))
    assert not plan.user_named_model


def test_problems_of_both_phases_come_together() -> None:
    with pytest.raises(JobError) as caught:
        resolve(
            {
                "task": "image_clasification",
                "seed": "x",
                "training_parameters": {"model_name": "resnet5O"},
            }
        )
    text = str(caught.value)
    assert "training_data: required" in text
    assert "seed:" in text
    assert "did you mean 'image_classification'?" in text
    assert "resnet50" in text


def test_metric_of_another_task_is_refused() -> None:
    with pytest.raises(JobError, match="primary_metric: must be one of accuracy"):
        resolve({"task": "image_classification", "training_data": "x", "primary_metric": "iou"})


def test_missing_task_says_where_to_give_it() -> None:
    with pytest.raises(JobError, match="Give --task, or task in the job YAML"):
        resolve({"training_data": "x"})


def test_azures_model_name_is_the_users_choice() -> None:
    plan = resolve(
        {
            "task": "image_classification",
            "training_data": "x",
            "training_parameters": {"model_name": "vitb16r224"},
        }
    )
    assert plan.user_named_model
    assert plan.model.name.startswith("vit_base_patch16_224")
