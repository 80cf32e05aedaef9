"""The published YAML of a batch deployment: what counts here, what is named as not used."""

from pathlib import Path

import pytest

from autofocus.batch.deployment import Deployment, read_deployment
from autofocus.errors import JobError

PUBLISHED = """
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: fridge
endpoint_name: fridge-batch
type: model
model: azureml:fridge@latest
compute: azureml:cpu-cluster
resources: {instance_count: 1}
settings:
  max_concurrency_per_instance: 2
  mini_batch_size: 10
  output_action: append_row
  output_file_name: predictions.csv
  retry_settings: {max_retries: 5, timeout: 300}
  error_threshold: -1
  logging_level: info
"""


def read(tmp_path: Path, text: str) -> Deployment:
    (tmp_path / "deployment.yml").write_text(text)
    return read_deployment(tmp_path / "deployment.yml")


def test_a_published_deployment_says_how_a_batch_runs(tmp_path: Path) -> None:
    said = read(tmp_path, PUBLISHED)
    assert (said.mini_batch_size, said.workers, said.error_threshold) == (10, 2, -1)
    assert (said.output_file_name, said.retries) == ("predictions.csv", 5)
    assert set(said.unused) == {
        *("name", "endpoint_name", "type", "model", "compute", "resources", "logging_level"),
        "retry_settings.timeout",
    }


def test_keys_may_stand_at_the_root_and_be_spelled_as_the_rest_interface_does(
    tmp_path: Path,
) -> None:
    text = "miniBatchSize: 5\noutputFileName: a.jsonl\noutputAction: SummaryOnly\n"
    said = read(tmp_path, text)
    assert (said.mini_batch_size, said.output_file_name) == (5, "a.jsonl")
    assert said.unused == ("output_action: SummaryOnly",)


def test_every_problem_is_named(tmp_path: Path) -> None:
    settings = "{mini_batch_size: 0, output_file_name: ../a, error_threshold: true}"
    text = f"mini_batch_sise: 5\nsettings: {settings}"
    with pytest.raises(JobError) as caught:
        read(tmp_path, text)
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert (
        "mini_batch_sise: is no key of a batch deployment; did you mean 'mini_batch_size'?"
        in problems
    )
    assert "mini_batch_size: must be a whole number of at least 1, got 0" in problems
    assert "output_file_name: must be the name of a file, got '../a'" in problems
    assert "error_threshold: must be a whole number of at least -1, got True" in problems


@pytest.mark.parametrize("text", ["- a list", "a: [", "settings: 3", "retry_settings: [1]"])
def test_what_is_no_deployment_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(JobError, match=r"deployment\.yml"):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"none\.yml: cannot be read"):
        read_deployment(tmp_path / "none.yml")
