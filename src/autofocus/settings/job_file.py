"""Job files, which hold one job or a pipeline whose AutoML nodes are jobs, and `--set`."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autofocus.errors import JobError
from autofocus.settings.job import DATA_FLAGS, local_path
from autofocus.settings.parameters import PARAMETER_ALIASES, canonical_names
from autofocus.settings.search_space import canonical_space
from autofocus.settings.spelling import did_you_mean, spelled

log = logging.getLogger(__name__)

_INPUT = re.compile(r"\$\{\{\s*parent\.inputs\.([^\s}]+)\s*\}\}")


def read_document(path: Path) -> dict[str, Any]:
    """Read the only job of a file; relative data paths become relative to its folder.

    Raises:
        JobError: If the file is missing, is not YAML, or does not hold exactly one job.
    """
    jobs = read_jobs(path)
    if len(jobs) > 1:
        raise JobError(
            f"{path}: holds {len(jobs)} jobs ({', '.join(jobs)}). 'autofocus train {path}' runs "
            "them one after the other; from Python take one of job_file.read_jobs(path)."
        )
    return next(iter(jobs.values()))


def read_jobs(path: Path) -> dict[str, dict[str, Any]]:
    """Read a job file; relative data paths become relative to its folder, as in Azure's CLI.

    Returns:
        The jobs by the names of their nodes in the pipeline; "" for a file with one job.

    Raises:
        JobError: If the file is missing, is not YAML or holds no job; names every problem.
    """
    document = _read_yaml(path)
    if spelled(document.get("type"), ["pipeline"]):
        return _pipeline_jobs(document, path)
    _anchor(document, DATA_FLAGS, path.parent)
    return {"": document}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise JobError(f"{path}: {error.strerror or error}. Give a job YAML.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise JobError(
            f"{path}: not YAML: {reason}. This argument is the job; data is given with --data."
        ) from error
    if not isinstance(document, dict):
        raise JobError(f"{path}: a job is a mapping of keys, got {type(document).__name__}.")
    return document


def _anchor(entries: dict[str, Any], keys: Sequence[str] | Mapping[str, str], folder: Path) -> None:
    """Make the relative paths of data entries relative to `folder`."""
    for key in keys:
        entry = entries.get(key)
        value = entry.get("path") if isinstance(entry, dict) else entry
        if not isinstance(value, str) or "://" in value or "${{" in value:
            continue
        value = local_path(value)
        if value.startswith("azureml:"):
            continue
        anchored = str(folder / value)
        entries[key] = {**entry, "path": anchored} if isinstance(entry, dict) else anchored


def _pipeline_jobs(pipeline: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    nodes, inputs = pipeline.get("jobs"), pipeline.get("inputs") or {}
    if not isinstance(nodes, dict) or not isinstance(inputs, dict):
        raise JobError(f"{path}: a pipeline has jobs and inputs, each a mapping by name.")
    data = [name for name, entry in inputs.items() if isinstance(entry, dict)]
    _anchor(inputs, data, path.parent)
    run = {name: node for name, node in nodes.items() if _type(node) == "automl"}
    if not run:
        raise JobError(f"{path}: no node of this pipeline has 'type: automl'; there is no job.")
    problems: list[str] = []
    jobs = {}
    for name, node in run.items():
        _anchor(node, DATA_FLAGS, path.parent)
        job = {key: _resolved(node[key], inputs, f"{name}.{key}", problems) for key in node}
        jobs[name] = {**_inherited(pipeline), **job}
    if problems:
        raise JobError([f"{path}: jobs.{problem}" for problem in problems])
    others = [f"{name} ({_type(node) or 'no type'})" for name, node in nodes.items()]
    others = [text for name, text in zip(nodes, others, strict=True) if name not in run]
    log.info("pipeline: %s; not run: %s", ", ".join(run), ", ".join(others) or "nothing")
    return jobs


def _type(node: object) -> str:
    return str(node.get("type", "")).lower() if isinstance(node, dict) else ""


def _inherited(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    settings = pipeline.get("settings")
    compute = settings.get("default_compute") if isinstance(settings, dict) else None
    given = {"experiment_name": pipeline.get("experiment_name"), "compute": compute}
    return {key: value for key, value in given.items() if value is not None}


def _resolved(value: Any, inputs: Mapping[str, Any], key: str, problems: list[str]) -> Any:
    """Return a node's value with `${{parent.inputs.NAME}}` replaced by the pipeline's input."""
    if isinstance(value, dict):
        return {k: _resolved(v, inputs, f"{key}.{k}", problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, inputs, f"{key}.{i}", problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    for match in _INPUT.finditer(value):
        name = match[1]
        if name not in inputs:
            hint = did_you_mean(name, [str(name) for name in inputs])
            problems.append(f"{key}: the pipeline has no input {name!r}{hint}")
        elif match[0] == value.strip():
            return _copied(inputs[name])
        else:
            value = value.replace(match[0], str(inputs[name]))
    return value


def override(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the job with `--set a.b=value` applied; values are YAML, list positions numbers.

    Parameters may be given in either spelling, and `search_space.0.learning_rate.max_value`
    reaches into a distribution that is written as a string.

    Raises:
        JobError: Names every assignment that does not fit.
    """
    problems = []
    result: dict[str, Any] = _copied(document)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            problems.append(f"--set {assignment}: must be KEY=VALUE, such as seed=7.")
            continue
        path = [PARAMETER_ALIASES.get(part, part) for part in key.split(".")]
        _make_canonical(result, path[0])
        try:
            _assign(result, path, yaml.safe_load(text))
        except (KeyError, IndexError, ValueError, TypeError, yaml.YAMLError) as error:
            problems.append(f"--set {assignment}: there is no such place in the job ({error}).")
    if problems:
        raise JobError(problems)
    return result


def _make_canonical(document: dict[str, Any], key: str) -> None:
    value = document.get(key)
    if key == "search_space":
        document[key] = canonical_space(value)
    elif key == "training_parameters" and isinstance(value, dict):
        document[key] = canonical_names(value)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _assign(container: Any, keys: list[str], value: Any) -> None:
    head, *rest = keys
    key: Any = int(head) if isinstance(container, list) else head
    if not rest:
        container[key] = value
        return
    if isinstance(container, dict) and not isinstance(container.get(key), dict | list):
        container[key] = {}
    _assign(container[key], rest, value)
