"""Explanations of images with a model folder: classes by their torch network, boxes by any backend.

Imports no torch: `load_explainer` does where a model needs it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from autofocus.data.images.decode import DEFAULT_MAX_PIXELS
from autofocus.errors import ImageError, InputError, RequestError
from autofocus.explain.base import Attribution
from autofocus.explain.parameters import Parameters, parse_parameters
from autofocus.manifest import Manifest, read_manifest
from autofocus.scoring.explain.needs import needs_torch
from autofocus.scoring.explain.request import (
    Explained,
    ExplainedTargets,
    ExplainRow,
    check_target,
    reply_columns,
)
from autofocus.scoring.scorer import Scorer


@dataclass(frozen=True)
class Explanation:
    """Why an image was given one class, or what a detector needs to see to find one box.

    Attributes:
        explained: The class or box.
        attribution: Its `map`, and what the algorithm says about it.
        png: A picture of it; None where none was asked for.
    """

    explained: Explained
    attribution: Attribution
    png: bytes | None

    @property
    def label(self) -> str:
        """The class."""
        return self.explained.label

    @property
    def probability(self) -> float:
        """Of that class, as scored; of a box its score."""
        return self.explained.probability

    @property
    def xyxy_frac(self) -> tuple[float, float, float, float] | None:
        """The box, in fractions of the image; None where a class of the whole is explained."""
        return self.explained.xyxy_frac

    @property
    def map(self) -> NDArray[np.float32]:
        """What speaks for it: [3, crop, crop] of the network's input, of a box [1, h, w]."""
        return self.attribution.map


class ModelExplainer(ABC):
    """Explains images with one model.

    Args:
        manifest: What the model is.
        choice: What of its predictions is explained.
    """

    def __init__(self, manifest: Manifest, choice: ExplainedTargets) -> None:
        self.manifest = manifest
        self.choice = choice

    @abstractmethod
    def explain(
        self,
        image: bytes,
        explained: Sequence[Explained],
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Explanation]:
        """Return one explanation a class or box, in order.

        Args:
            image: The encoded file.
            explained: What to explain.
            parameters: How.
            check: Called now and then; may raise to stop.

        Raises:
            InputError: If the algorithm cannot explain this network.
        """

    @abstractmethod
    def warm_up(self) -> None:
        """Do once what would make the first request slow."""

    def answer(self, row: ExplainRow, check: Callable[[], None] = lambda: None) -> dict[str, bytes]:
        """Return the JSON of each key that the row's explanations add to its reply.

        Raises:
            RequestError: If the algorithm cannot explain this network; names the row.
        """
        try:
            found = self.explain(row.image, row.explained, row.parameters, check)
        except RequestError:
            raise
        except InputError as error:
            raise RequestError(f"input_data.data[{row.place}]: {error}") from error
        pngs = [explanation.png for explanation in found if explanation.png is not None]
        maps = [explanation.map for explanation in found]
        columns = reply_columns(self.choice, row, pngs, maps)
        return {
            key: orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
            for key, value in columns.items()
        }


def load_explainer(
    folder: Path, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> ModelExplainer:
    """Load what explains the model of a folder.

    Args:
        folder: A model folder.
        num_threads: Threads of the network; None takes torch's own number, or all cores.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ModelFolderError: If anything in the folder is missing, damaged or does not fit, or what
            explains it is not installed.
    """
    if needs_torch(read_manifest(folder)):
        from autofocus.scoring.explain.classes import ClassExplainer

        return ClassExplainer.load(folder, num_threads, max_pixels)
    from autofocus.scoring.explain.boxes import BoxExplainer

    return BoxExplainer.load(folder, num_threads, max_pixels)


def explain_images(
    scorer: Scorer,
    explainer: ModelExplainer,
    images: Iterable[bytes | ImageError],
    parameters: Parameters,
) -> Iterator[list[Explanation] | ImageError]:
    """Yield the explanations of each image, or why it cannot be read, in order.

    Args:
        scorer: Gives the predictions, and with them what to explain.
        explainer: Of the same model folder.
        images: Encoded files.
        parameters: For all of them.
    """
    for image in images:
        # One at a time: explaining takes a thousand times as long as scoring.
        prediction = image if isinstance(image, ImageError) else scorer.try_predict([image])[0]
        if isinstance(image, ImageError) or isinstance(prediction, ImageError):
            yield prediction
            continue
        chosen = explainer.choice.choose(scorer.labels, prediction, parameters)
        yield explainer.explain(image, chosen, parameters)


def checked_parameters(explainer: ModelExplainer, raw: Mapping[str, Any]) -> Parameters:
    """Return the published parameters, checked against the model.

    Raises:
        RequestError: If a key is unknown or a value not allowed; names what is.
    """
    parameters = parse_parameters(raw, explainer.choice.kind)
    check_target(parameters.target, explainer.manifest.labels)
    return parameters
