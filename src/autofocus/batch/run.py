"""The story of a batch: what there is, what is done already, the rest of it, and the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from autofocus.batch.answers import (
    MINI_BATCH,
    NUM_READERS,
    NUM_REMOTE_READERS,
    RETRIES,
    Answers,
    Extra,
    Numbered,
)
from autofocus.batch.entries import Entry, read_entries
from autofocus.batch.extras import Explaining, FeatureVectors
from autofocus.batch.output import BatchOutput, Survey
from autofocus.batch.stream import Cores, in_order, pieces
from autofocus.batch.table import Format, converter
from autofocus.data.images.fetch import without_query
from autofocus.data.options import ReadOptions
from autofocus.errors import AutofocusError, InputError, StoppedError
from autofocus.manifest import MANIFEST_NAME, file_sha256
from autofocus.runtime import StopRequest, Track, no_progress, num_cores
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.scorer import Scorer


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch.

    Attributes:
        form: Format of the output.
        explain: Algorithm of explanations; None for none.
        attributions: Whether the numbers of explanations are added beside pictures.
        features: Whether feature vectors are added.
        drawings: Folder of the drawings, as the output's description names it; None for none.
        mini_batch_size: Images that a thread takes at once.
        workers: Images that are scored at once; None for the number of cores.
        error_threshold: Images that may fail; -1 for any number.
        retries: How often a store that cannot be reached is asked again.
        overwrite: Whether to start anew where there is an output.
        read: Column of the image in rows, where relative ones start, and maps.
    """

    form: Format = "jsonl"
    explain: str | None = None
    attributions: bool = False
    features: bool = False
    drawings: str | None = None
    mini_batch_size: int = MINI_BATCH
    workers: int | None = None
    error_threshold: int = -1
    retries: int = RETRIES
    overwrite: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)


def run_batch(
    model: Path,
    sources: Sequence[str],
    output: Path,
    options: BatchOptions,
    track: Track = no_progress,
    draw: Callable[[Scorer], Extra] | None = None,
) -> dict[str, Any]:
    """Score all images of the sources into one file; goes on where a killed batch ended.

    Args:
        model: Model folder or run folder.
        sources: See `entries`.
        output: The output, which appears once it is complete.
        options: Options.
        track: Progress display.
        draw: Makes what draws each image, of the loaded model; None where nothing is drawn.

    Returns:
        `{"output", "format", "model", "num_images", "num_failed", "num_before", "seconds",
        "images_per_second"}`; `num_before` are those that an earlier command had scored.

    Raises:
        InputError: If the model, a source or an option is wrong, or the output is another's.
        StoppedError: After Ctrl-C; the output can be gone on with.
        AutofocusError: If more images failed than may.
    """
    started_s = time.monotonic()
    if options.explain and options.form != "jsonl":
        raise InputError(
            "--explain writes pictures and maps, for which --format must be jsonl, got "
            f"{options.form}."
        )
    folder = resolve_model(model)
    identity = _identity(folder, sources, options)
    with StopRequest() as stop, BatchOutput(output, identity, options.overwrite) as out:
        survey = _survey(sources, options, track, stop)
        if (complete := out.summary(survey)) is not None:
            return _summary(output, folder, options, **complete, started_s=started_s)
        scorer = Scorer.load(folder, accelerate=True)
        table = (scorer.labels, scorer.task.finds_objects, options.features)
        convert = converter(options.form, *table)
        extras = [*_extras(folder, scorer, options), *([draw(scorer)] if draw else [])]
        cores = Cores(_num_at_once(scorer, options))
        answers = Answers(scorer, extras, cores, options.retries)
        seen = Survey()
        entries = seen.counted(read_entries(sources, options.read))
        tally = _Tally(survey.num_images, *out.resume(entries))
        tally.check(options.error_threshold)
        num_before = tally.num_done
        written = _written(out, answers, entries, tally, options, stop, survey.num_remote > 0)
        before = f" (after {num_before:,})" if num_before else ""
        for _ in track(written, f"Scoring{before}", survey.num_images - num_before):
            tally.check(options.error_threshold)
        if stop() and tally.num_done < tally.num_images:
            raise _stopped(output, tally, options)
        counts = {"num_images": tally.num_done, "num_failed": tally.num_failed}
        out.finish(seen, counts, convert)
    return _summary(output, folder, options, **counts, num_before=num_before, started_s=started_s)


