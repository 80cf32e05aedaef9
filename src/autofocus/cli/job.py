"""`autofocus job`: write a first job file, and the schema that editors check it by."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.output import AsJson, command, emit, emit_json
from autofocus.errors import JobError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def job() -> None:
    """Write a job file, or the schema of all."""


@app.command()
@command
def init(
    task: Annotated[str | None, typer.Option(help="Default: what the rows look like.")] = None,
    data: Annotated[str | None, typer.Option(help="Training data, or a folder of splits.")] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file; '-' is standard output.")
    ] = Path("job.yml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a job YAML with a comment for everything that can be set.

    autofocus job init --data photos/ -o job.yml
    """
    from autofocus.runtime import write_atomically
    from autofocus.study.job_template import job_template

    to_stdout = str(output) == "-"
    if output.exists() and not overwrite and not to_stdout:
        raise JobError(f"{output}: is there already. Name another file with -o, or --overwrite.")
    splits = _splits(data)
    chosen = _task(task, splits.get("train"))
    folder = Path() if to_stdout else output.parent
    text = job_template(chosen, {split: _from(folder, path) for split, path in splits.items()})
    document: dict[str, Any] = {"job": None if to_stdout else str(output), "task": chosen.name}
    if not to_stdout:
        write_atomically(output, text.encode())
    if as_json:
        emit_json({**document, "text": text})
    else:
        emit(text.rstrip() if to_stdout else f"{output}: autofocus train {output} --dry-run")


@app.command()
@command
def schema(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file; '-' is standard output.")
    ] = Path("-"),
    as_json: AsJson = False,
) -> None:
    """Write the JSON schema of a job, by which editors complete, explain and check job files.

    autofocus job schema -o job.schema.json
    """
    from autofocus.runtime import write_atomically
    from autofocus.study.job_schema import job_schema

    document = job_schema()
    if str(output) == "-":
        emit_json(document)
        return
    write_atomically(output, json.dumps(document, indent=1).encode())
    if as_json:
        emit_json({"schema": str(output)})
    else:
        emit(f"{output}: as a job's first line write # yaml-language-server: $schema={output}")


def _splits(data: str | None) -> dict[str, str]:
    from autofocus.data.sources.find import find_splits

    if data is None:
        return {}
    if "://" in data:
        return {"train": data}
    return {split: str(path) for split, path in find_splits(data).items()} or {"train": data}


def _task(name: str | None, data: str | None) -> Any:
    from autofocus.data.options import ReadOptions
    from autofocus.data.sources.find import find_source, infer_tasks
    from autofocus.settings.spelling import did_you_mean
    from autofocus.tasks import TASKS

    allowed = ", ".join(TASKS)
    if name is None and data is not None:
        options = ReadOptions()
        fitting = infer_tasks(find_source(data, options), options)
        if len(fitting) != 1:
            found = " or ".join(fitting) or "no task"
            raise JobError(f"{data}: the rows look like {found}. Say it with --task: {allowed}.")
        name = fitting[0]
    name = name or next(iter(TASKS))
    if name not in TASKS:
        raise JobError(f"--task must be one of {allowed}, got {name!r}{did_you_mean(name, TASKS)}")
    return TASKS[name]


def _from(folder: Path, path: str) -> str:
    """Return a local path relative to the job's folder."""
    if "://" in path or os.path.isabs(path):
        return path
    return Path(os.path.relpath(path, folder)).as_posix()
