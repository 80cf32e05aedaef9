"""Explanations of images with a model folder.

Imports no torch: `load_explainer` does where a model needs it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from autofocus.data.images.decode import DEFAULT_MAX_PIXELS
from autofocus.errors import ImageError
from autofocus.explain.parameters import Parameters
from autofocus.manifest import read_manifest
from autofocus.scoring.explain.explainer import Explanation, ModelExplainer
from autofocus.scoring.explain.needs import needs_torch
from autofocus.scoring.scorer import Scorer


def load_explainer(
    folder: Path, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> ModelExplainer:
    """Load the explainer of a model folder.

    Args:
        folder: A model folder.
        num_threads: Threads of the network; None takes torch's own number, or all cores.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ModelFolderError: If anything in the folder is missing, damaged or does not fit, or a
            package that explanations need is not installed.
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
    """Yield the explanations of each image, or the error of an unreadable one, in order.

    Each image is decoded once, for its scores and its explanations.

    Args:
        scorer: Predicts the classes or boxes to explain.
        explainer: Explainer of the same model folder.
        images: Encoded files.
        parameters: Parameters for all of them.
    """
    for image in images:
        # One at a time: explaining takes a thousand times as long as scoring.
        pixels = image if isinstance(image, ImageError) else scorer.try_decode(image)
        if isinstance(pixels, ImageError):
            yield pixels
            continue
        prediction = scorer.predict(pixels)
        targets = explainer.selector.select(scorer.labels, prediction, parameters)
        yield explainer.explain(pixels, targets, parameters)
