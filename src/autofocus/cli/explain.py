"""`autofocus explain`: saliency maps of classes and boxes as pictures, and their quality."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from autofocus.cli.flags import with_flags
from autofocus.cli.output import AsJson, command, emit, emit_json, line_progress, note, progress
from autofocus.cli.picture_files import FileNames, file_name
from autofocus.cli.reading import ImageColumn, ImageRoot, Maps, TargetColumn, read_options
from autofocus.errors import ImageError, InputError
from autofocus.explain.algorithms import ALGORITHMS, names_of
from autofocus.explain.parameters import XAI_PARAMETERS, Parameters

if TYPE_CHECKING:
    from autofocus.data.options import ReadOptions

# Flag, as a Python name -> parameter of requests.
_FLAGS: Final = {
    "target": "target",
    "style": "visualization_style",
    "n_steps": "n_steps",
    "threshold": "confidence_score_threshold_multilabel",
    "num_masks": "num_masks",
    "grid": "grid",
    "max_boxes": "max_boxes",
    "seed": "seed",
}
_HOW: Final = XAI_PARAMETERS["xai_algorithm"]
# Names of other distributions come with them, and are not looked for only to print help.
_ALGORITHM: Final = typer.Option(
    help=f"{_HOW.help} (default: {_HOW.default_words}): {', '.join(ALGORITHMS)}."
)


@command
@with_flags(_FLAGS, XAI_PARAMETERS, Parameters())
def explain(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    images: Annotated[
        list[str] | None, typer.Argument(help="Image files, folders or patterns.", metavar="IMAGE…")
    ] = None,
    algorithm: Annotated[str | None, _ALGORITHM] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path(
        "explanations"
    ),
    npy: Annotated[
        bool, typer.Option("--npy", help="Write the numbers too, float32 (channels, h, w).")
    ] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure all algorithms on --data instead.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="With --evaluate: JSONL, MLTable folder or image folder.")
    ] = None,
    max_images: Annotated[
        int, typer.Option(help="With --evaluate: photos drawn from the data.", min=1)
    ] = 20,
    target_column: TargetColumn = "label",
    image_column: ImageColumn = "image_url",
    image_root: ImageRoot = None,
    map_: Maps = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Explain image files with MODEL; writes a picture a class or box into the output folder.

    With --evaluate: insertion and deletion areas of every algorithm, beside a random map and a
    centred Gaussian, and how much of a map stays when the weights are shuffled. Where the data has
    boxes or outlines, also how often the highest value lies on the object.
    """
    from autofocus.scoring.model_path import resolve_model

    _check_algorithm(algorithm)
    folder = resolve_model(model)
    _check_mode(evaluate, data, images)
    _require(folder, model)
    given = {"xai_algorithm": algorithm, **{_FLAGS[flag]: flags[flag] for flag in flags}}
    parameters = {name: value for name, value in given.items() if value is not None}
    try:
        if evaluate:
            assert data is not None
            options = read_options(target_column, image_column, image_root, map_)
            _print_quality(_evaluate(folder, data, max_images, options, parameters), as_json)
            return
        failed = _report(_explain(folder, images or [], parameters, output, npy), output, as_json)
    except InputError as error:
        # Checks name parameters as in a request, but the user gave flags.
        raise InputError([_as_flags(problem) for problem in error.problems]) from error
    if failed:
        raise typer.Exit(InputError.exit_status)


def _check_algorithm(name: str | None) -> None:
    known = (*names_of("classes"), *names_of("boxes"))
    if name is not None and name not in known:
        raise InputError(f"--algorithm must be one of {', '.join(known)}, got '{name}'.")


def _check_mode(evaluate: bool, data: str | None, images: list[str] | None) -> None:
    if evaluate and (data is None or images):
        raise InputError(
            "--evaluate measures on data and takes no images:"
            " autofocus explain --evaluate MODEL --data annotations.jsonl"
        )
    if not evaluate and data is not None:
        raise InputError("--data belongs to --evaluate; give image files, folders or patterns.")
    if not evaluate and not images:
        raise InputError("no images given: autofocus explain MODEL photo.jpg")


def _require(folder: Path, model: Path) -> None:
    from autofocus.scoring.explain.needs import why_unavailable

    if reason := why_unavailable(folder):
        raise InputError(f"{model}: {reason}")


def _explain(
    folder: Path, images: list[str], raw: dict[str, Any], output: Path, npy: bool
) -> Iterator[dict[str, Any]]:
    """Explain images and yield the row of each as its files are written."""
    from autofocus.runtime import num_cores
    from autofocus.scoring.explain.explanations import explain_images, load_explainer
    from autofocus.scoring.explain.request import checked_parameters
    from autofocus.scoring.image_paths import expand_images, read_image
    from autofocus.scoring.scorer import Scorer

    paths = expand_images(images)
    explainer = load_explainer(folder)
    parameters = checked_parameters(raw, explainer.selector, explainer.manifest.labels)
    note(
        f"Explaining {len(paths)} image{'s' if len(paths) != 1 else ''} by"
        f" {parameters.xai_algorithm} into {output}/"
    )
    scorer = Scorer.load(folder, num_threads=num_cores())
    output.mkdir(parents=True, exist_ok=True)
    explained = explain_images(scorer, explainer, map(read_image, paths), parameters)
    track = line_progress()
    stems, parts = FileNames(), FileNames()
    pairs = zip(paths, track(explained, "Explaining", len(paths)), strict=True)
    return (
        _written(path, output / stems.give(file_name(path.stem)), found, npy, parts)
        for path, found in pairs
    )


