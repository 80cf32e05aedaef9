"""`autofocus evaluate`: every metric of a model on labelled data."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from autofocus.cli.output import AsJson, command, emit, emit_json, note, progress
from autofocus.cli.picture_files import DrawingFolder
from autofocus.cli.reading import ImageColumn, ImageRoot, Maps, TargetColumn, read_options

Split = Literal["test", "validation", "train"]


@command
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder or run folder.")],
    data: Annotated[str, typer.Option(help="JSONL, MLTable folder or image folder.")],
    split: Annotated[
        Split | None,
        typer.Option(help="Of data with splits (default: test, else validation, else all)."),
    ] = None,
    target_column: TargetColumn = "label",
    image_column: ImageColumn = "image_url",
    image_root: ImageRoot = None,
    map_: Maps = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Write each image into this folder: what was found, missed and wrong.",
            metavar="DIR",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score labelled data and print the published metrics."""
    from autofocus.data.sources.find import part_to_measure
    from autofocus.data.sources.read import read_data
    from autofocus.manifest import read_manifest
    from autofocus.scoring.evaluate import evaluate_model
    from autofocus.scoring.model_path import resolve_model
    from autofocus.scoring.scorer import task_of

    folder = resolve_model(model)
    options = read_options(target_column, image_column, image_root, map_)
    track = progress()
    part = part_to_measure(data, options, split)
    if part.split:
        note(f"measuring on {part}")
    rows = read_data(part.source, task_of(read_manifest(folder)).record_type, options, track)
    drawings = DrawingFolder(draw, rows.locations) if draw else None
    result = evaluate_model(folder, rows, track, _drawing(drawings, rows) if drawings else None)
    if drawings:
        drawings.report()
    if as_json:
        emit_json({**result, "data": part.source, "split": part.split})
    else:
        _show(result)


def _drawing(drawings: DrawingFolder, rows: Any) -> Any:
    """Return what draws each image as it is evaluated."""
    from autofocus.pictures.boxes import draw_evaluated

    def observe(scorer: Any, index: int, image: bytes, prediction: Any) -> None:
        picture = draw_evaluated(
            scorer.task,
            scorer.manifest.settings,
            scorer.labels,
            rows.records[index],
            scorer.try_decode(image),
            prediction,
        )
        drawings.write(rows.locations[index], picture)

    return observe


def _show(result: dict[str, Any]) -> None:
    from autofocus.metrics.thresholds import threshold_line

    emit(f"{result['num_images']} images")
    for name, value in result["metrics"].items():
        if value is None or isinstance(value, int | float):
            emit(f"{name:40} {'undefined' if value is None else f'{value:.4f}'}")
    for fitted in result["thresholds"]:
        emit(threshold_line(fitted))
