"""`autofocus data`: check data before training, and convert it into the published form."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from autofocus.cli.output import AsJson, command, emit, emit_json, note, progress
from autofocus.cli.reading import (
    DEFAULT_CLASS,
    ClassName,
    Coordinates,
    GroupColumn,
    ImageColumn,
    ImageRoot,
    Maps,
    Masks,
    TargetColumn,
    read_options,
)
from autofocus.errors import InputError, JobError

if TYPE_CHECKING:
    from autofocus.data.options import ReadOptions
    from autofocus.data.sources.check import Depth, SourceReport
    from autofocus.data.sources.convert import Written
    from autofocus.data.sources.find import Source

app = typer.Typer(no_args_is_help=True)

_MAX_CLASSES = 20
_MAX_ISSUES = 20
_MAX_PER_CODE = 3

SourceArgument = Annotated[
    str,
    typer.Argument(help="JSONL, MLTable, COCO, VOC, YOLO, VIA, masks, folders of classes, CSV."),
]
TaskOption = Annotated[str | None, typer.Option(help="Default: what the rows look like.")]


@app.command()
@command
def check(
    source: SourceArgument,
    task: TaskOption = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Look at rows only.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Decode whole images.")] = False,
    output_dir: Annotated[
        Path | None, typer.Option("-o", "--output-dir", help="Write all issues to issues.jsonl.")
    ] = None,
    target_column: TargetColumn = "label",
    image_column: ImageColumn = "image_url",
    group_column: GroupColumn = None,
    image_root: ImageRoot = None,
    map_: Maps = None,
    class_name: ClassName = DEFAULT_CLASS,
    coordinates: Coordinates = None,
    masks: Masks = None,
    as_json: AsJson = False,
) -> None:
    """List everything that is wrong with data; exit status 2 when something cannot be used.

    autofocus data check train.jsonl --task image_object_detection --no-images
    """
    from autofocus.data.rows.issues import IssueLog
    from autofocus.data.rows.records import RECORD_TYPES, MulticlassRecord
    from autofocus.data.sources.check import SourceReport, check_source
    from autofocus.data.sources.find import find_source, find_splits
    from autofocus.data.sources.group_column import unknown_group_column

    if no_images and decode:
        raise JobError("--no-images and --decode exclude each other; leave one out.")
    columns = (target_column, image_column, image_root, map_, class_name, coordinates)
    options = read_options(*columns, group_column, masks)
    splits = find_splits(source)
    wanted = RECORD_TYPES.get(task or "")
    found = {split: find_source(path, options, wanted) for split, path in splits.items()}
    first = found.get("train") or find_source(source, options, wanted)
    # Rows of no known task are checked as the simplest ones, to name their problems.
    name = _choose_task(task, first, options)
    record_type = RECORD_TYPES[name] if name else MulticlassRecord
    depth: Depth = "rows" if no_images else "pixels" if decode else "headers"
    with _issues_file(output_dir) as sink:
        log = IssueLog(sink)
        reports = {
            split: check_source(part, record_type, options, depth, log, progress())
            for split, part in (found or {"": first}).items()
        }
    report = SourceReport.of_splits(reports.values(), log)
    if group_column is not None and not report.groups:
        raise unknown_group_column(first, group_column)
    if as_json:
        emit_json(_document(name, report, reports if found else {}))
    else:
        emit(f"{source}: {name or 'no task can be told from the rows'}")
        for split, part in reports.items() if found else ():
            emit(f"{split}: {part.num_rows} rows, {part.num_valid} usable")
        _show(report, output_dir, _next_command(name, source, options))
    if log.num_errors:
        raise typer.Exit(InputError.exit_status)


@app.command()
@command
def convert(
    source: SourceArgument,
    output_dir: Annotated[Path, typer.Option("-o", "--output-dir", help="Folder to write to.")],
    to: Annotated[str, typer.Option(help="The format to write: jsonl.")] = "jsonl",
    task: TaskOption = None,
    mltable: Annotated[bool, typer.Option("--mltable", help="Also write MLTable folders.")] = False,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Coordinates are pixels: write fractions.")
    ] = False,
    target_column: TargetColumn = "label",
    image_column: ImageColumn = "image_url",
    group_column: GroupColumn = None,
    image_root: ImageRoot = None,
    map_: Maps = None,
    class_name: ClassName = DEFAULT_CLASS,
    coordinates: Coordinates = None,
    masks: Masks = None,
    as_json: AsJson = False,
) -> None:
    """Write data as clean JSON Lines; what cannot be used is listed in dropped.jsonl.

    autofocus data convert photos/ --to jsonl --task image_classification -o photos/
    """
    from autofocus.data.options import ReadOptions
    from autofocus.data.rows.records import RECORD_TYPES
    from autofocus.data.sources.convert import convert_to_jsonl
    from autofocus.data.sources.find import find_source

    if to != "jsonl":
        raise JobError(f"--to must be jsonl, got {to!r}.")
    columns = (target_column, image_column, image_root, map_, class_name, coordinates)
    options = read_options(*columns, group_column, masks)
    first = find_source(source, options, RECORD_TYPES.get(task or ""))
    name = _choose_task(task, first, options)
    if name is None:
        raise JobError(
            f"{source}: no row says what the task is; 'autofocus data check' says why. "
            f"Name it with --task: {_task_names()}."
        )
    written = convert_to_jsonl(
        source, RECORD_TYPES[name], options, output_dir, mltable, absolute, progress()
    )
    if as_json:
        emit_json(_written_document(name, written))
    else:
        # Written rows have the default columns and paths, so no flag is needed. Of several splits
        # the folder is named: training finds them all in it.
        source = str(written[0].path if len(written) == 1 else output_dir)
        # A group is the key of its name, whatever the column was.
        plain = ReadOptions(group_column=group_column and "group")
        _show_written(written, _next_command(name, source, plain))


def _choose_task(task: str | None, source: "Source", options: "ReadOptions") -> str | None:
    """Return the task that was named or that the rows fit, or None when they fit none.

    Raises:
        JobError: If the named task is unknown, or the rows fit several.
    """
    from autofocus.data.rows.records import RECORD_TYPES
    from autofocus.data.sources.find import infer_tasks

    if task is not None:
        if task not in RECORD_TYPES:
            raise JobError(f"--task must be one of {_task_names()}, got {task!r}.")
        return task
    fitting = infer_tasks(source, options)
    if len(fitting) > 1:
        raise JobError(
            f"{source.place}: the rows fit {', '.join(fitting)}. Say which is meant with --task."
        )
    return fitting[0] if fitting else None


def _task_names() -> str:
    from autofocus.data.rows.records import RECORD_TYPES

    return ", ".join(RECORD_TYPES)


@contextmanager
def _issues_file(folder: Path | None) -> Iterator[BinaryIO | None]:
    """Open `folder/issues.jsonl`, which appears only once it is complete."""
    if folder is None:
        yield None
        return
    from autofocus.runtime import whole_file

    with whole_file(folder / "issues.jsonl") as file:
        yield file


def _document(
    task: str | None, report: "SourceReport", reports: "dict[str, SourceReport]"
) -> dict[str, Any]:
    import msgspec

    return {
        "task": task,
        "num_rows": report.num_rows,
        "num_valid": report.num_valid,
        "splits": {
            split: {"num_rows": part.num_rows, "num_valid": part.num_valid}
            for split, part in reports.items()
        },
        "classes": report.classes,
        "groups": None
        if not report.groups
        else {"num_named": len(report.groups), "num_ungrouped": report.num_ungrouped},
        "counts": dict(report.issues.counts),
        "issues": msgspec.to_builtins(report.issues.examples()),
    }


def _written_document(task: str, written: "list[Written]") -> dict[str, Any]:
    return {
        "task": task,
        "files": {
            part.split: {
                "path": str(part.path),
                "num_rows": part.num_rows,
                "num_records": part.num_records,
                "counts": dict(part.issues.counts),
            }
            for part in written
        },
        "dropped": _dropped(written),
    }


def _dropped(written: "list[Written]") -> str | None:
    from autofocus.data.sources.convert import DROPPED_NAME

    path = written[0].path.parent / DROPPED_NAME
    return str(path) if path.exists() else None


def _show(report: "SourceReport", output_dir: Path | None, train: str) -> None:
    emit(f"{report.num_rows} rows, {report.num_valid} usable, {len(report.classes)} classes")
    if report.groups:
        emit(f"{len(report.groups)} groups, {report.num_ungrouped} rows of none")
    _show_classes(report.classes)
    log = report.issues
    if log.counts:
        emit()
        emit(f"{'severity':10}{'code':28}{'count':>9}")
        for code in log.codes():
            emit(f"{log.severities[code]:10}{code:28}{log.counts[code]:>9}")
        emit()
        _show_examples(report)
    emit()
    if output_dir is not None:
        emit(f"all issues: {output_dir / 'issues.jsonl'}")
    emit(_next_step(report, train))


def _show_classes(classes: dict[str, int]) -> None:
    frequent = sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    for name, num in frequent[:_MAX_CLASSES]:
        emit(f"{num:>9}  {name}")
    if len(frequent) > _MAX_CLASSES:
        emit(f"{'…':>9}  and {len(frequent) - _MAX_CLASSES} more; all of them with --json")


def _show_examples(report: "SourceReport") -> None:
    """Print the first few issues of each code, the most severe codes first."""
    log = report.issues
    examples = log.examples()
    few = [
        issue
        for code in log.codes()
        for issue in [example for example in examples if example.code == code][:_MAX_PER_CODE]
    ][:_MAX_ISSUES]
    for issue in few:
        emit(f"{issue.severity}: {issue.text()}")
    num_more = sum(log.counts.values()) - len(few)
    if num_more > 0:
        emit(f"… and {num_more} more; all of them with -o DIR")


def _next_command(task: str | None, source: str, options: "ReadOptions") -> str:
    """Return the command that goes on with the checked data, quoted for a shell."""
    words = ["autofocus", "train", "--task", task or "TASK", "--data", source]
    if options.class_name != DEFAULT_CLASS:
        words += ["--set", f"data.class_name={json.dumps(options.class_name)}"]
    if options.coordinates is not None:
        words += ["--set", f"data.coordinates={options.coordinates}"]
    if options.masks is not None:
        words += ["--set", f"data.masks={options.masks}"]
    if options.label_column != "label":
        words += ["--target-column", options.label_column]
    if options.image_column != "image_url":
        words += ["--image-column", options.image_column]
    if options.group_column is not None:
        words += ["--group-column", options.group_column]
    if options.image_root is not None:
        words += ["--image-root", str(options.image_root)]
    for prefix, directory in options.maps.items():
        words += ["--map", f"{prefix}={directory}"]
    return shlex.join(words)


def _next_step(report: "SourceReport", train: str) -> str:
    if not report.num_valid:
        return "nothing can be trained on yet: mend the errors above and check again"
    if report.issues.num_errors:
        return f"mend the errors, or go on without what cannot be used: {train}"
    return f"next: {train}"


def _show_written(written: "list[Written]", train: str) -> None:
    for part in written:
        emit(f"{part.path}: {part.num_records} images from {part.num_rows} rows")
    if dropped := _dropped(written):
        note(f"what was left out, and why: {dropped}")
    emit(f"next: {train}")
