"""`autofocus job schema` takes the jobs that people have, and refuses what training would."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from autofocus.settings.check import check_job
from autofocus.settings.parameters import PARAMETER_ALIASES, PARAMETERS
from autofocus.study.job_schema import job_schema
from autofocus.study.job_template import job_template
from autofocus.tasks import TASKS
from schema.test_azure_jobs import (
    PIPELINES,
    SDK_DETECTION,
    SDK_MULTILABEL,
    SDK_SEGMENTATION,
    STANDALONE,
    needs_samples,
)
from support.json_schema import Validator

SCHEMA = job_schema()
PARTS = SCHEMA["$defs"]


refused = Validator(SCHEMA).problems


@needs_samples
@pytest.mark.parametrize("path", STANDALONE + PIPELINES, ids=lambda path: path.stem)
def test_official_jobs_fit(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    nodes = document["jobs"].values() if document["type"] == "pipeline" else [document]
    jobs = [node for node in nodes if node["type"] == "automl"]
    assert [refused(job) for job in jobs] == [[]]


@pytest.mark.parametrize("text", [SDK_DETECTION, SDK_SEGMENTATION, SDK_MULTILABEL])
def test_the_sdks_jobs_fit(text: str) -> None:
    assert refused(yaml.safe_load(text.replace("TASK", next(iter(TASKS))))) == []


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_template_fits_with_everything_switched_on(task: Any) -> None:
    text = job_template(task, {})
    switched_on = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in text.splitlines()
    )
    for job in (text, switched_on):
        document = yaml.safe_load(job)
        assert refused(document) == []
        assert check_job(document)[1] == []


RIGHT: list[dict[str, Any]] = [
    {},
    {"training_data": {"path": "x", "type": "mltable"}, "limits": None, "seed": None},
    {"budget": 90, "accept_license": "gemma"},
    {"budget": "1.5h", "accept_license": ["gemma"], "data": {"on_invalid": "error"}},
    {"training_parameters": {"img_size": 64, "nesterov": "Yes", "model_name": "my_own"}},
    {"training_parameters": {"tile_grid_size": "3x2", "learning_rate": 0.1, "optimizer": None}},
    {"sweep": {"sampling_algorithm": "sobol"}, "search_space": {"beta1": 0.5}},
    {
        "sweep": {"early_termination": {"type": "asha", "eta": 2, "rungs": [1, 4]}},
        "search_space": [
            {
                "learning_rate": {"type": "loguniform", "min_value": -9, "max_value": -4},
                "lr_scheduler": {"type": "choice", "values": ["step", "flat"]},
                "number_of_epochs": "quniform(1,9,2)",
            }
        ],
    },
]
WRONG: list[dict[str, Any]] = [
    {"training_data": None},
    {"task": "image_clasification"},
    {"primary_metric": "mean"},
    {"seed": -1},
    {"seed": True},
    {"budget": "soon"},
    {"number_of_epochs": 3},
    {"limits": {"max_trials": 0}},
    {"limits": {"max_trails": 3}},
    {"training_parameters": {"epochs": 3}},
    {"training_parameters": {"learning_rate": 0}},
    {"training_parameters": {"number_of_epochs": 1.5}},
    {"training_parameters": {"optimizer": "lamb"}},
    {"training_parameters": {"weighted_loss": 3}},
    {"training_parameters": {"nesterov": "maybe"}},
    {"search_space": []},
    {"search_space": [{"beta1": {"type": "unifrom", "min_value": 0, "max_value": 1}}]},
    {"search_space": [{"beta1": {"type": "uniform", "min_value": 0}}]},
    {"search_space": [{"optimizer": {"type": "choice", "values": ["sdg"]}}]},
    {"search_space": [{"optimizer": {"type": "uniform", "min_value": 0, "max_value": 1}}]},
    {"sweep": {"early_termination": {"type": "bandid"}}},
    {"sweep": {"early_termination": {"type": "truncation_selection"}}},
]


@pytest.mark.parametrize("part", RIGHT)
def test_right_jobs_fit_as_they_can_be_read(part: dict[str, Any]) -> None:
    document = {"training_data": "x", **part}
    assert refused(document) == []
    assert check_job(document)[1] == []


@pytest.mark.parametrize("part", WRONG)
def test_wrong_jobs_do_not_fit(part: dict[str, Any]) -> None:
    assert refused({"training_data": "x", **part}) != []


def test_every_parameter_says_what_it_is() -> None:
    declared = PARTS["TrainingParameters"]["properties"]
    assert (
        declared.keys()
        == {*PARAMETERS, *PARAMETER_ALIASES}
        == PARTS["SubSpace"]["properties"].keys()
    )
    assert all(schema["description"] for schema in declared.values())
    assert {name for name, schema in declared.items() if "deprecated" in schema} == {
        *PARAMETER_ALIASES
    }


def test_only_what_every_recipe_agrees_on_is_a_default() -> None:
    declared = PARTS["TrainingParameters"]["properties"]
    assert declared["momentum"]["default"] == 0.9
    assert declared["box_score_threshold"]["default"] == 0.3
    # Azure's detectors freeze two groups, others none; rates differ by model.
    assert "default" not in declared["layers_to_freeze"]
    assert "default" not in declared["learning_rate"]
    assert PARTS["Limits"]["properties"]["max_trials"]["default"] == 1


def test_keys_say_what_they_are() -> None:
    silent = {name for name, key in SCHEMA["properties"].items() if "description" not in key}
    assert silent == {
        "$schema",
        "type",
        "name",
        "display_name",
        "description",
        "tags",
        "properties",
    }
