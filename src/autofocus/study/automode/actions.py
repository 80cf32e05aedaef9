"""What a classifier's AutoMode can do next: a frozen head, a trained tail, two networks as one.

Each action says what it may gain and costs, and makes candidates that were judged on the same
images. What a training leaves is in the folder of its trial: after a kill only the rest is done.
"""

import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.models.network import Classifier
from autofocus.runtime import num_cores
from autofocus.study.automode.candidates import Contest, Judged
from autofocus.study.automode.encoders import Encoder, EncoderSource, probe
from autofocus.training.activations import Activations, activation_view_s, compute_activations
from autofocus.training.averaging import interpolate
from autofocus.training.checkpoint import load_checkpoint, save_checkpoint
from autofocus.training.classifier_trial import logits_name, train_from_head
from autofocus.training.device import choose_device
from autofocus.training.recipe import Recipe
from autofocus.training.tail import (
    fit_all,
    fit_tail,
    mixed_tail,
    num_steps,
    step_s,
    tail_logits,
    tail_recipe,
)
from autofocus.training.trial import RunContext

T = TypeVar("T")
# What a fit leaves: logits of the images that it judges, and weights if it is the one to serve.
Fitted = dict[str, torch.Tensor]

# Folder of a run with the activations of frozen layers, while it lasts.
ACTIVATIONS: Final = "activations"

# Shares of the trained weights in the mean with those that training began with (WiSE-FT).
TRAINED_SHARES: Final = (0.25, 0.5, 1.0)
# Views of an image whose activations are kept, and the most of them in all: many images are views
# enough, and of very many a part is.
_NUM_VIEWS: Final = 8
_MAX_VIEWS: Final = 16_000
# What a view of tail training costs (forward, backward and step of the layers behind the cut), in
# forward passes of its frozen encoder, and how many times as much from the next earlier cut (1.4 to
# 1.8 were measured). Where the first tail was measured, that holds for the others.
_TAIL_PASSES: Final = 0.7
_EARLIER_CUT: Final = 1.7


class Action(Protocol):
    """Something that AutoMode can do next."""

    @property
    def id(self) -> str:
        """Id of its row on the leaderboard."""

    @property
    def model(self) -> str:
        """Name of its model."""

    @property
    def gain(self) -> float:
        """Expected gain, as a share of the loss of the first candidate."""

    @property
    def num_epochs(self) -> int:
        """Epochs of its training; 0 without one."""

    @property
    def kind(self) -> str:
        """Kind of action; the measured cost of one corrects what the next is expected to cost."""

    @property
    def shorter(self) -> "Action | None":
        """What is done where there is no time for it; None for nothing."""

    def passes(self, contest: Contest) -> float:
        """Return its cost in forward passes of the first encoder."""

    def run(self, contest: Contest, context: RunContext) -> list[Judged]:
        """Return its candidates; none if the time ended or the user stopped."""


@dataclass(frozen=True)
class Head:
    """A logistic head on the frozen features of an encoder, or of two side by side."""

    source: EncoderSource
    gain: float
    members: tuple[Encoder, ...] = ()
    num_epochs: int = 0
    kind: str = "head"
    shorter: None = None

    @property
    def id(self) -> str:
        """Id of its row."""
        return f"head-{self.source.name}"

    @property
    def model(self) -> str:
        """Name of its model."""
        return self.source.plan.model.name

    def passes(self, contest: Contest) -> float:
        """See `Action.passes`."""
        num_views: int = contest.encoders[0].rows.shape[1]
        # What is side by side shares the features of its members.
        share = 0.1 if self.members else 1.0
        ratio = self.source.gmacs / contest.encoders[0].source.gmacs
        return share * ratio * num_views

    def run(self, contest: Contest, context: RunContext) -> list[Judged]:
        """See `Action.run`."""
        encoder = probe(contest.study, self.source, self.id, contest.folds, self.members)
        if encoder is None:
            return []
        contest.encoders.append(encoder)
        return [frozen_head(contest, encoder)]


def frozen_head(contest: Contest, encoder: Encoder) -> Judged:
    """Return the candidate that is an encoder's frozen head."""
    head = encoder.head
    return contest.judge(encoder.spec.id, encoder, head.logits, encoder.with_head, {"C": head.c})


