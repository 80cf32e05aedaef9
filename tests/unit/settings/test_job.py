"""The job document: closed keys, both spellings, every problem at once."""

from typing import Any

import pytest

from autofocus.settings.check import check_job
from autofocus.settings.job import (
    Asha,
    Bandit,
    EarlyTermination,
    Job,
    MedianStopping,
    Sampling,
    Sweep,
    TruncationSelection,
    local_path,
)
from autofocus.settings.parameters import PARAMETER_ALIASES, PARAMETERS


def checked(document: dict[str, Any]) -> Job:
    job, problems = check_job({"training_data": "x", **document})
    assert problems == []
    return job


def problems_of(document: dict[str, Any]) -> list[str]:
    problems = check_job({"training_data": "x", **document})[1]
    assert problems
    return problems


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (0.95, {"*": 0.95}),
        ("0.95", {"*": 0.95}),
        (["0.95", "cat=0.98"], {"*": 0.95, "cat": 0.98}),
        ("a=b=0.5", {"a=b": 0.5}),
        ({"cat": 0.98, 7: "0.5"}, {"cat": 0.98, "7": 0.5}),
    ],
)
def test_wishes_of_thresholds_are_read_as_people_write_them(given: Any, read: Any) -> None:
    job = checked({"thresholds": {"min_precision": given}})
    assert job.thresholds.min_precision == read
    again = checked(job.model_dump(mode="json", by_alias=True))
    assert again.thresholds == job.thresholds


@pytest.mark.parametrize("given", [0, 1.5, "95%", "cat", ["cat=2"], {"cat": "x"}])
def test_wishes_that_are_no_share_are_refused(given: Any) -> None:
    (problem,) = problems_of({"thresholds": {"min_recall": given}})
    assert problem.startswith("thresholds.min_recall: must be a share > 0 and ≤ 1, such as 0.95")


def test_a_class_has_one_wish_or_none() -> None:
    assert checked({"thresholds": {"min_recall": None}}).thresholds.is_empty
    (problem,) = problems_of({"thresholds": {"min_recall": ["a=0.5", "a=0.6"]}})
    assert problem.startswith("thresholds.min_recall: must name each class once, got")


def test_minimal_job_fills_every_default() -> None:
    job = checked({"task": "t", "training_data": "rows.jsonl"})
    assert job.training_data.path == "rows.jsonl"
    assert (job.validation_data_size, job.seed, job.budget_s) == (0.2, 0, None)
    assert job.target_column_name == "label"


def test_all_problems_are_named_at_once() -> None:
    job, problems = check_job(
        {
            "trainin_data": "x",
            "seed": -1,
            "limits": {"max_trails": 3},
            "budget": "5x",
            "sweep": {"sampling_algorithm": "grid", "early_termination": {"type": "bandid"}},
            "validation_data": {"path": "v", "typ": "mltable"},
            "test_data": "azureml:fridge:1",
        }
    )
    # What can be read is there, so that it can be checked too.
    assert (job.seed, job.limits.max_trials, job.sweep) == (0, 1, None)
    text = "\n".join(problems)
    assert "trainin_data: unknown key; did you mean 'training_data'?" in text
    assert "limits.max_trails: unknown key; did you mean 'max_trials'?" in text
    assert "training_data: required. Give --data SRC" in text
    assert "seed:" in text
    assert "got -1" in text
    assert "budget: must be seconds, or a number with s, m, h or d" in text
    assert "early_termination: type must be one of bandit, median_stopping" in text
    assert "got 'bandid'; did you mean 'bandit'?" in text
    assert "validation_data.typ: unknown key; did you mean 'type'?" in text
    assert "test_data: 'azureml:fridge:1' is registered in a cloud workspace" in text


