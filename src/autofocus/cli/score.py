"""`autofocus score`: score image files and print what the endpoint would reply."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.output import command, emit, line_progress, note, writing_stdout
from autofocus.cli.picture_files import DrawingFolder
from autofocus.errors import InputError

# Images held at once; also the network's batch.
_BATCH = 16
# Results kept in memory; more go to a temporary file.
_HELD_BYTES = 64 << 20


@command
def score(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    images: Annotated[
        list[str], typer.Argument(help="Image files, folders or patterns.", metavar="IMAGE…")
    ],
    draw: Annotated[
        Path | None,
        typer.Option(help="Write each image with what was found into this folder.", metavar="DIR"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write exactly the endpoint's JSON array.")
    ] = False,
) -> None:
    """Score images with MODEL, in the order given; folders and patterns sorted by name.

    A file that cannot be read keeps its place with an error. Exit status 2 when none could.
    """
    from autofocus.runtime import num_cores
    from autofocus.scoring.image_paths import expand_images
    from autofocus.scoring.model_path import resolve_model
    from autofocus.scoring.scorer import Scorer

    folder = resolve_model(model)
    paths = expand_images(images)
    drawings = DrawingFolder(draw, paths) if draw else None
    scorer = Scorer.load(folder, num_threads=num_cores())
    results = line_progress()(_score_files(scorer, paths, drawings), "Scoring", len(paths))
    num_failed = (
        _write_json(results) if as_json else _write_lines(paths, results, scorer.task.summarize)
    )
    if num_failed:
        note(f"{num_failed} of {len(paths)} images could not be read")
    if drawings:
        drawings.report()
    if num_failed == len(paths):
        raise typer.Exit(InputError.exit_status)


def _score_files(
    scorer: Any, paths: list[Path], drawings: DrawingFolder | None
) -> Iterator[dict[str, Any]]:
    from autofocus.scoring.image_paths import read_image
    from autofocus.scoring.request import in_place

    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        images = [read_image(path) for path in batch]
        predictions = in_place(images, scorer.try_predict)
        results = scorer.encode(predictions)
        for path, image, prediction, result in zip(
            batch, images, predictions, results, strict=True
        ):
            if drawings and isinstance(image, bytes) and "error" not in result:
                _draw(drawings, path, scorer.try_decode(image), prediction, scorer.labels)
            yield result


def _draw(
    drawings: DrawingFolder, path: Path, pixels: Any, prediction: Any, labels: list[str]
) -> None:
    from autofocus.pictures.boxes import draw

    drawings.write(path, draw(pixels, prediction, labels))


def _write_json(results: Iterable[dict[str, Any]]) -> int:
    """Write one JSON array once it is complete; return the number of errors."""
    import orjson

    num_failed = 0
    separator = b"["
    # After a failure halfway, stdout must hold only the document that reports it.
    with tempfile.SpooledTemporaryFile(_HELD_BYTES) as whole:
        for result in results:
            whole.write(separator + orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY))
            separator = b","
            num_failed += "error" in result
        whole.write(b"]\n")
        whole.seek(0)
        with writing_stdout():
            shutil.copyfileobj(whole, sys.stdout.buffer)
    return num_failed


def _write_lines(
    paths: list[Path],
    results: Iterable[dict[str, Any]],
    summarize: Callable[[dict[str, Any]], str],
) -> int:
    num_failed = 0
    for path, result in zip(paths, results, strict=True):
        failed = "error" in result
        num_failed += failed
        text = f"error: {result['error']['message']}" if failed else summarize(result)
        emit(f"{path}: {text}")
    return num_failed
