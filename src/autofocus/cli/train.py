"""`autofocus train`: from data to a servable model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.output import command, emit, emit_json, progress
from autofocus.runtime import PROCESS_STARTED_S


@command
def train(
    job: Annotated[Path | None, typer.Argument(help="Job YAML; flags win over it.")] = None,
    task: Annotated[str | None, typer.Option(help="What to learn, by its published name.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Training data: JSONL, MLTable folder or image folder.")
    ] = None,
    validation_data: Annotated[str | None, typer.Option(help="Default: a seeded share.")] = None,
    test_data: Annotated[str | None, typer.Option(help="Only measured, never chosen by.")] = None,
    model: Annotated[str | None, typer.Option(help="A timm name or one of Azure's.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall time, such as 60s, 5m, 1h.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides splits and order. Default 0.")] = None,
    output_dir: Annotated[
        str | None, typer.Option(help="Default: runs/<name>-<hash of job and data>.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1.")] = None,
    weights: Annotated[str | None, typer.Option(help="A file, or 'random'.")] = None,
    accept_license: Annotated[
        list[str] | None, typer.Option(help="A licence to accept besides Apache, MIT, BSD.")
    ] = None,
    target_column: Annotated[str | None, typer.Option(help="Default: label.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Default: image_url.")] = None,
    image_root: Annotated[
        str | None, typer.Option(help="Where relative image_url start. Default: the JSONL's.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="PREFIX=DIR: a datastore or URL prefix to a folder or URL."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE: any key of the job, such as data.on_invalid=error."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget another run in the folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Train, package and verify a model.

    autofocus train --task image_classification --data photos/ --budget 5m
    """
    from autofocus import api
    from autofocus.data.locate import parse_maps

    result = api.train(
        job,
        overwrite=overwrite,
        set_=set_ or (),
        started_s=PROCESS_STARTED_S,
        track=progress(),
        task=task,
        data=data,
        validation_data=validation_data,
        test_data=test_data,
        model=model,
        budget=budget,
        seed=seed,
        output_dir=output_dir,
        device=device,
        weights=weights,
        accept_license=accept_license,
        target_column=target_column,
        image_column=image_column,
        image_root=image_root,
        map=parse_maps(map_) if map_ else None,
    )
    if as_json:
        emit_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    metric = result["primary_metric"]
    value = result["value"]
    emit(f"{metric} {'undefined' if value is None else f'{value:.4f}'} on validation")
    if result["test_metrics"] is not None:
        test = result["test_metrics"][metric]
        emit(f"{metric} {'undefined' if test is None else f'{test:.4f}'} on test data")
    emit(f"model  {result['best_model']}  after {result['seconds']:.0f} s")
    emit(f"try it: autofocus serve {result['best_model']}")
