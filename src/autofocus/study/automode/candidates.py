"""The candidates of a classifier's AutoMode, judged on the same images and chosen by one rule.

No network has learnt from the images that judge it, and no temperature was fitted on them. A
difference between two candidates is believed as far as it is certain (`selection.choose`).
"""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autofocus.data.splits import kfold_indices
from autofocus.manifest import Calibration, DataInfo, Manifest
from autofocus.metrics.calibration import cross_fitted_temperature
from autofocus.models.network import Classifier
from autofocus.structures.frames import Frame
from autofocus.study.automode.encoders import Encoder
from autofocus.study.best_model import Score
from autofocus.study.study import Study
from autofocus.training.candidate import NUM_CHECK_IMAGES, Candidate, OutOfFold
from autofocus.training.folds import Folds
from autofocus.training.intervals import metric_intervals
from autofocus.training.probe import HEADS
from autofocus.training.probe_trial import whole_image_task
from autofocus.training.selection import Gain, Scored, choose

log = logging.getLogger(__name__)

# Draws of the bootstrap behind the intervals of metrics.
_NUM_DRAWS: Final = 500


@dataclass(frozen=True)
class Judged:
    """A candidate on the images that judge.

    Attributes:
        id: Id of its row on the leaderboard.
        encoder: Its encoder: preprocessing, weights, model.
        raw: Logits of the images that judge, from networks that had not seen them, [m, k].
        logits: The same, each divided by a temperature of other images.
        losses: Loss of each image, [m].
        temperature: Temperature to serve with.
        build: Makes the network to serve, without the temperature.
        size: Number of its parameters.
        parameters: What tells it from others of its row.
    """

    id: str
    encoder: Encoder
    raw: NDArray[np.float64]
    logits: NDArray[np.float64]
    losses: NDArray[np.float64]
    temperature: float
    build: Callable[[], Classifier]
    size: int
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Name of its model."""
        return self.encoder.weights.spec.name


class Contest:
    """All candidates of a run so far.

    Args:
        study: The run, with its images.
        folds: Folds that every candidate is judged on.

    Attributes:
        best: The best candidate; there is one from the first `add` on.
        served: The one that is published.
    """

    best: Judged
    served: Judged

    def __init__(self, study: Study, folds: Folds) -> None:
        self.study = study
        self.folds = folds
        self.encoders: list[Encoder] = []
        self.candidates: list[Judged] = []
        chosen = study.samples.chosen(folds.judged)
        self.targets = np.asarray(chosen.targets)
        self.groups: Sequence[Hashable] = chosen.groups
        labels = [study.plan.task.record_labels(record) for record in chosen.records]
        part_of = folds.part_of
        # Halves of the one part there is find each other's temperature.
        self._temperature_folds = (
            [np.flatnonzero(part_of == part) for part in range(len(folds.parts))]
            if len(folds.parts) > 1
            else kfold_indices(labels, self.groups, 2, study.seed)
        )

    def judge(
        self,
        name: str,
        encoder: Encoder,
        raw: NDArray[np.float64],
        build: Callable[[], Classifier],
        parameters: Mapping[str, Any],
    ) -> Judged:
        """Return a candidate.

        Args:
            name: Id of its row.
            encoder: Its encoder.
            raw: Logits of the images that judge, from networks that had not seen them, [m, k].
            build: Makes the network to serve.
            parameters: What tells it from others of its row.
        """
        fit = HEADS[whole_image_task(encoder.spec).activation].temperature
        temperature, logits = cross_fitted_temperature(
            raw, self.targets, self._temperature_folds, fit
        )
        predictions = _predictions(encoder, logits)
        losses = whole_image_task(encoder.spec).sample_losses(predictions, self.targets)
        return Judged(
            name, encoder, raw, logits, losses, temperature, build, encoder.num_params, parameters
        )

    def add(self, found: Sequence[Judged]) -> None:
        """Add candidates, and choose the best of all."""
        self.candidates += found
        index, gains = self._choose(self.candidates)
        self.best = best = self.candidates[index]
        self.study.folder.decide(
            "champion",
            champion=best.id,
            parameters=best.parameters,
            num_images=len(self.targets),
            gains=[
                {"trial": one.id, **one.parameters, **vars(gain)}
                for one, gain in zip(self.candidates, gains, strict=True)
            ],
        )

    def best_of(self, found: Sequence[Judged]) -> tuple[Judged, Gain]:
        """Return the best of some candidates, and its gain over the first of all."""
        _, gains = self._choose([self.candidates[0], *found])
        best = max(range(len(found)), key=lambda i: gains[1 + i].shrunk)
        return found[best], gains[1 + best]

    def _choose(self, candidates: Sequence[Judged]) -> tuple[int, list[Gain]]:
        return choose([Scored(one.losses, one.size) for one in candidates], self.groups)

    def metrics(self, one: Judged) -> dict[str, Any]:
        """Return every metric of a candidate on the images that judge."""
        predictions = _predictions(one.encoder, one.logits)
        return self.study.plan.task.evaluate(predictions, self.targets, self.study.labels, {})

    def to_serve(self, one: Judged) -> tuple[Score, Candidate]:
        """Return the score of a candidate, and its network with the temperature in it."""
        study, encoder, metrics = self.study, one.encoder, self.metrics(one)
        predictions, network = _predictions(encoder, one.logits), one.build()
        network.set_head(network.head.weight / one.temperature, network.head.bias / one.temperature)
        num_given = 0 if self.folds.everything is not None else len(self.folds.judged)
        manifest = Manifest(
            task=study.plan.task.name,
            labels=list(study.labels),
            model_name=encoder.weights.spec.name,
            preprocess=encoder.spec.preprocess,
            weights=encoder.weights.info,
            data=DataInfo(encoder.spec.data_fingerprint, len(study.samples) - num_given, num_given),
            calibration=Calibration(one.temperature, self.metrics_of, len(self.targets)),
            metrics=metrics,
            metrics_of=self.metrics_of,
            intervals=metric_intervals(
                study.plan.task,
                predictions,
                self.targets,
                study.labels,
                self.groups,
                seed=study.seed,
                num_draws=_NUM_DRAWS,
            ),
        )
        judged = OutOfFold(predictions, self.targets, self.groups)
        checked = [study.samples.locations[i] for i in self.folds.judged[:NUM_CHECK_IMAGES]]
        return (
            Score(one.id, metrics[study.metric], one.losses),
            Candidate(network.eval(), manifest, checked, judged),
        )

    @property
    def metrics_of(self) -> str:
        """Images that judge: `validation` or `cross-validation`."""
        return "validation" if len(self.folds.parts) == 1 else "cross-validation"


def _predictions(encoder: Encoder, logits: NDArray[np.float64]) -> list[Any]:
    """Return the predictions of images from their logits, [m, k]."""
    frames = [Frame(encoder.spec.preprocess.size)] * len(logits)
    outputs = {"logits": logits.astype(np.float32)}
    return whole_image_task(encoder.spec).postprocess(outputs, frames, {})
