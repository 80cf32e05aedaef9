"""Template of a job YAML: required keys, and comments for the others."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from autofocus.models import catalog
from autofocus.settings.parameters import PARAMETERS
from autofocus.study.resolve import resolve
from autofocus.study.trials.recipes import default_values
from autofocus.tasks.base import Task

# Images for which hyperparameters are shown, and the column where their meaning begins.
_FEW, _COLUMN = 100, 46

# Prose begins with "# ", what can be switched on with "#" alone.
_TEMPLATE = """\
# A job of autofocus. `autofocus train FILE --dry-run` checks it and shows the plan, `autofocus
# train FILE` runs it. Paths are relative to this file. Every key: docs/reference/job.md. Editors
# that speak JSON schema complete and check it after `autofocus job schema -o job.schema.json`
# and with a first line `# yaml-language-server: $schema=job.schema.json`.
type: automl
task: {task}

# One of {metrics}.
primary_metric: {metric}

# JSON Lines, an MLTable folder, a folder of class folders, or a CSV.
target_column_name: label
training_data:
  path: {train}
{validation}
# Only measured, never chosen by.
{test}
# How much may be done: the first limit that is reached ends the job, with the best model so far.
budget: 10m
limits:
  max_trials: 10
  max_concurrent_trials: 1
#  timeout_minutes: 60
#  max_latency: 15ms

# Score thresholds with at least this precision, or recall, of all classes together or of one.
#thresholds:
#  min_precision: {{"*": 0.9}}

# Decides splits, order and what a sweep tries.
seed: 0

# The same for all trials. Without model_name and search_space the system chooses by itself. These
# are the defaults of {model} on few images; what is empty is not set.
#training_parameters:
{parameters}

# A sweep of your own instead. Each entry of search_space is a space of its own.
#sweep:
#  sampling_algorithm: random  # random, sobol, grid, bayesian
#  early_termination:          # bandit, median_stopping, truncation_selection, asha
#    type: bandit
#    slack_factor: 0.2
#    evaluation_interval: 2
#    delay_evaluation: 6
#search_space:
#  - model_name: {{type: choice, values: [{models}]}}
#    learning_rate: {{type: loguniform, min_value: -9.2, max_value: -4.6}}  # exp(-9.2) is 0.0001
#    augmentations: {{type: choice, values: [light, medium]}}

# Where images lie whose rows name a datastore or a URL.
#map:
#  "azureml://datastores/workspaceblobstore/paths": {folder}

# Without it: runs/<experiment_name or data>-<hash of job and data>.
#output_dir: runs/mine
"""

_HELD_OUT = """
# Without validation_data, this share of the training images is held out.
validation_data_size: 0.2
#validation_data:
#  path: validation.jsonl
"""


def job_template(task: Task[Any, Any], data: Mapping[str, str]) -> str:
    """Return the text of a job YAML.

    Args:
        task: The task.
        data: Paths of the splits "train", "validation" and "test"; missing ones are commented out.
    """
    kind = task.model_kind
    known = [spec.architecture for spec in catalog.RECOMMENDED if spec.kind == kind][:2]
    model = catalog.default_model(kind)
    validation = data.get("validation")
    test = "#test_data:\n#  path: test.jsonl\n"
    if "test" in data:
        test = f"test_data:\n  path: {_quoted(data['test'])}\n"
    return _TEMPLATE.format(
        task=task.name,
        metrics=", ".join(task.primary_metrics),
        metric=task.primary_metrics[0],
        train=_quoted(data.get("train", "train.jsonl")),
        validation=(
            f"validation_data:\n  path: {_quoted(validation)}\n" if validation else _HELD_OUT
        ),
        test=test,
        model=model,
        parameters="\n".join(_parameter_lines(task, model)),
        models=", ".join(known or [model]),
        folder=_quoted("."),
    )


def _parameter_lines(task: Task[Any, Any], model: str) -> Iterator[str]:
    """Yield a line for each hyperparameter that counts for the default model of a task."""
    parameters = {"model_name": model}
    job = {"task": task.name, "training_data": "", "training_parameters": parameters}
    plan = resolve(job)
    values = parameters | default_values(plan, _FEW)
    for name, parameter in PARAMETERS.items():
        if parameter.used_by in plan.readers:
            value = json.dumps(values[name]).strip('"') if name in values else ""
            yield f"{f'#  {name}: {value}':<{_COLUMN}}  # {parameter.help}"


def _quoted(path: str) -> str:
    # JSON's strings are YAML's; plain names stay plain.
    plain = path.replace("/", "").replace(".", "").replace("_", "").replace("-", "").isalnum()
    return path if plain and not path.startswith("-") else json.dumps(path, ensure_ascii=False)
