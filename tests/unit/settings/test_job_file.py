"""Job files: where paths start, pipelines, and `--set`."""

import logging
from pathlib import Path

import pytest

from autofocus.errors import JobError
from autofocus.settings.check import check_job
from autofocus.settings.job_file import override, read_document, read_jobs

PIPELINE = """
type: pipeline
experiment_name: exp
settings: {default_compute: azureml:gpu}
inputs:
  train: {type: mltable, path: data/train}
  far: {type: mltable, path: "azureml://datastores/d/paths/p"}
  epochs: 7
jobs:
  first:
    type: automl
    task: t
    training_data: ${{parent.inputs.train}}
    validation_data: {path: data/val, type: mltable}
    test_data: ${{ parent.inputs.far }}
    description: for ${{parent.inputs.epochs}} epochs
    training_parameters: {number_of_epochs: "${{parent.inputs.epochs}}"}
    outputs: {best_model: "${{parent.outputs.model}}"}
  second:
    type: automl
    task: t
    experiment_name: own
    training_data: ${{parent.jobs.prepare.outputs.out}}
  prepare: {type: command, inputs: {}}
  odd: {}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yml"
    path.write_text(text)
    return path


def test_yaml_paths_are_relative_to_the_yaml(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "training_data: {path: data/train, type: mltable}\n"
        "validation_data: {path: 'azureml:./data/val', type: mltable}\n"
        "test_data: t.jsonl\n",
    )
    document = read_document(path)
    assert document["training_data"]["path"] == str(tmp_path / "data/train")
    assert document["validation_data"]["path"] == str(tmp_path / "data/val")
    assert document["test_data"] == str(tmp_path / "t.jsonl")


@pytest.mark.parametrize("place", ["azureml:fridge:1", "https://x/y.jsonl", "azureml://d/p"])
def test_what_is_no_local_path_stays(tmp_path: Path, place: str) -> None:
    path = written(tmp_path, f"training_data: '{place}'\n")
    assert read_document(path)["training_data"] == place


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "just text\n"])
def test_what_is_not_a_job_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(JobError, match=r"job\.yml"):
        read_document(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no\.yml: No such file or directory. Give a job YAML"):
        read_jobs(tmp_path / "no.yml")


def test_data_in_the_place_of_the_job_is_told_where_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image_url": "a.jpg", "label": "x"}\n' * 2)
    with pytest.raises(JobError, match="data is given with --data"):
        read_document(path)


def test_nodes_of_a_pipeline_become_jobs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A relative path of the file must not be put before the data twice.
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/p.yml").write_text(PIPELINE)
    with caplog.at_level(logging.INFO, "autofocus"):
        jobs = read_jobs(Path("sub/p.yml"))
    assert caplog.messages == ["pipeline: first, second; not run: prepare (command), odd (no type)"]
    first, second = jobs["first"], jobs["second"]
    assert first["training_data"] == {"type": "mltable", "path": "sub/data/train"}
    assert first["validation_data"]["path"] == "sub/data/val"
    assert first["test_data"]["path"] == "azureml://datastores/d/paths/p"
    assert first["description"] == "for 7 epochs"
    assert first["training_parameters"] == {"number_of_epochs": 7}
    assert (first["experiment_name"], first["compute"]) == ("exp", "azureml:gpu")
    assert second["experiment_name"] == "own"
    assert second["training_data"] == "${{parent.jobs.prepare.outputs.out}}"


def test_several_jobs_are_not_one(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds 2 jobs \(first, second\)"):
        read_document(written(tmp_path, PIPELINE))


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = PIPELINE.replace("${{parent.inputs.train}}", "${{parent.inputs.trian}}")
    with pytest.raises(JobError, match=r"first\.training_data: .* no input 'trian'; did you mean"):
        read_jobs(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("type: pipeline\njobs: {a: {type: command}}\n", "no node of this pipeline"),
        ("type: pipeline\njobs: [1]\n", "a pipeline has jobs and inputs"),
        ("type: pipeline\n", "a pipeline has jobs and inputs"),
    ],
)
def test_pipelines_without_a_job_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(JobError, match=problem):
        read_jobs(written(tmp_path, text))


def test_set_reaches_into_lists_and_makes_mappings() -> None:
    document = {"search_space": [{"learning_rate": {"max_value": 1}}]}
    changed = override(
        document, ["search_space.0.learning_rate.max_value=0.02", "limits.max_trials=3"]
    )
    assert changed["search_space"][0]["learning_rate"]["max_value"] == 0.02
    assert changed["limits"] == {"max_trials": 3}
    assert document["search_space"][0]["learning_rate"]["max_value"] == 1


def test_set_reaches_into_strings_and_both_spellings() -> None:
    document = {
        "search_space": [{"lr_scheduler": "step", "learning_rate": "uniform(0.001, 0.01)"}],
        "training_parameters": {"img_size": 320},
    }
    changed = override(
        document,
        [
            "search_space.0.learning_rate.max_value=0.02",
            "search_space.0.learning_rate_scheduler=warmup_cosine",
            "training_parameters.image_size=640",
            "training_parameters.lr_scheduler=step",
        ],
    )
    assert changed["search_space"] == [
        {
            "learning_rate_scheduler": "warmup_cosine",
            "learning_rate": {"type": "uniform", "min_value": 0.001, "max_value": 0.02},
        }
    ]
    assert changed["training_parameters"] == {"image_size": 640, "learning_rate_scheduler": "step"}


def test_set_names_every_bad_assignment() -> None:
    with pytest.raises(JobError) as caught:
        override({"search_space": []}, ["seed", "search_space.4.x=1"])
    assert len(caught.value.problems) == 2


def test_an_assignment_to_the_wrong_place_is_told_the_right_one() -> None:
    document = override({"training_data": "x"}, ["number_of_epochs=3"])
    assert check_job(document)[1] == [
        "number_of_epochs: unknown key; did you mean 'training_parameters.number_of_epochs'?"
    ]
