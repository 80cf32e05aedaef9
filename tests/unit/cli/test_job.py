"""`autofocus job init` and `autofocus train --dry-run`, as a shell sees them."""

import json
from pathlib import Path

import pytest
import yaml

from support.commands import invoke

PIPELINE = """
type: pipeline
experiment_name: exp
inputs: {rows: {type: mltable, path: rows.jsonl}}
jobs:
  first: {type: automl, task: image_classification, training_data: "${{parent.inputs.rows}}"}
  second: {type: automl, task: image_classification, training_data: "${{parent.inputs.rows}}"}
  third: {type: command}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = []
    for n in range(10):
        (tmp_path / f"{n}.jpg").write_bytes(b"\xff\xd8\xff")
        lines.append(json.dumps({"image_url": f"{n}.jpg", "label": "xy"[n % 2]}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = invoke(*words)
    return result.exit_code, result.stdout


def test_init_looks_at_the_data_and_its_job_can_be_run(folder: Path) -> None:
    (folder / "jobs").mkdir()
    status, out = run("job", "init", "--data", "rows.jsonl", "-o", "jobs/j.yml")
    assert (status, out) == (0, "jobs/j.yml: autofocus train jobs/j.yml --dry-run\n")
    document = yaml.safe_load((folder / "jobs/j.yml").read_text())
    assert document["task"] == "image_classification"
    assert document["training_data"]["path"] == "../rows.jsonl"
    status, out = run("train", "jobs/j.yml", "--dry-run", "--json")
    assert status == 0
    assert json.loads(out)["data"]["training"]["num_images"] == 10


def test_init_finds_splits(folder: Path) -> None:
    for name in ("train", "validation", "test"):
        (folder / f"{name}.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    assert run("job", "init", "--data", ".")[0] == 0
    document = yaml.safe_load((folder / "job.yml").read_text())
    assert document["validation_data"]["path"] == "validation.jsonl"
    assert document["test_data"]["path"] == "test.jsonl"


def test_init_does_not_replace_a_file_by_itself(folder: Path) -> None:
    (folder / "job.yml").write_text("mine")
    assert run("job", "init")[0] == 2
    assert (folder / "job.yml").read_text() == "mine"
    assert run("job", "init", "--overwrite")[0] == 0
    assert "image_classification" in (folder / "job.yml").read_text()


def test_init_writes_to_standard_output(folder: Path) -> None:
    status, out = run("job", "init", "--task", "image_classification_multilabel", "-o", "-")
    assert status == 0
    assert yaml.safe_load(out)["primary_metric"] == "iou"
    assert not (folder / "job.yml").exists()
    status, out = run("job", "init", "-o", "-", "--json")
    assert json.loads(out)["job"] is None


def test_the_template_shows_the_parameters_that_count() -> None:
    text = run("job", "init", "--task", "image_classification", "-o", "-")[1]
    lines = text.partition("#sweep")[0].splitlines()
    shown = {line.split(":")[0].strip("# "): line for line in lines if line.startswith("#  ")}
    assert "learning_rate: 0.001" in shown["learning_rate"]
    assert shown["validation_crop_size"].endswith("  # Side of the input, pixels")
    assert {"image_size", "distributed"}.isdisjoint(shown)
    assert max(map(len, lines)) <= 120


def test_the_schema_goes_to_a_file_or_to_standard_output(folder: Path) -> None:
    status, out = run("job", "schema")
    assert status == 0
    assert json.loads(out)["properties"]["seed"]["default"] == 0
    status, line = run("job", "schema", "-o", "s.json")
    assert (status, line) == (
        0,
        "s.json: as a job's first line write # yaml-language-server: $schema=s.json\n",
    )
    assert json.loads((folder / "s.json").read_text()) == json.loads(out)
    assert json.loads(run("job", "schema", "-o", "s.json", "--json")[1]) == {"schema": "s.json"}


def test_init_names_the_tasks(folder: Path) -> None:
    result = invoke(*["job", "init", "--task", "image_clasification"])
    assert result.exit_code == 2
    assert "did you mean 'image_classification'?" in result.stderr


def test_init_asks_when_rows_do_not_say(folder: Path) -> None:
    (folder / "odd.jsonl").write_text('{"image_url": "0.jpg", "label": []}\n')
    result = invoke(*["job", "init", "--data", "odd.jsonl"])
    assert result.exit_code == 2
    assert "Say it with --task" in result.stderr


def test_a_plan_is_lines_for_people(folder: Path) -> None:
    words = ["train", "--task", "image_classification", "--data", "rows.jsonl", "--dry-run"]
    words += ["--set", "search_space=[{learning_rate: 'uniform(0.001,0.01)'}]"]
    words += ["--set", "search_space.0.learning_rate.max_value=0.02", "--budget", "5m"]
    words += ["--set", "sweep.early_termination={type: bandit, slack_factor: 0.2}"]
    status, out = run(*words)
    assert status == 0
    assert "training: rows, 10 images of 10 rows, 2 classes" in out
    assert "mode     sweep · at most 1 trial, 1 at once · budget 300 s · seed 0" in out
    assert "learning_rate: uniform(0.001, 0.02)" in out
    assert "slack_factor 0.2" in out
    assert "note     limits.max_trials is 1" in out
    assert max(len(line) for line in out.splitlines()) <= 120
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".jpg") == ["rows.jsonl"]


def test_every_job_of_a_pipeline_is_planned(folder: Path) -> None:
    (folder / "pipeline.yml").write_text(PIPELINE)
    status, out = run("train", "pipeline.yml", "--dry-run", "--json", "--output-dir", "out")
    assert status == 0
    jobs = json.loads(out)["jobs"]
    assert list(jobs) == ["first", "second"]
    assert jobs["second"]["job"]["output_dir"] == str(Path("out/second"))
    status, out = run("train", "pipeline.yml", "--dry-run")
    assert [line for line in out.splitlines() if line.startswith("job ")] == [
        "job      first",
        "job      second",
    ]


def test_a_wrong_job_is_one_document_with_every_problem(folder: Path) -> None:
    words = ["--set", "sead=1", "--set", "search_space=[{beta1: 3}]", "--json"]
    status, out = run("train", "--data", "rows.jsonl", "--dry-run", *words)
    problems = json.loads(out)["error"]["problems"]
    assert status == 2
    assert len(problems) == 3
