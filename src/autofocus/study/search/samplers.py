"""Samplers choose the parameters of trial n.

random, sobol and grid depend on the seed and n alone, so that neither the order in which trials
end nor a kill changes a trial. bayesian (TPE) depends on the seed, n and the trials below n; it
needs no database: the past is replayed from the leaderboard.

A new one is a class and a line of `SAMPLERS`; one from outside is an entry that a script adds, or
an entry point (docs/extending.md).
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from autofocus.plugins import with_plugins
from autofocus.settings.job import Sampling
from autofocus.settings.search_space import Choice, SearchSpace
from autofocus.settings.spelling import did_you_mean
from autofocus.study.search.space import (
    from_optuna,
    num_dims,
    optuna_distributions,
    point,
    to_optuna,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

# Maximum number of trials of a job.
MAX_TRIALS = 1000


@dataclass(frozen=True)
class Past:
    """An earlier trial.

    Attributes:
        number: 0, 1, 2, …
        parameters: Parameters that `ask` returned for it.
        value: Its best value of the primary metric so far, to be maximised; None without one.
        is_running: Whether the value may still change.
    """

    number: int
    parameters: dict[str, Any]
    value: float | None
    is_running: bool = False


class Sampler(ABC):
    """Chooses parameters. Subclasses are made of the sub-spaces and a seed.

    Attributes:
        num_trials: Number of different trials; None for no limit.
        distributions: Names of the distributions that it can search; None for all.
        reads_past: Whether `ask` reads `past`; otherwise that is empty.
    """

    num_trials: int | None = None
    distributions: ClassVar[tuple[str, ...] | None] = None
    reads_past: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    @abstractmethod
    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """Return the parameters of trial `number`, plain values by published name.

        Args:
            number: 0, 1, 2, …; below `num_trials`.
            past: All trials below `number`.
        """

    @classmethod
    def problems(cls, name: str, space: SearchSpace) -> list[str]:
        """Return a sentence for each part of a space that it cannot search.

        Args:
            name: Its name in the job.
            space: The sub-spaces.
        """
        return [
            f"search_space.{index}.{parameter}: {name} takes {', '.join(cls.distributions)}, got "
            f"{distribution.type}. Change it, or take random."
            for index, subspace in enumerate(space)
            for parameter, distribution in subspace.items()
            if cls.distributions is not None and distribution.type not in cls.distributions
        ]


class RandomSampler(Sampler):
    """Independent points, each in one of the sub-spaces, all equally likely."""

    reads_past = False

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        generator = np.random.default_rng([self._seed, number])
        return point(self._space, generator.random(num_dims(self._space)).tolist())


class SobolSampler(Sampler):
    """Points of a scrambled Sobol sequence, which cover a space more evenly than random ones."""

    reads_past = False

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._points: NDArray[np.float64] | None = None

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        if self._points is None or number >= len(self._points):
            self._points = self._first(max(number + 1, MAX_TRIALS))
        return point(self._space, self._points[number].tolist())

    def _first(self, num_points: int) -> NDArray[np.float64]:
        from scipy.stats.qmc import Sobol

        sequence = Sobol(num_dims(self._space), rng=np.random.default_rng(self._seed))
        points: NDArray[np.float64] = sequence.random_base2(math.ceil(math.log2(num_points)))
        return points


class GridSampler(Sampler):
    """Every combination once: the sub-spaces in turn, in each the last parameter changes first."""

    distributions = ("choice",)
    reads_past = False

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        super().__init__(space, seed)
        choices = [
            {name: dict.fromkeys(d.values) for name, d in subspace.items() if isinstance(d, Choice)}
            for subspace in space
        ]
        sizes = [math.prod(len(values) for values in subspace.values()) for subspace in choices]
        grids = [itertools.islice(_combinations(subspace), MAX_TRIALS) for subspace in choices]
        in_turn = itertools.chain.from_iterable(itertools.zip_longest(*grids))
        self._points = [entry for entry in in_turn if entry is not None]
        self.num_trials = sum(sizes)

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        return dict(self._points[number])


def _combinations(subspace: Mapping[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*subspace.values()):
        yield dict(zip(subspace, values, strict=True))


class BayesianSampler(Sampler):
    """Optuna's tree-structured Parzen estimator: earlier trials guide the search."""

    distributions = ("choice", "uniform", "quniform")

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        (self._subspace,) = space
        self._study: Study | None = None
        # Trials of the study, in the order of their numbers.
        self._known: list[Past] = []

    @classmethod
    def problems(cls, name: str, space: SearchSpace) -> list[str]:
        """See `Sampler.problems`; it takes one sub-space."""
        problems = super().problems(name, space)
        if len(space) > 1:
            problems.insert(
                0,
                f"sweep.sampling_algorithm: {name} takes one sub-space, search_space has "
                f"{len(space)}: its model of what is good needs every parameter in every trial. "
                "Take random or grid, or write one sub-space.",
            )
        return problems

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        from optuna.samplers import TPESampler

        study = self._replayed(sorted(past, key=lambda trial: trial.number))
        # With its own seed trial n is the same after a kill as without one.
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        study.sampler = TPESampler(seed=seed)
        drawn = study.ask(optuna_distributions(self._subspace)).params
        parameters = from_optuna(self._subspace, drawn)
        self._known.append(Past(number, parameters, None, is_running=True))
        return parameters

    def _replayed(self, past: list[Past]) -> "Study":
        """Return a study of exactly the trials of the past."""
        known = self._known
        if self._study is None or len(past) < len(known) or not all(map(_follows, known, past)):
            self._study, known = _new_study(), []
        for index, (before, now) in enumerate(zip(known, past, strict=False)):
            if before.is_running and not now.is_running:
                self._study.tell(index, now.value, state=_state(now))
        distributions = optuna_distributions(self._subspace)
        for trial in past[len(known) :]:
            self._study.add_trial(self._frozen(trial, distributions))
        self._known = list(past)
        return self._study

    def _frozen(self, trial: Past, distributions: "dict[str, BaseDistribution]") -> "FrozenTrial":
        from optuna.trial import create_trial

        return create_trial(
            state=_state(trial),
            value=None if trial.is_running else trial.value,
            params=to_optuna(self._subspace, trial.parameters),
            distributions=distributions,
        )


