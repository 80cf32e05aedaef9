"""What a batch adds to an image's scores: explanations, and the network's features.

Imports no torch: its own constructors do, where a model needs it.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import InputError, RequestError
from autofocus.manifest import check_files
from autofocus.runtime import num_cores
from autofocus.scoring.explain.explanations import load_explainer
from autofocus.scoring.explain.needs import WEIGHTS_NAME, why_unavailable
from autofocus.scoring.explain.request import ExplainRow, checked_parameters, reply_values
from autofocus.scoring.scorer import Scorer, sample_of


class Explaining:
    """Adds the published `visualizations` and `attributions`.

    One image at a time: the network takes all cores for one.

    Args:
        folder: A model folder.
        scorer: Model of the same folder.
        algorithm: Published name of the algorithm.
        attributions: Whether the maps' numbers are added, beside pictures of them.

    Raises:
        InputError: If the algorithm is none for this model, or something it needs is missing.
    """

    def __init__(self, folder: Path, scorer: Scorer, algorithm: str, attributions: bool) -> None:
        if reason := why_unavailable(folder):
            raise InputError(f"{folder}: {reason}")
        self._explainer = load_explainer(folder, num_cores())
        self._labels = scorer.labels
        raw = {"xai_algorithm": algorithm, "attributions": attributions}
        try:
            self._parameters = checked_parameters(raw, self._explainer.selector, scorer.labels)
        except RequestError as error:
            # Checks name parameters as in a request, but the user gave a flag.
            problems = [
                text.replace("xai_parameters.xai_algorithm", "--explain") for text in error.problems
            ]
            raise InputError(problems) from error

    def __call__(
        self, position: int, name: str, pixels: NDArray[np.uint8], prediction: Any
    ) -> dict[str, Any]:
        """Return the keys of an image's explanations."""
        selector, parameters = self._explainer.selector, self._parameters
        targets = selector.select(self._labels, prediction, parameters)
        row = ExplainRow(position, b"", parameters, targets, selector.num_boxes(prediction))
        explanations = self._explainer.explain(pixels, targets, parameters)
        pngs = [explanation.png for explanation in explanations if explanation.png is not None]
        return reply_values(selector, row, pngs, [explanation.map for explanation in explanations])


class FeatureVectors:
    """Adds `feature_vector`, what a classifier's network sees before its head.

    Args:
        folder: A model folder.
        scorer: Model of the same folder.

    Raises:
        InputError: If the model finds objects, or torch or the weights are missing.
    """

    def __init__(self, folder: Path, scorer: Scorer) -> None:
        if scorer.task.finds_objects:
            raise InputError("--features: only models of whole images have one vector an image.")
        if missing := [
            name for name in ("torch", "timm", "safetensors") if find_spec(name) is None
        ]:
            raise InputError(
                f"--features needs {', '.join(missing)}, not installed here. Run pip install"
                " '.[train]' in the autofocus checkout."
            )
        if not (folder / WEIGHTS_NAME).is_file():
            raise InputError(
                f"--features needs the network's weights, and {folder} has no {WEIGHTS_NAME}. Copy"
                " the whole folder that 'autofocus train' wrote."
            )
        import torch

        from autofocus.models.network import Classifier
        from autofocus.scoring.backends.torch import load_network

        check_files(folder, scorer.manifest)
        # As many images at once as there are cores, so that each takes one.
        torch.set_num_threads(1)
        network = load_network(folder, scorer.manifest)
        assert isinstance(network, Classifier), "tasks of whole images have classifiers"
        self._network = network
        self._spec = scorer.manifest.preprocess

    def __call__(
        self, position: int, name: str, pixels: NDArray[np.uint8], prediction: Any
    ) -> dict[str, Any]:
        """Return `{"feature_vector": float32 [d]}`."""
        import torch

        tensor, _ = sample_of(pixels, self._spec)
        with torch.inference_mode():
            features = self._network.features(torch.from_numpy(tensor)[None])
        return {"feature_vector": features[0].numpy()}
