"""autofocus from Python: `train` and `load`. The commands of `cli/` are thin layers over these."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autofocus.errors import ImageError, InputError, JobError
from autofocus.runtime import Track, no_progress, plain
from autofocus.scoring.model_path import resolve_model
from autofocus.scoring.scorer import Scorer
from autofocus.settings.job_file import override, read_document

if TYPE_CHECKING:
    from autofocus.scoring.explain.explainer import Explanation, ModelExplainer

# Short names for what most jobs set -> the job's keys.
SHORT_KEYS = {
    "data": "training_data",
    "model": "training_parameters.model_name",
    "max_latency": "limits.max_latency",
    "max_size": "limits.max_size",
    "min_precision": "thresholds.min_precision",
    "min_recall": "thresholds.min_recall",
    "target_column": "target_column_name",
    "image_column": "image_column_name",
    "group_column": "data.group_column",
}


def train(
    job: str | Path | Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    set_: Iterable[str] = (),
    started_s: float | None = None,
    track: Track = no_progress,
    on_folder: Callable[[Path], None] | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """Train and return the result document of `train --json`.

        autofocus.train(task="image_classification", data="annotations.jsonl", budget="5m")

    Args:
        job: Job YAML, or its content.
        overwrite: Whether to start anew in a folder that holds another job's run.
        set_: Assignments such as `limits.max_trials=3`, as `--set`.
        started_s: Start of the budget, by `time.monotonic()`; None: now.
        track: Progress display.
        on_folder: Called with the run folder once it is this run's; None: nobody asks.
        **keys: Keys of the job, or the short names of `SHORT_KEYS`, such as `data` for
            `training_data`. They win over `job`.

    Raises:
        InputError: If the job, the data or the run folder is wrong; names every problem.
    """
    from autofocus.study.run import run

    document = _document(job, set_, keys)
    return run(document, overwrite=overwrite, started_s=started_s, track=track, on_folder=on_folder)


def plan(
    job: str | Path | Mapping[str, Any] | None = None,
    *,
    set_: Iterable[str] = (),
    track: Track = no_progress,
    **keys: Any,
) -> dict[str, Any]:
    """Check a job and its data as `train` would and return its plan: `train --dry-run --json`.

    Nothing is written and nothing is trained.

    Args:
        job: Job YAML, or its content.
        set_: Assignments, as in `train`.
        track: Progress display.
        **keys: Keys of the job, as in `train`.

    Raises:
        InputError: If the job or the data is wrong; names every problem.
    """
    from autofocus.study.dry_run import describe

    return describe(_document(job, set_, keys), track)


def load(model: str | Path) -> "Model":
    """Load the model of a model folder or run folder.

    Raises:
        ModelFolderError: If there is no model, or it is damaged.
    """
    folder = resolve_model(model)
    return Model(folder, Scorer.load(folder))


class Model:
    """A loaded model.

    Attributes:
        labels: Class names in the order of `probs`.
        manifest: Description of the model.
    """

    def __init__(self, folder: Path, scorer: Scorer) -> None:
        self._folder = folder
        self._scorer = scorer
        self._explainer: ModelExplainer | None = None
        self.labels = scorer.labels
        self.manifest = scorer.manifest

    def score(self, images: Iterable[bytes | str | Path]) -> list[dict[str, Any]]:
        """Return one published wire object an image, in order.

        Args:
            images: Encoded image files: their bytes or paths.

        Raises:
            InputError: If `images` is one image instead of a list.
            OSError: If a file cannot be read.
        """
        objects: list[dict[str, Any]] = plain(self._scorer.score(_contents(images)))
        return objects

    def batch(self, images: Iterable[bytes | str | Path]) -> Iterator[dict[str, Any]]:
        """Yield one published wire object an image, in order, scored on all cores.

            for path, found in zip(paths, model.batch(paths)):
                print(path, found.get("error") or found["probs"])

        Images are taken as results are, so that there may be more of them than memory holds. One
        that cannot be read keeps its place as `{"error": {"code", "message"}}`.

        Args:
            images: Encoded image files: their bytes, paths or URLs.

        Raises:
            InputError: If `images` is one image instead of a list.
        """
        from autofocus.batch.answers import score_images

        return score_images(self._scorer, _several(images))

    def explain(
        self, images: Iterable[bytes | str | Path], **parameters: Any
    ) -> list[list["Explanation"]]:
        """Return the explanations of each image, in order; one a class, or one a box.

            for explanation in model.explain(["a.jpg"], xai_algorithm="guided_gradcam")[0]:
                Path(f"{explanation.label}.png").write_bytes(explanation.png)

        Targets are the most probable class, for multi-label models every class that is probable
        enough, or the `target`; for detectors each box, or those of the `target`.
        Classes need torch, boxes do not. The network is loaded at the first call.

        Args:
            images: Encoded image files: their bytes or paths.
            **parameters: The endpoint's `xai_parameters`; see docs/reference/explanations.md.

        Raises:
            InputError: If a parameter is unknown or a value not allowed, an image does not decode,
                or the model cannot be explained.
        """
        from autofocus.scoring.explain.explanations import explain_images, load_explainer
        from autofocus.scoring.explain.request import checked_parameters

        if self._explainer is None:
            self._explainer = load_explainer(self._folder)
        checked = checked_parameters(parameters, self._explainer.selector, self.labels)
        explained = []
        found = explain_images(self._scorer, self._explainer, _contents(images), checked)
        for position, item in enumerate(found):
            if isinstance(item, ImageError):
                raise ImageError(item.code, f"images[{position}]: {item.message}")
            explained.append(item)
        return explained


def _several(images: Iterable[bytes | str | Path]) -> Iterable[bytes | str | Path]:
    # The letters of a name, and the numbers in a file, are iterable too.
    if isinstance(images, bytes | str | Path):
        raise InputError(
            "images must be a list of files or of their bytes, got one: write [image]."
        )
    return images


def _contents(images: Iterable[bytes | str | Path]) -> list[bytes]:
    some = _several(images)
    return [image if isinstance(image, bytes) else Path(image).read_bytes() for image in some]


def _document(
    job: str | Path | Mapping[str, Any] | None, set_: Iterable[str], keys: Mapping[str, Any]
) -> dict[str, Any]:
    document = read_document(Path(job)) if isinstance(job, str | Path) else dict(job or {})
    return override(_with_keys(document, keys), list(set_))


def _with_keys(document: dict[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    document = dict(document)
    given = {SHORT_KEYS.get(name, name): v for name, v in keys.items() if v is not None}
    # Parts of a key come last: what is given of the whole key beside them holds too.
    for name in sorted(given, key=lambda name: "." in name):
        part, dot, key = name.rpartition(".")
        if not dot:
            document[key] = given[name]
            continue
        whole = document.get(part) or {}
        if not isinstance(whole, Mapping):
            raise JobError(f"{part}: must be a mapping of names to values.")
        document[part] = {**whole, key: given[name]}
    return document
