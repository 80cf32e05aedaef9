"""Explain the classes of an image with a model folder's torch network.

Images are decoded and preprocessed as for scores. Imports torch: import this
module only once explanations are asked for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import resize_crop
from autofocus.data.images.decode import DEFAULT_MAX_PIXELS
from autofocus.errors import ModelFolderError
from autofocus.explain.algorithms import explain
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.explain.parameters import Parameters
from autofocus.explain.xrai import warm_up
from autofocus.manifest import Manifest, ResizeCrop, check_files, read_manifest
from autofocus.models.network import Classifier
from autofocus.pictures.maps import mapped_photo
from autofocus.runtime import keep_big_blocks
from autofocus.scoring.backends.torch import load_network
from autofocus.scoring.explain.explainer import Explanation, ModelExplainer, explanation_of
from autofocus.scoring.explain.needs import why_unavailable
from autofocus.scoring.explain.request import ClassSelector, ExplanationTarget
from autofocus.scoring.scorer import sample_of, task_of
from autofocus.tasks.explaining import ExplainsClasses

# Classes explained between two looks at the clock.
_BATCH: Final = 8
# Every kernel runs once. The memory of a full batch is left to the first request.
_WARM_UP: Final = Parameters(n_steps=2)


class ClassExplainer(ModelExplainer):
    """Explains classes with one network.

    Args:
        manifest: Description of the model.
        network: Torch network.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ModelFolderError: If the model's task has no classes to explain.
    """

    def __init__(
        self, manifest: Manifest, network: FrozenClassifier, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        task = task_of(manifest)
        if not isinstance(task, ExplainsClasses):
            raise ModelFolderError(f"explanations: {task.name} has no classes of whole images.")
        super().__init__(manifest, ClassSelector(task), max_pixels)
        self.task: ExplainsClasses = task
        self.network = network

    @classmethod
    def load(
        cls, folder: Path, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "ClassExplainer":
        """Load the network of a model folder and compile the loops of its explainers.

        See `explanations.load_explainer`; `num_threads` are those of torch in the whole process.

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

    def warm_up(self) -> None:
        """Explain noise once, so that the first request is not the slow one."""
        size = self.manifest.preprocess.size
        noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        explain(self.network, noise, [0], _WARM_UP)

    def explain(
        self,
        pixels: NDArray[np.uint8],
        targets: Sequence[ExplanationTarget],
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Explanation]:
        """See `ModelExplainer.explain`."""
        spec = self.manifest.preprocess
        assert isinstance(spec, ResizeCrop), "classifiers see a crop"
        image, frame = sample_of(pixels, spec)
        tensor = torch.from_numpy(image)
        photo = None
        if parameters.visualizations:
            photo = mapped_photo(pixels, resize_crop(pixels, spec), frame.region)
        explanations = []
        for start in range(0, len(targets), _BATCH):
            check()
            batch = targets[start : start + _BATCH]
            attributions = explain(
                self.network,
                tensor.expand(len(batch), -1, -1, -1),
                [target.class_index for target in batch],
                parameters,
            )
            explanations += [
                explanation_of(target, attribution, parameters, photo)
                for target, attribution in zip(batch, attributions, strict=True)
            ]
        return explanations
