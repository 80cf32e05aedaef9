"""Attributions, and the interface of every algorithm.

Imports no torch: boxes are explained without.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - k: classes
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.explain.parameters import Parameters
from autofocus.structures.frames import Frame

if TYPE_CHECKING:
    from torch import Tensor

    from autofocus.explain.frozen import FrozenClassifier

# The attributed number: the class's logit, its share of the softmax over all logits, or the
# resemblance of the best candidate to a box.
Output = Literal["logit", "softmax", "resemblance"]

# positive: the sum of the positive channels; channels against the class count as nothing.
# size: the sum of absolute values. A gradient's sign says which way a colour would have to change,
#     not whether the pixel matters.
# value: the map has one value a pixel already.
Ranking = Literal["positive", "size", "value"]


@dataclass(frozen=True)
class Attribution:
    """Evidence for one class in each value of one input image.

    Attributes:
        map: Signed, float32 [3, h, w]; [1, h, w] of a box.
        algorithm: Published name of the algorithm.
        target: Index of the explained class.
        output: The number whose change is attributed.
        ranking: Rule by which the channels become one value a pixel.
        metadata: Facts about this map by the algorithm; see docs/reference/explanations.md.
    """

    map: NDArray[np.float32]
    algorithm: str
    target: int
    output: Output
    ranking: Ranking
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def saliency(self) -> NDArray[np.float32]:
        """Return one value a pixel by which pixels are ranked and drawn, float32 [h, w]."""
        if self.ranking == "positive":
            merged: NDArray[np.float32] = self.map.clip(min=0).sum(axis=0)
        elif self.ranking == "size":
            merged = np.abs(self.map).sum(axis=0)
        else:
            merged = self.map.max(axis=0)
        return merged


# Images [n, 3, h, w] in; `boxes` [n, c, 4] in fractions of the canvas, `scores` and `classes`
# [n, c] of c candidates an image out.
Detect = Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class FoundBoxes:
    """Boxes to explain.

    Attributes:
        xyxy_frac: float32 [t, 4], in fractions of the image.
        classes: int64 [t].
    """

    xyxy_frac: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: Any) -> "FoundBoxes":
        """Return some of the boxes."""
        return FoundBoxes(self.xyxy_frac[rows], self.classes[rows])


class AttributionMethod(Protocol):
    """An algorithm that explains classes; holds no state between calls."""

    name: ClassVar[str]

    def attribute(
        self,
        network: "FrozenClassifier",
        images: "Tensor",
        targets: Sequence[int],
        parameters: Parameters,
    ) -> list[Attribution]:
        """Explain one class of each image.

        Args:
            network: A network from `frozen.freeze`.
            images: Normalised as the network expects, float32 [n, 3, h, w].
            targets: Class index of each image.
            parameters: Parameters; those of other algorithms have no effect.

        Returns:
            One attribution an image, in order.

        Raises:
            InputError: If the images do not fit the network, or the algorithm cannot explain it.
        """


class BoxMethod(Protocol):
    """An algorithm that explains found boxes; holds no state between calls."""

    name: ClassVar[str]

    def attribute(
        self,
        detect: Detect,
        canvas: NDArray[np.float32],
        part: tuple[int, int],
        frame: Frame,
        boxes: FoundBoxes,
        parameters: Parameters,
        check: Callable[[], None],
    ) -> list[Attribution]:
        """Explain boxes that were found on one canvas.

        Args:
            detect: Runs the network.
            canvas: Input of the network, float32 [3, h, w].
            part: (height, width) of the part of the canvas that is image, from the upper left.
            frame: Position of the canvas in the image.
            boxes: Found boxes.
            parameters: Parameters; those of other algorithms have no effect.
            check: Called before each batch; may raise to stop.

        Returns:
            One attribution a box, in order; maps are [1, h, w] of `part`.
        """