@dataclass
class _Tally:
    """Images of a batch so far, and those among them that could not be read."""

    num_images: int
    num_done: int
    num_failed: int

    def check(self, error_threshold: int) -> None:
        """Check that no more images failed than may.

        Raises:
            AutofocusError: If they did.
        """
        if 0 <= error_threshold < self.num_failed:
            raise AutofocusError(
                f"{self.num_failed:,} of the first {self.num_done:,} images could not be read, and"
                f" --error-threshold allows {error_threshold:,}. Their lines say why; the same"
                " command with a higher one goes on."
            )


def _identity(folder: Path, sources: Sequence[str], options: BatchOptions) -> dict[str, Any]:
    """Return what an output is of; other options change its speed only."""
    read = options.read
    return {
        "MODEL": f"{folder} ({file_sha256(folder / MANIFEST_NAME)[:16]})",
        # A query is often a signature: it opens the store, and the next command has another.
        "SOURCE": [without_query(source) for source in sources],
        "--format": options.form,
        "--explain": options.explain,
        "--attributions": options.attributions,
        "--features": options.features,
        "--draw": options.drawings,
        "--image-column": read.image_column,
        "--image-root": None if read.image_root is None else str(read.image_root),
        "--map": [f"{prefix}={without_query(place)}" for prefix, place in read.maps.items()],
    }


def _num_at_once(scorer: Scorer, options: BatchOptions) -> int:
    """Return how many images are decoded and scored at once."""
    if options.explain:
        return 1  # which takes all cores by itself
    # Those that an accelerator works on, or that wait to join its next batch, take no core.
    return options.workers or num_cores() + scorer.num_joined - 1


def _survey(
    sources: Sequence[str], options: BatchOptions, track: Track, stop: Callable[[], bool]
) -> Survey:
    survey = Survey()
    for _ in track(survey.counted(read_entries(sources, options.read)), "Looking for images"):
        if stop():
            raise StoppedError("stopped before the first image; nothing was written")
    return survey


def _extras(folder: Path, scorer: Scorer, options: BatchOptions) -> Iterator[Extra]:
    if options.features:
        yield FeatureVectors(folder, scorer)
    if options.explain:
        yield Explaining(folder, scorer, options.explain, options.attributions)


def _written(
    out: BatchOutput,
    answers: Answers,
    entries: Iterator[Entry],
    tally: _Tally,
    options: BatchOptions,
    stop: Callable[[], bool],
    is_remote: bool,
) -> Iterator[None]:
    """Score the entries and write their lines; yield once an image that is written."""

    def lines_of(piece: list[Numbered]) -> list[tuple[bytes, bool]]:
        named = zip(piece, answers(piece), strict=True)
        return [(_line(item.name, result), "error" in result) for item, result in named]

    numbered = (
        Numbered(position, entry.name, entry.place)
        for position, entry in enumerate(entries, tally.num_done)
    )
    num_threads = answers.cores.number + (NUM_REMOTE_READERS if is_remote else NUM_READERS)
    todo = pieces(numbered, options.mini_batch_size)
    with closing(in_order(lines_of, todo, num_threads)) as done:
        for lines in done:
            out.write(line for line, _ in lines)
            tally.num_done += len(lines)
            tally.num_failed += sum(failed for _, failed in lines)
            yield from (None for _ in lines)
            if stop():
                return


def _line(name: str, result: dict[str, Any]) -> bytes:
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps({"filename": name, **result}, option=options)


def _summary(
    output: Path,
    folder: Path,
    options: BatchOptions,
    *,
    num_images: int,
    num_failed: int,
    started_s: float,
    num_before: int | None = None,
) -> dict[str, Any]:
    """Return the document of a batch; `num_before` is None where all was there already."""
    seconds = time.monotonic() - started_s
    before = num_images if num_before is None else num_before
    return {
        "output": str(output),
        "format": options.form,
        "model": str(folder),
        "num_images": num_images,
        "num_failed": num_failed,
        "num_before": before,
        "seconds": seconds,
        "images_per_second": (num_images - before) / seconds,
    }


def _stopped(output: Path, tally: _Tally, options: BatchOptions) -> StoppedError:
    without = ", without --overwrite," if options.overwrite else ""
    return StoppedError(
        f"stopped after {tally.num_done:,} of {tally.num_images:,} images. The same command"
        f"{without} goes on from there; {output} appears once it is complete."
    )
