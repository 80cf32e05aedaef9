"""What a study tries, by its job's mode: one trial, the job's own sweep, or AutoMode's choice."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from autofocus.models.base import CLASSIFIER
from autofocus.settings.search_space import Choice
from autofocus.study.automode.classifiers import search_classifiers
from autofocus.study.automode.objects import search_objects
from autofocus.study.cross_validation import cross_validate_best
from autofocus.study.refit import can_refit, refit_best, refit_reserve_s
from autofocus.study.resolve import Mode, trial_plan
from autofocus.study.scheduler import MIN_TRIAL_S, PROBE_ID, Rules, Search
from autofocus.study.search.samplers import Past, Sampler, make_sampler
from autofocus.study.study import Study
from autofocus.study.trials.classifiers import is_within_limits
from autofocus.study.trials.recipes import recipe_for
from autofocus.study.trials.runner import TRIALS
from autofocus.training.recipe import RECIPE_PARAMETERS


def search_once(study: Study) -> Search:
    """Try the job's own recipe; where few images were held out, once more with all."""
    plan = study.plan
    trials = TRIALS[plan.model.kind]
    trials.begin(study, plan, trials.single_probe)
    reserve_s, has_model = refit_reserve_s(study), study.first_score is not None
    rules = Rules(
        num_trials=0 if has_model and not recipe_for(plan, len(study.train)).num_epochs else 1,
        policy=None,
        metric=study.metric,
        reserve_s=lambda rows: reserve_s,
        # Without a model even a moment's training is worth more than nothing.
        min_trial_s=lambda rows: MIN_TRIAL_S if has_model else -math.inf,
        first_id=trials.single_number,
        is_paired=True,
    )
    last_phases = (cross_validate_best, refit_best) if can_refit(study) else ()
    return Search(_JobItself((), plan.seed), rules, last_phases)


class _JobItself(Sampler):
    """One trial that adds nothing to the job's parameters."""

    num_trials = 1

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        return {}


def search_space(study: Study) -> Search:
    """Try points of the job's search space."""
    plan = study.plan
    sampler = make_sampler(plan.sampling, plan.space, plan.job.seed)
    _check_weights(study)
    num_trials = plan.job.limits.max_trials
    if sampler.num_trials is not None:
        num_trials = min(num_trials, sampler.num_trials)
    draws = [trial_plan(plan, sampler.ask(number)) for number in range(num_trials)]
    first = next((draw for draw in draws if is_within_limits(study, draw)), draws[0])
    TRIALS[first.model.kind].begin(study, first, PROBE_ID)
    return Search(sampler, Rules(num_trials, plan.early_termination, study.metric))


def _check_weights(study: Study) -> None:
    """Refuse now weights that cannot be had or used: a trial would fail hours later."""
    plan = study.plan
    names: dict[str, None] = {}
    for subspace in plan.space:
        choice = subspace.get("model_name")
        names |= dict.fromkeys(choice.values if isinstance(choice, Choice) else ())
    for name in names:
        study.model_of(trial_plan(plan, {"model_name": name}))


def search_automatically(study: Study) -> Search:
    """Let AutoMode choose; a classifier whose job says how to train is trained so."""
    plan = study.plan
    if plan.model.kind != CLASSIFIER:
        return search_objects(study)
    is_told = plan.job.weights == "random" or bool(RECIPE_PARAMETERS.keys() & plan.parameters)
    return search_once(study) if is_told else search_classifiers(study)


SEARCHES: Final[dict[Mode, Callable[[Study], Search]]] = {
    "single": search_once,
    "sweep": search_space,
    "automode": search_automatically,
}
