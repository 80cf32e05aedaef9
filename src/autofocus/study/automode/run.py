"""AutoMode: a job without a search space, for which the system chooses.

1. Profile the data and the machine. 2. For classifiers, probe up to three frozen encoders; the
best probe can be served. 3. Train the default recipe of the best candidate, then of the others.
4. Asynchronous successive halving over learning rate, input size, augmentation and frozen layers of
the candidates, around their default recipes. 5. Temperature. 6. With few validation images:
cross-validation, if these cannot tell, and a refit of the best on all images. 7. Package and
verify, after each step that found something better.

The prior table (`priors.toml`) says what to try; `decisions.jsonl` has every choice.
"""

import logging
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from autofocus.models.base import CLASSIFIER
from autofocus.settings.job import Asha
from autofocus.study.automode.classifiers import ClassifierAutoMode
from autofocus.study.automode.entrants import AutoMode, AutoStart
from autofocus.study.automode.objects import search_objects
from autofocus.study.automode.priors import Priors, priors_of
from autofocus.study.automode.profile import (
    duration,
    format_profile,
    profile_data,
    profile_machine,
)
from autofocus.study.automode.space import AutoSampler
from autofocus.study.cross_validation import cross_validate_best, cross_validation_s
from autofocus.study.refit import can_refit, refit_best, refit_reserve_s, refit_s
from autofocus.study.scheduler import (
    MIN_TRIAL_S,
    Rules,
    Search,
    format_parameters,
)
from autofocus.study.study import Study
from autofocus.training.device import choose_device

log = logging.getLogger(__name__)

# A recipe is not tried in less than this share of what the default recipe took.
MIN_TRIAL_SHARE = 1 / 3

AUTO_MODES: Final[dict[str, AutoMode]] = {
    CLASSIFIER: ClassifierAutoMode(),
}


def search_automatically(study: Study) -> Search:
    """Look at the data, the machine and the models, and choose what to try."""
    plan = study.plan
    if plan.model.kind != CLASSIFIER:
        return search_objects(study)
    priors = priors_of(plan.model.kind)
    study.report_progress("look", "looking at the data, the machine and the models")
    auto = AUTO_MODES[plan.model.kind].begin(study)
    profile = {
        **profile_data(study),
        **auto.facts,
        **profile_machine(choose_device(plan.job.device), auto.entrants[0].image_s),
    }
    study.folder.decide("profile", **profile)
    rules = _rules(study, auto, priors)
    sampler = AutoSampler([one.parameters for one in auto.entrants], auto.space, plan.seed)
    _announce(study, auto, rules, profile)
    is_refit = can_refit(study)
    last_phases = (cross_validate_best, refit_best) if is_refit else ()
    return Search(sampler, rules, last_phases)


def _rules(study: Study, auto: AutoStart, priors: Priors) -> Rules:
    limits, budget_s = study.plan.job.limits, study.plan.job.budget_s
    if "max_trials" in limits.model_fields_set:
        num_trials = limits.max_trials
    else:
        # Without a time nor a number the default recipe is what was asked for.
        num_trials = 1 if budget_s is None else priors.max_trials
    first_reserve_s = refit_reserve_s(study)
    return Rules(
        num_trials=num_trials if auto.num_epochs else 0,
        policy=Asha(eta=priors.eta, rungs=list(priors.rungs)),
        # Of few images a loss says more than a metric that counts them.
        metric="score",
        reserve_s=partial(_reserve_s, study, first_reserve_s),
        min_trial_s=_min_trial_s,
    )


def _reserve_s(
    study: Study,
    first_reserve_s: float,
    rows: Mapping[int, Mapping[str, Any]],
) -> float:
    """Return the seconds that cross-validation and the refit take."""
    ended = [float(row["seconds"]) for row in rows.values() if row["status"] == "completed"]
    if not ended:
        return first_reserve_s
    if not can_refit(study):
        return 0.0
    score = study.first_score
    folds_s = cross_validation_s(study, None if score is None else score.losses, max(ended))
    return folds_s + refit_s(study, max(ended)) + study.packaging_s


def _min_trial_s(rows: Mapping[int, Mapping[str, Any]]) -> float:
    """Return the seconds that a trial needs; the default recipe shows how long this data takes."""
    default = rows.get(0)
    if default is None or default["status"] == "running":
        return MIN_TRIAL_S
    return max(MIN_TRIAL_S, MIN_TRIAL_SHARE * float(default["seconds"]))


def _announce(study: Study, auto: AutoStart, rules: Rules, profile: dict[str, Any]) -> None:
    """Log and record the plan and its expected time."""
    first = auto.entrants[0]
    epoch_s = profile["num_images"] * first.image_s
    whole_s, left_s = epoch_s * auto.num_epochs, study.left_s()
    default_s = min(whole_s, left_s)
    others = rules.num_trials - 1
    study.folder.decide(
        "automode",
        models=[{"parameters": one.parameters, "image_s": one.image_s} for one in auto.entrants],
        search_space=auto.space,
        num_trials=rules.num_trials,
        early_termination=None if rules.policy is None else rules.policy.model_dump(),
        default_recipe_s=default_s,
        seconds_left=None if math.isinf(left_s) else left_s,
    )
    log.info("AutoMode · %s", format_profile(profile))
    log.info(
        "plan: 1. the default recipe of %s at %d px: up to %d epochs of about %s%s",
        first.plan.model.name,
        auto.side,
        auto.num_epochs,
        duration(epoch_s),
        _until(default_s, whole_s),
    )
    if rules.num_trials > 1:
        log.info(
            "plan: 2. up to %d others, as far as the time goes: %sother recipes (learning rate, "
            "size, augmentation, frozen layers)",
            others,
            "".join(
                f"{one.plan.model.name}{format_parameters(one.parameters)}; "
                for one in auto.entrants[1 : rules.num_trials]
            ),
        )
    if can_refit(study) and rules.num_trials:
        num_images = profile["num_images"] + profile["num_validation"]
        log.info("plan: last, the best once more with all %d images", num_images)
    if rules.num_trials == 1 and study.plan.job.budget_s is None:
        log.info("plan: no more; --budget 10m, or limits.max_trials, tries other recipes too")


def _until(default_s: float, whole_s: float) -> str:
    now = datetime.now()
    end = now + timedelta(seconds=default_s)
    cut = ", as many as fit" if default_s < whole_s else ""
    return f", {duration(default_s)}, until {end:%H:%M}{cut}"
