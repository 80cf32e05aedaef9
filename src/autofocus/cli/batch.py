"""`autofocus batch`: score any number of images into one file, and go on after a kill."""

import glob
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autofocus.cli.output import AsJson, command, emit, emit_json, note, progress
from autofocus.cli.picture_files import file_name, write_jpeg
from autofocus.cli.reading import ImageColumn, ImageRoot, Maps, read_options
from autofocus.errors import InputError

if TYPE_CHECKING:
    from autofocus.batch.deployment import Deployment
    from autofocus.scoring.scorer import Scorer

Format = Literal["jsonl", "csv", "parquet"]
_FORMATS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet"}


@command
def batch(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, patterns, JSONL, MLTable, lists (.txt), URLs, object stores.",
            metavar="SOURCE…",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write (default: predictions.jsonl)."),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Default: as the end of --output says, else jsonl."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(help="Add explanations by this algorithm, such as xrai.", metavar="ALGORITHM"),
    ] = None,
    attributions: Annotated[
        bool, typer.Option("--attributions", help="With --explain: the numbers too.")
    ] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Add the network's feature_vector.")
    ] = False,
    draw: Annotated[
        Path | None,
        typer.Option(help="Write each image with what was found into this folder.", metavar="DIR"),
    ] = None,
    deployment: Annotated[
        Path | None,
        typer.Option(help="YAML of a batch deployment, as published; flags win.", metavar="YAML"),
    ] = None,
    mini_batch_size: Annotated[
        int | None, typer.Option(help="Images that a thread takes at once (default: 1).", min=1)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Images scored at once (default: all cores).", min=1)
    ] = None,
    error_threshold: Annotated[
        int | None,
        typer.Option(help="Images that may fail; -1, the default: any number.", min=-1),
    ] = None,
    image_column: ImageColumn = "image_url",
    image_root: ImageRoot = None,
    map_: Maps = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew where there is an output.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score SOURCEs with MODEL into one file, a line an image, in the order given.

    An image that cannot be read is a line with its error; exit status 2 when none could.
    The file appears once it is complete. After a stop or a kill the same command goes on.
    """
    from autofocus.batch.answers import MINI_BATCH, RETRIES
    from autofocus.batch.run import BatchOptions, run_batch

    said = _deployment(deployment)
    path = output or Path(said.output_file_name or "predictions.jsonl")
    # The published name is predictions.csv, and what is in it are lines of JSON.
    by_name = _FORMATS.get(path.suffix.lower(), "jsonl") if output else "jsonl"
    options = BatchOptions(
        form=form or by_name,
        explain=explain,
        attributions=attributions,
        features=features,
        drawings=None if draw is None else str(draw),
        mini_batch_size=mini_batch_size or said.mini_batch_size or MINI_BATCH,
        workers=workers or said.workers,
        error_threshold=said.error_threshold if error_threshold is None else error_threshold,
        retries=RETRIES if said.retries is None else said.retries,
        overwrite=overwrite,
        read=read_options("label", image_column, image_root, map_),
    )
    summary = run_batch(model, sources, path, options, progress(), _drawing(draw, sources))
    if as_json:
        emit_json(summary)
    else:
        _show(summary)
    if summary["num_failed"] == summary["num_images"]:
        raise typer.Exit(InputError.exit_status)


def _deployment(path: Path | None) -> "Deployment":
    from autofocus.batch.deployment import Deployment, read_deployment

    if path is None:
        return Deployment()
    said = read_deployment(path)
    if said.unused:
        note(f"{path}: not used here: {', '.join(said.unused)}")
    return said


def _drawing(folder: Path | None, sources: list[str]) -> "Callable[[Scorer], _Drawing] | None":
    """Return what makes the drawer of a loaded model.

    Raises:
        InputError: If drawings would become images to score when the command goes on.
    """
    if folder is None:
        return None
    inside = folder.resolve()
    for source in sources:
        if "://" in source:
            continue
        start = Path(source)
        while glob.has_magic(str(start)):
            start = start.parent
        start = (start if start.is_dir() else start.parent).resolve()
        below = Path(source).is_dir() or glob.has_magic(source)
        if inside == start or (below and inside.is_relative_to(start)):
            raise InputError(
                f"--draw {folder}: lies in {source}, whose images are scored. Choose another folder"
                " for the drawings."
            )
    return partial(_Drawing, folder)


class _Drawing:
    """Draws what was found on each image into a folder, named by position and name."""

    def __init__(self, folder: Path, scorer: "Scorer") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._labels = scorer.labels

    def __call__(self, position: int, name: str, pixels: Any, prediction: Any) -> dict[str, Any]:
        from autofocus.pictures.boxes import draw

        stem = file_name(Path(name).stem)
        picture = draw(pixels, prediction, self._labels)
        write_jpeg(self._folder / f"{position:07}-{stem}.jpg", picture)
        return {}


def _show(summary: dict[str, Any]) -> None:
    num_new = summary["num_images"] - summary["num_before"]
    rate = f", {summary['images_per_second']:.0f}/s" if num_new else ""
    before = f", {summary['num_before']:,} of them before" if summary["num_before"] else ""
    emit(f"{summary['output']}: {summary['num_images']:,} images{before}{rate}")
    if summary["num_failed"]:
        note(f"{summary['num_failed']:,} of {summary['num_images']:,} images could not be read")
