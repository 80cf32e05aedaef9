"""Explain the classes of an image with a model folder's torch network.

The image takes the same way from bytes to network input as for scores. Imports torch: whoever
answers requests imports this module when one asks for explanations.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from autofocus.data.images import DEFAULT_MAX_PIXELS
from autofocus.errors import ImageError, InputError, ModelFolderError, RequestError
from autofocus.explain.base import Attribution
from autofocus.explain.explainers import explain
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.explain.parameters import Parameters, parse_parameters
from autofocus.explain.visualize import Caption, method_text, shown_pixels, visualize
from autofocus.explain.xrai import warm_up
from autofocus.manifest import Manifest, ResizeCrop, check_files, read_manifest
from autofocus.models.timm_classifiers import Classifier
from autofocus.runtime import keep_big_blocks
from autofocus.scoring.backends.torch import load_network
from autofocus.scoring.explain_needs import why_unavailable
from autofocus.scoring.explain_request import (
    ExplainedClass,
    ExplainRow,
    check_target,
    choose_classes,
    reply_columns,
)
from autofocus.scoring.scorer import Scorer, prepare, task_of
from autofocus.tasks.explaining import ExplainsClasses

# Classes explained between two looks at the clock.
_BATCH: Final = 8


@dataclass(frozen=True)
class Explanation:
    """Why an image was given one class.

    Attributes:
        label: The class.
        probability: Of that class, as scored.
        attribution: Its `map`, float32 [3, crop, crop], and what the algorithm says about it.
        png: A picture of it; None where none was asked for.
    """

    label: str
    probability: float
    attribution: Attribution
    png: bytes | None

    @property
    def map(self) -> NDArray[np.float32]:
        """How much each value of the network's input speaks for the class, [3, crop, crop]."""
        return self.attribution.map


class Explainer:
    """Explains images with one network.

    Args:
        manifest: What the model is.
        network: Its network.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ModelFolderError: If the model's task has nothing to explain.
    """

    def __init__(
        self, manifest: Manifest, network: FrozenClassifier, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        task = task_of(manifest)
        if not isinstance(task, ExplainsClasses):
            raise ModelFolderError(f"explanations: {task.name} has scores only, no explanations.")
        self.manifest = manifest
        self.task: ExplainsClasses = task
        self.network = network
        self._max_pixels = max_pixels

    @classmethod
    def load(
        cls, folder: Path, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "Explainer":
        """Load the network of a model folder and compile what runs only once compiled.

        Args:
            folder: A model folder.
            num_threads: Threads of torch, in the whole process; None leaves them as they are.
            max_pixels: Larger images are refused before they are decoded.

        Raises:
            ModelFolderError: If anything in the folder is missing, damaged or does not fit.
        """
        if reason := why_unavailable(folder):
            raise ModelFolderError(f"{folder}: {reason}")
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        keep_big_blocks()
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        network = load_network(folder, manifest)
        assert isinstance(network, Classifier), "only classes are explained by a network"
        explainer = cls(manifest, freeze(network), max_pixels)
        warm_up()
        return explainer

    def prepared(self, image: bytes) -> NDArray[np.float32]:
        """Return the network's input, float32 [3, crop, crop].

        Raises:
            ImageError: If the image does not decode.
        """
        return prepare(image, self.manifest.preprocess, self._max_pixels)[0]

    def explain(
        self,
        image: bytes,
        classes: Sequence[ExplainedClass],
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Explanation]:
        """Return one explanation a class, in order.

        Args:
            image: The encoded file.
            classes: What to explain.
            parameters: How.
            check: Called now and then; may raise to stop.

        Raises:
            InputError: If the algorithm cannot explain this network.
        """
        pixels = self.prepared(image)
        tensor = torch.from_numpy(pixels)
        spec = self.manifest.preprocess
        assert isinstance(spec, ResizeCrop), "classifiers see a crop"
        photo = shown_pixels(pixels, spec)
        found = []
        for start in range(0, len(classes), _BATCH):
            check()
            batch = classes[start : start + _BATCH]
            attributions = explain(
                self.network,
                tensor.expand(len(batch), -1, -1, -1),
                [chosen.index for chosen in batch],
                parameters,
            )
            for chosen, attribution in zip(batch, attributions, strict=True):
                png = _png(photo, chosen, attribution, parameters)
                found.append(Explanation(chosen.label, chosen.probability, attribution, png))
        return found

    def answer(self, row: ExplainRow, check: Callable[[], None] = lambda: None) -> dict[str, bytes]:
        """Return the JSON of each key that the row's explanations add to its reply.

        Raises:
            RequestError: If the algorithm cannot explain this network; names the row.
        """
        try:
            explained = self.explain(row.image, row.classes, row.parameters, check)
        except RequestError:
            raise
        except InputError as error:
            raise RequestError(f"input_data.data[{row.place}]: {error}") from error
        pngs = [explanation.png for explanation in explained if explanation.png is not None]
        maps = [explanation.map for explanation in explained]
        columns = reply_columns(self.task, row.parameters, pngs, maps)
        return {
            key: orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
            for key, value in columns.items()
        }


def explain_images(
    scorer: Scorer,
    explainer: Explainer,
    images: Iterable[bytes | ImageError],
    parameters: Parameters,
) -> Iterator[list[Explanation] | ImageError]:
    """Yield the explanations of each image, or why it cannot be read, in order.

    Args:
        scorer: Gives the probabilities, and with them the classes to explain.
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
        classes = choose_classes(explainer.task, scorer.labels, prediction, parameters)
        yield explainer.explain(image, classes, parameters)


def checked_parameters(explainer: Explainer, raw: dict[str, Any]) -> Parameters:
    """Return the published parameters, checked against the model.

    Raises:
        RequestError: If a key is unknown or a value not allowed; names what is.
    """
    parameters = parse_parameters(raw, explainer.task.activation)
    check_target(parameters.target, explainer.manifest.labels)
    return parameters


def _png(
    photo: NDArray[np.uint8],
    chosen: ExplainedClass,
    attribution: Attribution,
    parameters: Parameters,
) -> bytes | None:
    if not parameters.visualizations:
        return None
    caption = Caption(chosen.label, chosen.probability, method_text(attribution, parameters))
    return visualize(photo, attribution.saliency(), caption, parameters.visualization_style)
