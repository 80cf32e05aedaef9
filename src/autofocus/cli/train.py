"""`autofocus train`: train a servable model on data."""

import textwrap
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.ending import show_result
from autofocus.cli.output import AsJson, command, emit, emit_json, progress, showing_run
from autofocus.runtime import PROCESS_STARTED_S

Latency = Annotated[
    str | None, typer.Option(help="Most time of one image on one core here, such as 15ms.")
]
Size = Annotated[str | None, typer.Option(help="Largest ONNX file of the network, such as 20MB.")]
Precisions = Annotated[
    list[str] | None,
    typer.Option(help="Fit score thresholds for it: 0.95, or CLASS=0.98; may be repeated."),
]
Recalls = Annotated[list[str] | None, typer.Option(help="Fit score thresholds for it: likewise.")]
Licences = Annotated[
    list[str] | None, typer.Option(help="A licence to accept besides Apache, MIT, BSD.")
]
GroupColumn = Annotated[
    str | None, typer.Option(help="Column of what belongs together: camera, patient, source photo.")
]
ImageRoot = Annotated[
    str | None, typer.Option(help="Where relative image_url start. Default: the JSONL's.")
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", help="PREFIX=DIR: a datastore or URL prefix to a folder or URL."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE: any key of the job, such as data.on_invalid=error."),
]
OutputDir = Annotated[str | None, typer.Option(help="Default: runs/<name>-<hash of job and data>.")]


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
    max_latency: Latency = None,
    max_size: Size = None,
    min_precision: Precisions = None,
    min_recall: Recalls = None,
    seed: Annotated[int | None, typer.Option(help="Decides splits and order. Default 0.")] = None,
    output_dir: OutputDir = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1.")] = None,
    weights: Annotated[str | None, typer.Option(help="A file, or 'random'.")] = None,
    accept_license: Licences = None,
    target_column: Annotated[str | None, typer.Option(help="Default: label.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Default: image_url.")] = None,
    group_column: GroupColumn = None,
    image_root: ImageRoot = None,
    map_: Maps = None,
    set_: Assignments = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget another run in the folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, touch nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train, package and verify a model.

    autofocus train --task image_classification --data photos/ --budget 5m
    """
    from autofocus import api
    from autofocus.data.images.locate import parse_maps
    from autofocus.settings.job_file import read_jobs

    keys: dict[str, Any] = {
        "task": task,
        "data": data,
        "validation_data": validation_data,
        "test_data": test_data,
        "model": model,
        "budget": budget,
        "max_latency": max_latency,
        "max_size": max_size,
        "min_precision": min_precision or None,
        "min_recall": min_recall or None,
        "seed": seed,
        "output_dir": output_dir,
        "device": device,
        "weights": weights,
        "accept_license": accept_license,
        "target_column": target_column,
        "image_column": image_column,
        "group_column": group_column,
        "image_root": image_root,
        "map": parse_maps(map_) if map_ else None,
        "set_": set_ or (),
    }
    jobs = {"": {}} if job is None else read_jobs(job)
    done: dict[str, dict[str, Any]] = {}
    for node, document in jobs.items():
        if output_dir is not None and len(jobs) > 1:
            keys["output_dir"] = str(Path(output_dir) / node)
        # Jobs of a pipeline run one after the other, each with its own budget.
        started_s = time.monotonic() if done else PROCESS_STARTED_S
        if dry_run:
            done[node] = api.plan(document, track=progress(), **keys)
        else:
            how: dict[str, Any] = {"overwrite": overwrite, "started_s": started_s}
            with showing_run(as_json=as_json) as (track, on_folder):
                done[node] = api.train(document, track=track, on_folder=on_folder, **how, **keys)
        if not as_json:
            (_show_plan if dry_run else show_result)(done[node], node)
    if as_json:
        emit_json(done.get("", {"jobs": done}))


def _show_plan(plan: dict[str, Any], node: str) -> None:
    limits = plan["limits"]
    budget = "none" if plan["budget_s"] is None else f"{plan['budget_s']:g} s"
    if node:
        emit(f"job      {node}")
    emit(f"task     {plan['task']} by {plan['primary_metric']}")
    for role, data in plan["data"].items():
        emit(
            f"data     {role}: {data['name']}, {data['num_images']} images of "
            f"{data['num_rows']} rows, {len(data['labels'])} classes"
        )
    most = limits["max_trials"]
    trials = (
        "as many trials as the budget allows"
        if most is None
        else f"at most {most} trial{'s' * (most > 1)}"
    )
    emit(
        f"mode     {plan['mode']} · {trials}, {limits['max_concurrent_trials']} at once · "
        f"budget {budget} · seed {plan['seed']}"
    )
    for model in plan["models"]:
        emit(f"model    {model['name']} ({model['licence']})")
        emit(_wrapped(_settings_text(model["recipe"])))
    if plan["sweep"] is not None:
        _show_sweep(plan["sweep"])
    if plan["automode"] is not None:
        _show_automode(plan["automode"])
    if plan["not_used_here"]:
        emit(f"not used {', '.join(plan['not_used_here'])}")
    for text in plan["notes"]:
        emit(f"note     {text}")


def _show_automode(automode: dict[str, Any]) -> None:
    emit("models   of these, as their weights can be had and the time allows:")
    emit(_wrapped(", ".join(automode["models_by_expected_rank"])))


def _show_sweep(sweep: dict[str, Any]) -> None:
    sampling = sweep["sampling_algorithm"]
    name = "sobol" if sampling["rule"] == "sobol" else sampling["type"]
    emit(f"sampler  {name} · {sweep['num_trials']} trials")
    policy = sweep["early_termination"]
    emit(f"stopping {'none' if policy is None else _settings_text(policy)}")
    for subspace in sweep["search_space"]:
        for index, (name, value) in enumerate(subspace.items()):
            emit(f"{'space' if index == 0 else '':9}{name}: {_distribution(value)}")
    for number, drawn in enumerate(sweep["first_trials"]):
        emit(f"trial {number}  {_settings_text(drawn)}")


def _distribution(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    arguments = [item for name, item in value.items() if name != "type"]
    return f"{value['type']}({', '.join(str(item) for item in arguments)})"


def _wrapped(text: str) -> str:
    indent = " " * 11
    return textwrap.fill(text, 99, initial_indent=indent, subsequent_indent=indent)


def _settings_text(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