def test_a_job_that_is_read_back_is_the_same_job() -> None:
    job = checked(
        {
            "sweep": {
                "sampling_algorithm": {"type": "random", "rule": "sobol", "seed": 3},
                "early_termination": {"type": "asha", "eta": 2, "rungs": [1, 4]},
            },
            "search_space": [{"lr_scheduler": "choice('step')", "beta1": "uniform(0.8,0.9)"}],
            "budget": "5m",
        }
    )
    document = job.model_dump(mode="json", by_alias=True)
    assert document["search_space"] == [
        {
            "learning_rate_scheduler": {"type": "choice", "values": ["step"]},
            "beta1": {"type": "uniform", "min_value": 0.8, "max_value": 0.9},
        }
    ]
    again, problems = check_job(document)
    assert problems == []
    assert again.model_dump() == job.model_dump()


def test_parameters_are_written_as_people_write_them() -> None:
    given = {"weight_decay": 0, "learning_rate": "1e-5", "num_workers": "4.0", "optimizer": "none"}
    job = checked({"training_parameters": given})
    written = job.model_dump(mode="json")["training_parameters"]
    assert written == {"weight_decay": 0, "learning_rate": 1e-5, "number_of_workers": 4}
    # Before they were read once, 0 stayed 0; a run that was begun then is found by that.
    assert type(written["weight_decay"]) is int
    assert type(job.training_parameters["weight_decay"]) is float
    assert list(written) == ["weight_decay", "learning_rate", "number_of_workers"]


def test_unknown_parameter_proposes_the_nearest() -> None:
    assert problems_of({"training_parameters": {"lerning_rate": 0.1, "zzz": 1}}) == [
        "training_parameters: 'lerning_rate' is not a parameter; did you mean 'learning_rate'? "
        "'zzz' is not a parameter."
    ]


@pytest.mark.parametrize(
    ("document", "meant"),
    [
        ({"number_of_epochs": 3}, "'training_parameters.number_of_epochs'"),
        ({"lr_scheduler": "step"}, "'training_parameters.learning_rate_scheduler'"),
        ({"epochs": 3}, "'training_parameters.number_of_epochs'"),
        ({"model": "resnet18"}, "'training_parameters.model_name'"),
        # Nearer to keys of the top, but exactly a key elsewhere.
        ({"min_size": 600}, "'training_parameters.min_size'"),
        ({"max_trials": 3}, "'limits.max_trials'"),
        ({"max_trails": 3}, "'limits.max_trials'"),
        ({"on_invalid": "skip"}, "'data.on_invalid'"),
        ({"sampling_algorithm": "grid"}, "'sweep.sampling_algorithm'"),
        ({"slack_factor": 0.1}, "'sweep.early_termination.slack_factor'"),
        ({"limits": {"number_of_epochs": 3}}, "'training_parameters.number_of_epochs'"),
        ({"limits": {"budget": "5m"}}, "the job's own key 'budget'"),
        ({"training_parameters": {"epochs": 3}}, "'number_of_epochs'"),
        ({"training_parameters": {"max_trials": 3}}, "'limits.max_trials'"),
        ({"training_parameters": {"seed": 3}}, "the job's own key 'seed'"),
    ],
)
def test_a_key_at_the_wrong_place_is_told_its_place(document: dict[str, Any], meant: str) -> None:
    (problem,) = problems_of(document)
    assert problem.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("key", ["lr", "zzz", "type_"])
def test_nothing_is_proposed_where_nothing_is_near(key: str) -> None:
    assert problems_of({"limits": {key: 1}}) == [f"limits.{key}: unknown key."]


@pytest.mark.parametrize("alias", sorted(PARAMETER_ALIASES))
def test_both_spellings_mean_the_same(alias: str) -> None:
    value = {"lr_scheduler": "step", "amsgrad": True}.get(alias, 0.5 if "thresh" in alias else 100)
    job = checked({"training_parameters": {alias: value}, "search_space": [{alias: value}]})
    assert job.training_parameters == {PARAMETER_ALIASES[alias]: value}
    assert job.search_space == [{PARAMETER_ALIASES[alias]: value}]
    assert PARAMETER_ALIASES[alias] in PARAMETERS


def test_both_spellings_at_once_are_refused() -> None:
    (problem,) = problems_of({"training_parameters": {"img_size": 32, "image_size": 64}})
    assert problem.endswith("'img_size' and 'image_size' are the same parameter; leave one out.")