def _follows(before: Past, now: Past) -> bool:
    """Return whether a trial can have changed from `before` to `now`."""
    if before.number != now.number or before.parameters != now.parameters:
        return False
    return before.is_running or (not now.is_running and before.value == now.value)


def _state(trial: Past) -> "TrialState":
    from optuna.trial import TrialState

    if trial.is_running:
        return TrialState.RUNNING
    return TrialState.FAIL if trial.value is None else TrialState.COMPLETE


def _new_study() -> "Study":
    import optuna

    # Optuna logs every new study to stderr.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


SAMPLERS: Final[dict[str, type[Sampler]]] = {
    "random": RandomSampler,
    "sobol": SobolSampler,
    "grid": GridSampler,
    "bayesian": BayesianSampler,
}


def make_sampler(sampling: Sampling, space: SearchSpace, seed: int) -> Sampler:
    """Return the sampler of a checked job.

    Args:
        sampling: The algorithm; its own seed wins.
        space: Sub-spaces without `sampling_problems`.
        seed: The job's seed.
    """
    seed = seed if sampling.seed is None else sampling.seed
    return known_samplers()[_name_of(sampling)](space, seed)


def sampling_problems(sampling: Sampling, space: SearchSpace) -> list[str]:
    """Return a sentence for each part of a space that the algorithm cannot search.

    An algorithm that does not exist is one problem.
    """
    known, name = known_samplers(), _name_of(sampling)
    if name not in known:
        return [
            f"sweep.sampling_algorithm.type: must be one of {', '.join(known)}, got {name!r}"
            f"{did_you_mean(name, known)}"
        ]
    problems = known[name].problems(name, space)
    if sampling.rule == "sobol" and name != "sobol":
        problems.append(f"sweep.sampling_algorithm: sobol is a rule of random, not of {name}.")
    return problems


def _name_of(sampling: Sampling) -> str:
    # As published, Sobol's sequence is a rule of random.
    return sampling.rule if sampling.type == "random" else sampling.type


def known_samplers() -> dict[str, type[Sampler]]:
    """Return the samplers by name, those of other distributions too."""
    return with_plugins(SAMPLERS, "autofocus.samplers", _problem)


def _problem(entry: object) -> str | None:
    is_sampler = isinstance(entry, type) and issubclass(entry, Sampler)
    return None if is_sampler else f"{entry!r} is no subclass of Sampler"