@dataclass(frozen=True)
class Tail:
    """The last layers of an encoder, trained from its frozen head on cached activations."""

    encoder: Encoder
    cut: int
    num_epochs: int
    gain: float
    min_epochs: int | None = None
    kind: str = "tail"

    @property
    def id(self) -> str:
        """Id of its row."""
        return f"{self.stem_id}{self.num_epochs}"

    @property
    def stem_id(self) -> str:
        """Beginning of the id, the same for any number of epochs."""
        return f"tail-{self.encoder.source.name}-cut-{self.cut}-epochs-"

    @property
    def model(self) -> str:
        """Name of its model."""
        return self.encoder.source.plan.model.name

    @property
    def recipe(self) -> Recipe:
        """Its recipe."""
        return tail_recipe(self.num_epochs)

    @property
    def shorter(self) -> "Tail | None":
        """The same with `min_epochs`."""
        if self.min_epochs is None:
            return None
        return replace(self, num_epochs=self.min_epochs, min_epochs=None)

    def num_views(self, contest: Contest) -> int:
        """Return the views of each image; an epoch sees one."""
        most = min(_NUM_VIEWS, self.num_epochs)
        return int(np.clip(_MAX_VIEWS // len(shown_positions(contest)), 1, most))

    def passes(self, contest: Contest) -> float:
        """See `Action.passes`."""
        ratio = self.encoder.source.gmacs / contest.encoders[0].source.gmacs
        share = len(shown_positions(contest)) / len(contest.study.samples)
        view = _TAIL_PASSES * _EARLIER_CUT ** self.encoder.network.cuts.index(self.cut)
        return share * ratio * (self.num_views(contest) + self._num_shown(contest) * view)

    def _num_shown(self, contest: Contest) -> float:
        """Return how often an image is shown, by all fits side by side."""
        shown = sum(len(train) for train in contest.folds.fits) / len(contest.study.samples)
        return self.num_epochs * shown

    def measure(self, contest: Contest) -> float:
        """Return the seconds that it takes here, from real steps after a warm-up."""
        encoder, recipe, num_views = self.encoder, self.recipe, self.num_views(contest)
        few = contest.study.samples.chosen(contest.folds.fits[-1][: recipe.batch_size])
        where = encoder.network, self.cut, encoder.preprocess, few
        device, seed = self._device, contest.study.seed
        view_s = activation_view_s(*where, num_views=num_views, device=device, seed=seed)
        with TemporaryDirectory() as folder:
            activations = compute_activations(
                *where, num_views=1, folder=Path(folder), device=device, seed=seed
            )
            assert activations is not None, "nothing ends it early"
            step = step_s(
                encoder.network.cut_at(self.cut).tail,
                activations,
                np.asarray(few.targets),
                task=encoder.spec.task.name,
                recipe=recipe,
                device=device,
            )
        num_shown = len(shown_positions(contest))
        share = num_shown / len(contest.study.samples)
        steps = share * sum(num_steps(recipe, len(train)) for train in contest.folds.fits)
        num_beside = num_cores() if device.type == "cpu" else 1
        return num_shown * num_views * view_s + steps * step / num_beside

    def run(self, contest: Contest, context: RunContext) -> list[Judged]:
        """See `Action.run`."""
        fitted = _known_fits(contest, context) or self._fits(contest, context)
        return [self._judged(contest, fitted, share) for share in TRAINED_SHARES if fitted]

    def _fits(self, contest: Contest, context: RunContext) -> list[Fitted]:
        """Return the result of each fit; nothing if the time ended or the user stopped."""
        shown = shown_positions(contest)
        activations = compute_activations(
            self.encoder.network,
            self.cut,
            self.encoder.preprocess,
            contest.study.samples.chosen(shown),
            num_views=self.num_views(contest),
            folder=contest.study.folder.path / ACTIVATIONS,
            device=self._device,
            seed=contest.study.seed,
            deadline_s=context.deadline_s,
            track=context.track,
            should_stop=context.should_stop,
        )
        if activations is None:
            return []
        data = _TailData(shown, activations, np.asarray(contest.study.samples.targets)[shown])
        fits = range(len(contest.folds.fits))

        def fit(on_step: Callable[[], None]) -> list[Fitted | None]:
            jobs = [partial(self._fit, contest, context, data, i, on_step) for i in fits]
            return fit_all(jobs, self._device)

        trains = [data.positions(train) for train in contest.folds.fits]
        total = sum(num_steps(self.recipe, len(train)) for train in trains)
        fitted = [state for state in _shown(context, total, fit) if state is not None]
        return fitted if len(fitted) == len(fits) else []

    def _fit(
        self,
        contest: Contest,
        context: RunContext,
        data: "_TailData",
        index: int,
        on_step: Callable[[], None],
    ) -> Fitted | None:
        """Return the logits of a fold's images by share, and the tail if it is the one to serve."""
        folder = _fit_folder(context, index)
        if (done := load_checkpoint(folder)) is not None:
            return done[0]
        folds, device = contest.folds, self._device
        tail = self._initial_tail(index)
        state = fit_tail(
            tail,
            data.activations,
            data.targets,
            data.positions(folds.fits[index]),
            task=self.encoder.spec.task.name,
            recipe=self.recipe,
            seed=contest.study.seed,
            device=device,
            deadline_s=context.deadline_s,
            should_stop=context.should_stop,
            on_step=on_step,
        )
        if state is None:
            return None
        kept = dict(state) if index == len(folds.fits) - 1 else {}
        if index < len(folds.parts):
            judged = data.positions(folds.parts[index][1])
            for share in TRAINED_SHARES:
                mixed = mixed_tail(tail, state, share).to(device)
                logits = tail_logits(mixed, data.activations, judged, device)
                kept[logits_name(share)] = torch.from_numpy(logits)
        save_checkpoint(folder, kept, {})
        return kept

    def _initial_tail(self, index: int) -> Classifier:
        tail, head = self.encoder.network.cut_at(self.cut).tail, self.encoder.head.heads[index]
        tail.set_head(head.weight, head.bias)
        return tail

    def _judged(self, contest: Contest, fitted: Sequence[Fitted], share: float) -> Judged:
        def build() -> Classifier:
            tail = self._initial_tail(-1)
            trained = {name: fitted[-1][name] for name in tail.state_dict()}
            return self.encoder.network.with_tail(mixed_tail(tail, trained, share))

        raw = _logits(contest, fitted, share)
        return contest.judge(self.id, self.encoder, raw, build, {"trained_share": share})

    @property
    def _device(self) -> torch.device:
        return choose_device(self.encoder.spec.device)


@dataclass(frozen=True)
class _TailData:
    """What tails learn from.

    Attributes:
        shown: Positions of the images among all samples, ascending, [n].
        activations: Of these.
        targets: Of these.
    """

    shown: NDArray[np.int64]
    activations: Activations
    targets: NDArray[Any]

    def positions(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where samples are among the shown images, without those that are not."""
        return np.flatnonzero(np.isin(self.shown, samples))


def shown_positions(contest: Contest) -> NDArray[np.int64]:
    """Return the samples that tails see: all, or of large sets those that judge and a part."""
    folds, num_images = contest.folds, len(contest.study.samples)
    if num_images <= _MAX_VIEWS:
        return np.arange(num_images, dtype=np.int64)
    train = np.setdiff1d(folds.fits[-1], folds.judged)
    chosen = np.random.default_rng(contest.study.seed).permutation(train)
    return np.union1d(chosen[: max(1, _MAX_VIEWS - len(folds.judged))], folds.judged)


@dataclass(frozen=True)
class Whole:
    """All layers of an encoder, trained from its frozen head with the default recipe."""

    encoder: Encoder
    gain: float
    kind: str = "whole"
    shorter: None = None

    @property
    def id(self) -> str:
        """Id of its row."""
        return f"whole-{self.encoder.source.name}"

    @property
    def model(self) -> str:
        """Name of its model."""
        return self.encoder.source.plan.model.name

    @property
    def num_epochs(self) -> int:
        """Epochs of its recipe."""
        return self.encoder.spec.recipe.num_epochs

    def passes(self, contest: Contest) -> float:
        """See `Action.passes`."""
        ratio = self.encoder.source.gmacs / contest.encoders[0].source.gmacs
        shown = sum(map(len, contest.folds.fits)) / len(contest.study.samples)
        # Backward costs twice what forward does (Kaplan et al. 2020, arXiv 2001.08361, table 1).
        return 3 * ratio * self.num_epochs * shown

    def run(self, contest: Contest, context: RunContext) -> list[Judged]:
        """See `Action.run`."""
        fitted = [self._fit(contest, context, i) for i in range(len(contest.folds.fits))]
        found = [state for state in fitted if state is not None]
        if len(found) < len(fitted):
            return []
        return [self._judged(contest, found, share) for share in TRAINED_SHARES]

    def _fit(self, contest: Contest, context: RunContext, index: int) -> Fitted | None:
        """Return the result of a fit, which may be there from before; None if the time ended."""
        folder = _fit_folder(context, index)
        if (done := load_checkpoint(folder / "done")) is not None:
            return done[0]
        is_late = context.deadline_s is not None and time.monotonic() > context.deadline_s
        if is_late or context.should_stop():
            return None
        folds, head = contest.folds, self.encoder.head.heads[index]
        judged = folds.parts[min(index, len(folds.parts) - 1)][1]
        spec = replace(self.encoder.spec, train=folds.fits[index], validation=judged)
        within = replace(context, folder=folder)
        state = train_from_head(spec, contest.study.samples, within, head, TRAINED_SHARES)
        if state is not None:
            is_served = index == len(folds.fits) - 1
            kept = {n: t for n, t in state.items() if is_served or n.startswith("logits")}
            save_checkpoint(folder / "done", kept, {})
        return state

    def _judged(self, contest: Contest, fitted: Sequence[Fitted], share: float) -> Judged:
        def build() -> Classifier:
            network = self.encoder.with_head()
            initial = network.state_dict()
            trained = {name: fitted[-1][name] for name in initial}
            network.load_state_dict(interpolate(initial, trained, 1 - share))
            return network

        raw = _logits(contest, fitted, share)
        return contest.judge(self.id, self.encoder, raw, build, {"trained_share": share})


def _fit_folder(context: RunContext, index: int) -> Path:
    return context.folder / f"fit-{index}"


def _known_fits(contest: Contest, context: RunContext) -> list[Fitted]:
    """Return the fits of an earlier start, if all are there."""
    folders = [_fit_folder(context, index) for index in range(len(contest.folds.fits))]
    known = [done[0] for folder in folders if (done := load_checkpoint(folder)) is not None]
    return known if len(known) == len(folders) else []


def _logits(contest: Contest, fitted: Sequence[Fitted], share: float) -> NDArray[np.float64]:
    """Return the logits of the images that judge, [m, k]."""
    parts = fitted[: len(contest.folds.parts)]
    return np.concatenate([state[logits_name(share)].numpy() for state in parts])


def _shown(context: RunContext, total: int, work: Callable[[Callable[[], None]], T]) -> T:
    """Return the result of work, which calls what it is given at each step; show the steps."""
    steps: SimpleQueue[bool] = SimpleQueue()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(work, lambda: steps.put(True))
        result.add_done_callback(lambda _: steps.put(False))
        for _ in context.track(iter(steps.get, False), "tail training", total):
            pass
        return result.result()


@dataclass(frozen=True)
class Pair:
    """Two networks as one, one of them trained at least: the mean of their logits, from one image.

    Attributes:
        encoder: Their encoders side by side.
        both: The networks, in the order of its members.
        gain: Expected gain.
    """

    encoder: Encoder
    both: tuple[Judged, ...]
    gain: float
    num_epochs: int = 0
    kind: str = "pair"
    shorter: None = None

    @property
    def id(self) -> str:
        """Id of its row."""
        return "pair-" + "-".join(one.id.removeprefix("tail-") for one in self.both)

    @property
    def model(self) -> str:
        """Name of its model."""
        return self.encoder.weights.spec.name

    def passes(self, contest: Contest) -> float:
        """See `Action.passes`."""
        return 0.1

    def run(self, contest: Contest, context: RunContext) -> list[Judged]:
        """See `Action.run`."""
        raw = np.mean([one.raw / one.temperature for one in self.both], axis=0)

        def build() -> Classifier:
            networks = [one.build() for one in self.both]
            network = copy.deepcopy(self.encoder.network)
            members: Any = network.encoder.members
            for member, one in zip(members, networks, strict=True):
                member.load_state_dict(one.encoder.state_dict())
            scaled = [one.temperature * len(networks) for one in self.both]
            weights = [n.head.weight / by for n, by in zip(networks, scaled, strict=True)]
            biases = [n.head.bias / by for n, by in zip(networks, scaled, strict=True)]
            network.set_head(torch.cat(weights, dim=1), torch.stack(biases).sum(0))
            return network

        return [contest.judge(self.id, self.encoder, raw, build, {})]
