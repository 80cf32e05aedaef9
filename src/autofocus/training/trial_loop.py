"""The loop of a trial: its loaders, its log, and the other processes that train with it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.tiles import evaluation_entries
from autofocus.manifest import MANIFEST_NAME, encode_manifest
from autofocus.models.base import LoadedWeights
from autofocus.models.network import Network
from autofocus.runtime import write_atomically
from autofocus.training import distributed
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.device import choose_device, make_accelerator
from autofocus.training.evaluate import EvaluationSet
from autofocus.training.loaders import evaluation_loader, shared_budgets, training_loader
from autofocus.training.loop import Trained, TrainingLoop
from autofocus.training.losses import OBJECTIVES, Objective
from autofocus.training.trial import RunContext, TrialSpec
from autofocus.training.trial_log import draw_curves, trial_facts, trial_log


@dataclass(frozen=True)
class Ranking:
    """How the epochs of a trial are evaluated and which is kept; see `TrainingLoop`.

    Attributes:
        score: Function from metrics to one number, larger is better.
        initial_is_valid: Whether the initial weights are a valid result.
        sample_losses: Function from predictions to a loss of each validation image; None keeps the
            best score.
        train_subset: Training images to evaluate beside validation; None evaluates none.
    """

    score: Callable[[dict[str, Any]], float]
    initial_is_valid: bool
    sample_losses: Callable[[list[Any]], Sequence[float]] | None = None
    train_subset: Samples | None = None


# From a trial, its training and its validation images; a function of a module, so that it pickles.
RankEpochs = Callable[[TrialSpec, Samples, Samples], Ranking]


@contextmanager
def running(
    spec: TrialSpec,
    network: Network,
    weights: LoadedWeights,
    samples: Samples,
    context: RunContext,
    device: torch.device,
    rank_epochs: RankEpochs,
) -> Iterator[TrainingLoop]:
    """Open the loop of a trial on all ranks, and keep its log, as long as this is entered.

    Args:
        spec: The trial.
        network: Initial network.
        weights: Its pretrained weights, for the log.
        samples: The run's images.
        context: Folder, deadline and callbacks.
        device: Device of training.
        rank_epochs: Makes the ranking of its epochs.
    """
    accelerator = make_accelerator(device)
    facts = trial_facts(
        weights,
        accelerator.device,
        accelerator.mixed_precision,
        context.deadline_s,
        samples.source,
        len(spec.train),
        len(spec.validation),
    )
    share = (spec, network, samples, context.on_worker(), rank_epochs)
    with (
        trial_log(context.folder, facts),
        distributed.on_all_ranks(train_share, *share),
        _open(spec, network, samples, context, rank_epochs, accelerator) as loop,
    ):
        yield loop


def train_share(
    spec: TrialSpec,
    network: Network,
    samples: Samples,
    context: RunContext,
    rank_epochs: RankEpochs,
) -> Trained:
    """Train with the process that is `running` the trial."""
    accelerator = make_accelerator(choose_device(spec.device))
    with _open(spec, network, samples, context, rank_epochs, accelerator) as loop:
        return loop.run()


@contextmanager
def _open(
    spec: TrialSpec,
    network: Network,
    samples: Samples,
    context: RunContext,
    rank_epochs: RankEpochs,
    accelerator: Accelerator,
) -> Iterator[TrainingLoop]:
    """Open the loaders of a trial, and the loop over them."""
    train, validation = spec.of(samples)
    ranking = rank_epochs(spec, train, validation)
    objective = OBJECTIVES[spec.task.name](spec.recipe, train.targets, network)
    caches = shared_budgets(len(train), len(validation), accelerator.num_processes)
    network.to(accelerator.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with (
        training_loader(
            train,
            objective,
            spec.preprocess,
            spec.recipe,
            spec.seed,
            caches[0],
            spec.tiling,
            rank=accelerator.process_index,
            num_ranks=accelerator.num_processes,
        ) as training,
        evaluation_set(spec, validation, objective, caches[1]) as measured,
        nullcontext()
        if ranking.train_subset is None
        else evaluation_set(spec, ranking.train_subset, objective, CacheBudget()) as subset,
    ):
        yield TrainingLoop(
            network=network,
            task=spec.task,
            objective=objective,
            recipe=spec.recipe,
            training=training,
            validation=measured,
            score=ranking.score,
            folder=context.folder,
            seed=spec.seed,
            accelerator=accelerator,
            deadline_s=context.deadline_s,
            should_stop=context.should_stop,
            on_epoch=context.on_epoch,
            track=context.track,
            train_subset=subset,
            initial_is_valid=ranking.initial_is_valid,
            sample_losses=ranking.sample_losses,
            primary_metric=spec.primary_metric,
        )


@contextmanager
def evaluation_set(
    spec: TrialSpec, samples: Samples, objective: Objective, cache: CacheBudget
) -> Iterator[EvaluationSet]:
    """Open images to evaluate on, as the packaged model takes them."""
    entries = evaluation_entries(len(samples), spec.tiling) if spec.tiling else []
    with evaluation_loader(
        samples, objective, spec.preprocess, spec.recipe, cache, entries
    ) as loader:
        yield EvaluationSet(loader, samples.targets, spec.labels, spec.settings, entries)


def write_result(spec: TrialSpec, candidate: Candidate, folder: Path) -> None:
    """Write curves and manifest into the trial's folder."""
    draw_curves(folder / "metrics.jsonl", folder / "curves.png", spec.primary_metric)
    write_atomically(folder / MANIFEST_NAME, encode_manifest(candidate.manifest))