def test_budget_is_the_smaller_of_ours_and_azures() -> None:
    assert checked({"budget": "10m", "limits": {"timeout_minutes": 5}}).budget_s == 300


def test_one_licence_needs_no_list() -> None:
    assert checked({"accept_license": "gemma"}).accept_license == ["gemma"]


@pytest.mark.parametrize(
    "part",
    [
        {"limits": {"max_trials": None, "max_concurrent_trials": None, "timeout_minutes": 5}},
        {"training_data": {"path": "a", "type": None}},
        {"data": {"on_invalid": None}},
        {"sweep": {"sampling_algorithm": None, "early_termination": None}},
        {"sweep": {"sampling_algorithm": {"type": "grid", "rule": None, "logbase": None}}},
    ],
)
def test_null_is_unset_within_the_parts_of_a_job(part: dict[str, Any]) -> None:
    job, problems = check_job({"task": "image_classification", "training_data": "a", **part})
    assert problems == []
    assert job.limits.max_trials == 1
    assert job.data.on_invalid == "skip"
    assert job.training_data.type == "mltable"


def test_what_was_read_back_as_null_is_unset() -> None:
    job = checked({"validation_data": None, "sweep": None, "limits": None, "tags": None})
    assert (job.validation_data, job.sweep, job.limits.max_trials, job.tags) == (None, None, 1, {})
    (problem,) = check_job({"training_data": None})[1]
    assert problem.startswith("training_data: required")


def test_spellings_of_the_rest_interface() -> None:
    job = checked(
        {
            "type": "AutoML",
            "log_verbosity": "Debug",
            "sweep": {
                "sampling_algorithm": {"type": "Random", "rule": "Sobol"},
                "early_termination": {"type": "TruncationSelection", "truncation_percentage": 20},
            },
        }
    )
    assert (job.type, job.log_verbosity) == ("automl", "debug")
    assert job.sweep is not None
    assert (job.sweep.sampling_algorithm.type, job.sweep.sampling_algorithm.rule) == (
        "random",
        "sobol",
    )
    assert isinstance(job.sweep.early_termination, TruncationSelection)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("random", Sampling()),
        ("Bayesian", Sampling(type="bayesian")),
        ("sobol", Sampling(rule="sobol")),
        ({"type": "sobol", "seed": 4}, Sampling(rule="sobol", seed=4)),
        ({"type": "random", "logbase": "10"}, Sampling(logbase=10)),
        ({"type": "random", "logbase": "e"}, Sampling()),
    ],
)
def test_sampling_algorithms(given: object, meant: Sampling) -> None:
    assert Sweep.model_validate({"sampling_algorithm": given}).sampling_algorithm == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        # The SDK writes the slack that was not given as 0, and an interval of 0.
        (
            {"type": "bandit", "slack_factor": 0.2, "slack_amount": 0.0, "evaluation_interval": 0},
            Bandit(slack_factor=0.2),
        ),
        (
            {"type": "bandit", "slack_amount": 0.1, "slack_factor": None, "delay_evaluation": 6},
            Bandit(slack_amount=0.1, delay_evaluation=6),
        ),
        (
            {"type": "median_stopping", "evaluation_interval": 2},
            MedianStopping(evaluation_interval=2),
        ),
        (
            {
                "type": "truncation_selection",
                "truncation_percentage": 20,
                "exclude_finished_jobs": True,
            },
            TruncationSelection(truncation_percentage=20, exclude_finished_jobs=True),
        ),
        ({"type": "asha"}, Asha(eta=3, rungs=[1, 3, 9, 27])),
    ],
)
def test_policies(given: dict[str, Any], meant: EarlyTermination) -> None:
    assert Sweep.model_validate({"early_termination": given}).early_termination == meant


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"type": "bandit"}, "bandit takes one of slack_factor and slack_amount, above 0."),
        (
            {"type": "bandit", "slack_factor": 0.1, "slack_amount": 0.1},
            "bandit takes one of slack_factor and slack_amount, above 0.",
        ),
        (
            {"type": "bandit", "slack_factr": 0.1},
            "sweep.early_termination.slack_factr: unknown key; did you mean 'slack_factor'?",
        ),
        (
            {"type": "truncation_selection"},
            "sweep.early_termination.truncation_percentage: required.",
        ),
        ({"type": "truncation_selection", "truncation_percentage": 100}, "got 100"),
        ({"type": "asha", "eta": 1}, "got 1"),
        ({"type": "asha", "delay_evaluation": 1}, "delay_evaluation: unknown key"),
        ({"slack_factor": 0.1}, "type must be one of bandit"),
        ("bandit", "sweep.early_termination"),
    ],
)
def test_policies_that_cannot_be(given: object, problem: str) -> None:
    text = "\n".join(problems_of({"sweep": {"early_termination": given}}))
    assert problem in text


