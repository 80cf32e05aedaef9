"""The encoders that a classifier's AutoMode may use, and frozen heads on them."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.manifest import ResizeCrop
from autofocus.models.base import LoadedWeights
from autofocus.models.network import Classifier
from autofocus.models.weights.embedded import EMBEDDED
from autofocus.study.automode.priors import priors_of
from autofocus.study.default_model import WeightsAtHand
from autofocus.study.resolve import Plan, trial_plan
from autofocus.study.study import Study
from autofocus.study.trials.classifiers import ClassifierTrials, Looked
from autofocus.training.folds import Folds
from autofocus.training.probe import FoldedHead, fit_folded_head
from autofocus.training.probe_trial import build_network, encode, whole_image_task
from autofocus.training.trial import TrialSpec

# Encoders of the hub that are tried, the best expected: each may be hundreds of megabytes.
_MAX_DOWNLOADED: Final = 2


@dataclass(frozen=True)
class EncoderSource:
    """An encoder that can be had: its weights are here.

    Attributes:
        plan: Plan of trials with it.
        gmacs: Billions of multiply-adds an image; its cost beside that of others.
    """

    plan: Plan
    gmacs: float

    @property
    def name(self) -> str:
        """Name of the architecture, or of those side by side."""
        return "+".join(part.partition(".")[0] for part in self.plan.model.name.split("+"))


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder with heads on its features.

    Attributes:
        source: Where it is from.
        spec: Trial of its head.
        weights: Its weights.
        network: Network on the CPU, with a random head.
        rows: Features of all samples, float32 [n, v, d]: images, views, feature size.
        head: Heads of the folds and of all images.
        seconds: Seconds that features and heads took.
    """

    source: EncoderSource
    spec: TrialSpec
    weights: LoadedWeights
    network: Classifier
    rows: NDArray[np.float32]
    head: FoldedHead
    seconds: float

    @property
    def preprocess(self) -> ResizeCrop:
        """Preprocessing of its images."""
        assert isinstance(self.spec.preprocess, ResizeCrop), "classifiers see a crop"
        return self.spec.preprocess

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(tensor.numel() for tensor in self.network.parameters())

    def with_head(self, index: int = -1) -> Classifier:
        """Return a network with the head of a fold, the last for all images."""
        network, head = copy.deepcopy(self.network), self.head.heads[index]
        network.set_head(head.weight, head.bias)
        return network


def own_source(study: Study) -> EncoderSource:
    """Return the encoder of the plan: what the job names, or what comes with the install."""
    plan = study.plan
    return EncoderSource(plan, priors_of(plan.model.kind).gmacs_of(plan.model.name) or 1.0)


def other_sources(study: Study) -> list[EncoderSource]:
    """Return the other encoders that may be tried, best expected first.

    What the job names is the only one; weights of others must be here or be downloaded at once.
    """
    plan, priors = study.plan, priors_of(study.plan.model.kind)
    is_told = plan.user_named_model or plan.job.weights is not None
    if is_told or priors.gmacs_of(plan.model.name) is None:
        return []
    found, num_downloaded, at_hand = [], 0, WeightsAtHand(study.track)
    for row in priors.ranked(len(study.samples)):
        is_installed = row.name in EMBEDDED
        if row.name == plan.model.name or (num_downloaded == _MAX_DOWNLOADED and not is_installed):
            continue
        sides = {"validation_crop_size": row.side, "validation_resize_size": row.resize_side}
        sized = {name: side for name, side in sides.items() if side is not None}
        if sides.keys() & plan.parameters.keys():
            sized = {}
        other = trial_plan(plan, {"model_name": row.name, **sized})
        if at_hand.has(other.model):
            num_downloaded += not is_installed
            found.append(EncoderSource(other, row.gmacs))
    return found


def side_by_side(study: Study, both: tuple[Encoder, Encoder]) -> EncoderSource:
    """Return two encoders as one whose features are those of both."""
    first, second = (one.source for one in both)
    plan = trial_plan(
        study.plan, {"model_name": f"{first.plan.model.name}+{second.plan.model.name}"}
    )
    return EncoderSource(plan, first.gmacs + second.gmacs)


def probe(
    study: Study, source: EncoderSource, name: str, folds: Folds, members: Sequence[Encoder] = ()
) -> Encoder | None:
    """Fit heads on an encoder's features; return None if the time ended before the last image.

    Args:
        study: The run.
        source: The encoder.
        name: Id of its row.
        folds: Folds of the images.
        members: Encoders that it is side by side of; features that they have are not made again.
    """
    started_s, samples = time.monotonic(), study.samples
    context = study.context(name, study.deadline(study.packaging_s))
    spec = ClassifierTrials().spec(study, source.plan, name)
    if members and all(one.spec.preprocess == spec.preprocess for one in members):
        weights, _ = spec.prepare(study.track)
        network = build_network(spec, weights)
        rows = np.concatenate([one.rows for one in members], axis=2)
    else:
        weights, device = spec.prepare(study.track)
        network, features = encode(
            spec, weights, device, samples.locations, context, samples.hashes
        )
        if len(features.index) < len(samples):
            return None
        rows = features.rows
    return with_heads(study, Looked(spec, weights, network, rows), source, folds, started_s)


def with_heads(
    study: Study, looked: Looked, source: EncoderSource, folds: Folds, started_s: float
) -> Encoder:
    """Return an encoder with heads on the features of a study's images.

    Args:
        study: The run, with its images.
        looked: The encoder and its features.
        source: Where it is from.
        folds: Folds of the images.
        started_s: Time (`time.monotonic()`) at which the work on it began.
    """
    name, judged = looked.spec.id, folds.judged
    spec = ClassifierTrials().spec(study, source.plan, name, folds.fits[-1], judged)
    head = fit_folded_head(
        looked.rows,
        np.asarray(study.samples.targets),
        folds,
        kind=whole_image_task(spec).activation,
        num_classes=len(study.labels),
        seed=study.seed,
        deadline_s=study.deadline(study.packaging_s),
    )
    losses = {f"C={c:g}": loss for c, loss in head.search.items()}
    study.folder.decide("probe", trial=spec.id, c=head.c, out_of_fold_log_loss=losses)
    seconds = time.monotonic() - started_s
    return Encoder(
        source, spec, looked.weights, looked.network, looked.rows, head, round(seconds, 3)
    )
