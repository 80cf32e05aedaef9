"""The job file to begin with: valid as it is, and with everything in it switched on."""

import re
from typing import Any

import pytest
import yaml

from autofocus.study.job_template import job_template
from autofocus.study.resolve import resolve
from autofocus.tasks import TASKS

SPLITS = {"train": "photos/train.jsonl", "validation": "a b/: c", "test": "t.jsonl"}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
@pytest.mark.parametrize("data", [{}, {"train": "rows.jsonl"}, SPLITS], ids=["no", "one", "all"])
def test_it_is_a_job(task: Any, data: dict[str, str]) -> None:
    document = yaml.safe_load(job_template(task, data))
    plan = resolve(document)
    assert plan.task is task
    assert plan.mode == "automode"
    assert plan.job.budget_s == 600
    assert document["training_data"]["path"] == data.get("train", "train.jsonl")
    for role, split in (("validation_data", "validation"), ("test_data", "test")):
        assert document.get(role, {}).get("path") == data.get(split)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_what_is_switched_off_works_when_switched_on(task: Any) -> None:
    text = job_template(task, {})
    # "#key" is YAML to switch on, "# Words" is prose.
    document = yaml.safe_load(re.sub(r"(?m)^#(?! \S)", "", text))
    plan = resolve(document)
    assert plan.mode == "sweep"
    assert plan.early_termination is not None
    assert document.keys() >= {"validation_data", "test_data", "map", "output_dir", "sweep"}
    assert plan.unused_parameters == []


def test_lines_are_short_enough_to_read() -> None:
    for task in TASKS.values():
        lines = job_template(task, SPLITS).splitlines()
        assert max(len(line) for line in lines) <= 120
