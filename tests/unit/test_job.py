"""The job document: closed keys, both spellings, every problem at once."""

from pathlib import Path

import pytest
import yaml

from autofocus.errors import JobError
from autofocus.job import check_job, dump_job, parse_duration
from autofocus.job_file import override, read_document
from autofocus.parameters import PARAMETER_ALIASES, PARAMETERS

AZURE_JOBS = Path(__file__).parents[3] / "shared" / "reference" / "azure-jobs"


def test_minimal_job_fills_every_default() -> None:
    job, problems = check_job({"task": "t", "training_data": "rows.jsonl"})
    assert not problems
    assert job is not None
    assert job.training_data.path == "rows.jsonl"
    assert (job.validation_data_size, job.seed, job.budget_s) == (0.2, 0, None)
    assert yaml.safe_load(dump_job(job))["target_column_name"] == "label"


def test_all_problems_are_named_at_once() -> None:
    job, problems = check_job(
        {"trainin_data": "x", "seed": -1, "limits": {"max_trails": 3}, "budget": "5x"}
    )
    assert job is None
    text = "\n".join(problems)
    assert "trainin_data: unknown key; did you mean 'training_data'?" in text
    assert "limits.max_trails: unknown key; did you mean 'max_trials'?" in text
    assert "training_data: required. Give --data SRC" in text
    assert "seed:" in text
    assert "got -1" in text
    assert "budget: must be seconds, or a number with s, m, h or d" in text


def test_unknown_parameter_proposes_the_nearest() -> None:
    _, problems = check_job(
        {"training_data": "x", "training_parameters": {"lerning_rate": 0.1, "zzz": 1}}
    )
    assert problems == [
        "training_parameters: 'lerning_rate' is not a parameter; did you mean 'learning_rate'? "
        "'zzz' is not a parameter."
    ]


@pytest.mark.parametrize("alias", sorted(PARAMETER_ALIASES))
def test_both_spellings_mean_the_same(alias: str) -> None:
    job, problems = check_job({"training_data": "x", "training_parameters": {alias: 3}})
    assert not problems
    assert job is not None
    assert job.training_parameters == {PARAMETER_ALIASES[alias]: 3}
    assert PARAMETER_ALIASES[alias] in PARAMETERS


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_budget_is_the_smaller_of_ours_and_azures() -> None:
    job, _ = check_job({"training_data": "x", "budget": "10m", "limits": {"timeout_minutes": 5}})
    assert job is not None
    assert job.budget_s == 300


def test_one_licence_needs_no_list() -> None:
    job, problems = check_job({"training_data": "x", "accept_license": "gemma"})
    assert not problems
    assert job is not None
    assert job.accept_license == ["gemma"]


def test_yaml_paths_are_relative_to_the_yaml(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_text("training_data: {path: data/train, type: mltable}\ntest_data: t.jsonl\n")
    document = read_document(path)
    assert document["training_data"]["path"] == str(tmp_path / "data/train")
    assert document["test_data"] == str(tmp_path / "t.jsonl")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "just text\n"])
def test_what_is_not_a_job_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yml"
    path.write_text(text)
    with pytest.raises(JobError, match=r"job\.yml"):
        read_document(path)


def test_set_reaches_into_lists_and_makes_mappings() -> None:
    document = {"search_space": [{"learning_rate": {"max_value": 1}}]}
    changed = override(
        document, ["search_space.0.learning_rate.max_value=0.02", "limits.max_trials=3"]
    )
    assert changed["search_space"][0]["learning_rate"]["max_value"] == 0.02
    assert changed["limits"] == {"max_trials": 3}
    assert document["search_space"][0]["learning_rate"]["max_value"] == 1


def test_set_names_every_bad_assignment() -> None:
    with pytest.raises(JobError) as caught:
        override({"search_space": []}, ["seed", "search_space.4.x=1"])
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("path", sorted(AZURE_JOBS.glob("cli-*.yml")), ids=lambda p: p.stem)
def test_official_sample_jobs_have_only_known_keys(path: Path) -> None:
    _, problems = check_job(read_document(path))
    assert problems == []


def test_data_in_the_place_of_the_job_is_told_where_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image_url": "a.jpg", "label": "x"}\n' * 2)
    with pytest.raises(JobError, match="data is given with --data"):
        read_document(path)
