"""The explainer of one model: classes by their torch network, boxes by any backend. No torch here.

Implementations: `classes.ClassExplainer`, `boxes.BoxExplainer`; `explanations` loads the right one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from autofocus.data.images.decode import decode
from autofocus.errors import InputError, RequestError
from autofocus.explain.algorithms import caption_of
from autofocus.explain.base import Attribution
from autofocus.explain.parameters import Parameters
from autofocus.manifest import Manifest
from autofocus.pictures.maps import Caption, MappedPhoto, visualize
from autofocus.scoring.explain.request import (
    ExplainRow,
    ExplanationTarget,
    TargetSelector,
    reply_values,
)


@dataclass(frozen=True)
class Explanation:
    """Explanation of one class of an image, or of one box.

    Attributes:
        target: The class or box.
        attribution: The `map`, and facts about it by the algorithm.
        png: Picture of the map; None where none was asked for.
    """

    target: ExplanationTarget
    attribution: Attribution
    png: bytes | None

    @property
    def label(self) -> str:
        """The class."""
        return self.target.label

    @property
    def probability(self) -> float:
        """Probability of that class, as scored; of a box its score."""
        return self.target.probability

    @property
    def xyxy_frac(self) -> tuple[float, float, float, float] | None:
        """The box, in fractions of the image; None for a class of the whole."""
        return self.target.xyxy_frac

    @property
    def map(self) -> NDArray[np.float32]:
        """Values that speak for it: [3, crop, crop] of the network's input, of a box [1, h, w]."""
        return self.attribution.map


class ModelExplainer(ABC):
    """Explains images with one model.

    Args:
        manifest: Description of the model.
        selector: Selects the classes or boxes to explain.
        max_pixels: Larger images are refused before they are decoded.
    """

    def __init__(self, manifest: Manifest, selector: TargetSelector, max_pixels: int) -> None:
        self.manifest = manifest
        self.selector = selector
        self._max_pixels = max_pixels

    @abstractmethod
    def explain(
        self,
        pixels: NDArray[np.uint8],
        targets: Sequence[ExplanationTarget],
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Explanation]:
        """Return one explanation a class or box, in order.

        Args:
            pixels: The decoded image, RGB [h, w, 3].
            targets: Classes or boxes to explain.
            parameters: Parameters of the explanations.
            check: Called now and then; may raise to stop.

        Raises:
            InputError: If the algorithm cannot explain this network.
        """

    @abstractmethod
    def warm_up(self) -> None:
        """Run once, so that the first request is not the slow one."""

    def answer(self, row: ExplainRow, check: Callable[[], None] = lambda: None) -> dict[str, bytes]:
        """Return the JSON of each key that the row's explanations add to its reply.

        Raises:
            RequestError: If the algorithm cannot explain this network; names the row.
        """
        try:
            pixels = decode(row.image, self._max_pixels, self.manifest.preprocess.sample_bits)
            explanations = self.explain(pixels, row.targets, row.parameters, check)
        except RequestError:
            raise
        except InputError as error:
            raise RequestError(f"input_data.data[{row.index}]: {error}") from error
        pngs = [explanation.png for explanation in explanations if explanation.png is not None]
        maps = [explanation.map for explanation in explanations]
        values = reply_values(self.selector, row, pngs, maps)
        return {
            key: orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
            for key, value in values.items()
        }


def explanation_of(
    target: ExplanationTarget,
    attribution: Attribution,
    parameters: Parameters,
    photo: MappedPhoto | None,
) -> Explanation:
    """Return an explanation, with a picture where there is a photo to draw it on."""
    png = None
    if photo is not None:
        method = caption_of(attribution, parameters)
        caption = Caption(target.label, target.probability, method, target.xyxy_frac)
        png = visualize(photo, attribution.saliency(), caption, parameters.visualization_style)
    return Explanation(target, attribution, png)