def test_keys_without_use_here_are_named_and_nothing_else() -> None:
    job = checked(
        {
            "compute": "azureml:gpu-cluster",
            "resources": {"instance_type": "Standard_NC6"},
            "id": "/subscriptions/1",
            "training_data": {"path": "x", "mode": "ro_mount"},
            "properties": {"node_count_per_trial": "2"},
            "outputs": {"best_model": {"type": "mlflow_model", "path": "azureml://x/y"}},
            "tags": {"a": None},
        }
    )
    assert job.unused_keys == [
        "compute",
        "resources",
        "id",
        "training_data.mode",
        "properties.node_count_per_trial",
        "outputs.best_model.path",
    ]
    # Azure accepts the share and makes no use of it for images.
    assert checked({"test_data_size": 0.1}).unused_keys == ["test_data_size"]
    plain = {"properties": {"node_count_per_trial": "1"}, "outputs": {"best_model": {"type": "x"}}}
    assert checked(plain).unused_keys == []


@pytest.mark.parametrize("count", ["0", "two", 1.5, "", True])
def test_nodes_are_counted(count: object) -> None:
    (problem,) = problems_of({"properties": {"node_count_per_trial": count}})
    assert problem.startswith("properties.node_count_per_trial: must be a whole number ≥ 1")


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("azureml:./data/train", "./data/train"),
        ("azureml:train", "train"),
        ("azureml:/data/train", "/data/train"),
        ("azureml:C:\\data\\train", "C:\\data\\train"),
        ("data/train", "data/train"),
        ("azureml:fridge:1", "azureml:fridge:1"),
        ("azureml:fridge@latest", "azureml:fridge@latest"),
        ("azureml://datastores/d/paths/p", "azureml://datastores/d/paths/p"),
    ],
)
def test_the_sdk_writes_local_paths_with_a_prefix(path: str, local: str) -> None:
    assert local_path(path) == local


@pytest.mark.parametrize(
    "asset", ["azureml:fridge:1", "azureml:fridge@latest", "azureml:/subscriptions/1/x/versions/1"]
)
def test_registered_data_needs_a_place(asset: str) -> None:
    (problem,) = problems_of({"validation_data": {"path": asset, "type": "mltable"}})
    assert problem == (
        f"validation_data: {asset!r} is registered in a cloud workspace, which is not asked here. "
        f"Give its data with --validation-data SRC, or --map {asset}=DIR."
    )
    for key in ("map", "datastores"):
        job = checked({"validation_data": asset, key: {asset: "here/val"}})
        assert job.validation_data is not None
        assert job.validation_data.path == "here/val"


def test_data_that_another_node_makes_is_said_to_be_missing() -> None:
    path = "${{parent.jobs.prepare.outputs.train}}"
    (problem,) = problems_of({"training_data": path})
    assert problem == (
        f"training_data: {path} is made by another node of the pipeline, which is not run here. "
        "Give the data with --data SRC."
    )


def test_one_search_space_needs_no_list() -> None:
    assert checked({"search_space": {"beta1": 0.9}}).search_space == [{"beta1": 0.9}]