def _written(path: Path, stem: Path, found: Any, npy: bool, names: FileNames) -> dict[str, Any]:
    """Write one image's files; return its row."""
    from autofocus.scoring.request import error_object
    from autofocus.tasks.responses import CORNERS

    if isinstance(found, ImageError):
        return {"image": str(path), **error_object(found)}
    rows = []
    for explanation in found:
        base = names.give(f"{stem.name}.{_part_name(explanation.target)}")
        row = {
            "label": explanation.label,
            "probability": explanation.probability,
            "png": str(stem.with_name(f"{base}.png")),
            "metadata": dict(explanation.attribution.metadata),
        }
        if explanation.xyxy_frac is not None:
            row["box"] = dict(zip(CORNERS, explanation.xyxy_frac, strict=True))
        Path(row["png"]).write_bytes(explanation.png)
        if npy:
            import numpy as np

            row["npy"] = str(stem.with_name(f"{base}.npy"))
            np.save(row["npy"], explanation.map)
        rows.append(row)
    return {"image": str(path), "explanations": rows}


def _report(found: Iterable[dict[str, Any]], output: Path, as_json: bool) -> bool:
    """Print the written files; return whether no image could be read."""
    images = []
    num_failed = 0
    for image in found:
        images.append(image)
        num_failed += "error" in image
        if not as_json:
            for line in _lines(image):
                emit(line)
    if as_json:
        emit_json({"output": str(output), "images": images})
    if num_failed:
        note(f"{num_failed} of {len(images)} images could not be read")
    return num_failed == len(images)


def _lines(image: dict[str, Any]) -> list[str]:
    if "error" in image:
        return [f"{image['image']}: error: {image['error']['message']}"]
    if not image["explanations"]:
        return [
            f"{image['image']}: nothing to explain: no class is probable enough,"
            " or no such box is found"
        ]
    return [
        f"{image['image']}: {row['label']} {row['probability']:.3f}  {row['png']}"
        for row in image["explanations"]
    ]


def _part_name(target: Any) -> str:
    """Return the class, preceded by the box's position in the reply where there is a box."""
    label = file_name(target.label).replace(" ", "_")
    return label if target.xyxy_frac is None else f"{target.box_index:02d}-{label}"


def _as_flags(problem: str) -> str:
    for flag, name in (("algorithm", "xai_algorithm"), *_FLAGS.items()):
        problem = problem.replace(f"xai_parameters.{name}", f"--{flag.replace('_', '-')}")
    return problem


def _evaluate(
    folder: Path, data: str, max_images: int, options: "ReadOptions", raw: dict[str, Any]
) -> dict[str, Any]:
    from autofocus.data.sources.find import part_to_measure
    from autofocus.explain.parameters import parse_parameters
    from autofocus.manifest import read_manifest
    from autofocus.scoring.explain.measuring import Measuring
    from autofocus.scoring.explain.quality import measure_explanations, read_photos
    from autofocus.scoring.explain.request import selector_of
    from autofocus.scoring.scorer import task_of

    selector = selector_of(task_of(read_manifest(folder)))
    assert selector is not None, "every task has one"
    parameters = parse_parameters(raw, names_of(selector.explains))
    track = progress()
    part = part_to_measure(data, options)
    rows = read_photos(folder, part.source, options, track)
    number = min(max_images, len(rows.records))
    note(f"Measuring explanations on {number} of {len(rows.records)} images of {part}")
    measuring = Measuring(parameters, max_images, parameters.seed)
    return measure_explanations(folder, rows, measuring, track)


# Column -> its meaning.
_MEASURES: Final = {
    "insertion": "insertion: higher is better",
    "deletion": "deletion: lower is better",
    "pointing": "pointing: share of maps whose highest value lies on the object",
    "randomised": "shuffled: near 0 is better",
    "half_agreement": "halves: correlation of the maps of both halves of the masks; low: add masks",
}
_HEADINGS: Final = {"randomised": "shuffled", "half_agreement": "halves"}


def _print_quality(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(result)
        return
    emit(f"{result['num_images']} images, {result['num_explanations']} explanations")
    rows = result["algorithms"]
    columns = [key for key in _MEASURES if any(row.get(key) is not None for row in rows.values())]
    emit(f"{'':22}" + "".join(f"{_HEADINGS.get(key, key):>16}" for key in columns))
    for name, row in rows.items():
        emit(f"{name:22}" + "".join(f"{_measured(row, key):>16}" for key in columns))
    for name, reason in result["refused"].items():
        emit(f"{name:22}{reason}")
    emit("; ".join(_MEASURES[key] for key in columns))


def _measured(row: dict[str, Any], key: str) -> str:
    if row.get(key) is None:
        return "–"
    error = row.get(f"{key}_error")
    return f"{row[key]:.2f}" if error is None else f"{row[key]:.3f} ± {error:.3f}"
