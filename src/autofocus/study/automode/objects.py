"""AutoMode for detectors and segmenters.

1. Measure what real training steps cost here. 2. Start with the best expected network, input side,
tiles and frozen layers that get enough epochs (`start`); without a budget with the default recipe.
3. As far as the time or the number of trials goes: other networks, and variations of the recipe.
Another trial is served only if the lower bound of its paired gain is above 0.

`decisions.jsonl` has every option with its cost (`objects_start`) and, last, what was not tried any
more (`nothing_left`).
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any, Final

from autofocus.data.batches.tiles import AUTO
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.profile import (
    duration,
    format_profile,
    profile_data,
    profile_machine,
    profile_objects,
)
from autofocus.study.automode.start import (
    SIDE_STEP,
    Cost,
    Images,
    StartOption,
    choose_start,
    enough_epochs,
    enough_for_others,
    option_of,
    sides_below,
)
from autofocus.study.default_model import WeightsAtHand
from autofocus.study.folder.trial_folder import UNFINISHED
from autofocus.study.resolve import Plan, trial_plan
from autofocus.study.scheduler import (
    MIN_TRIAL_S,
    PROBE_ID,
    Rules,
    Search,
    TrialController,
    format_parameters,
)
from autofocus.study.search.samplers import Past, Sampler
from autofocus.study.study import Study
from autofocus.study.trials.base import over_limit
from autofocus.study.trials.detectors import Design, DetectorTrials, designed_spec
from autofocus.study.trials.recipes import recipe_for
from autofocus.training.device import choose_device
from autofocus.training.recipe import Recipe
from autofocus.training.step_cost import measure_step
from autofocus.training.trial import TrialSpec

log = logging.getLogger(__name__)

# Another model must gain by so many standard errors: the lower end of a 90 % interval is above 0.
MARGIN: Final = NormalDist().inv_cdf(0.95)
# Two recipes of a detector differ by about 0.01 in mAP on the same images; of two that are equal
# on average the better one is then better by 0.4 of that.
EXPECTED_GAIN: Final = 0.004
# Other networks that are tried, and the largest for a CPU without a budget, in billions of
# multiply-adds an image.
MAX_OTHERS: Final = 3
MAX_CPU_GMACS: Final = 8.0
# Share of the encoder's groups of layers that are frozen where time is short.
FROZEN_FRAC: Final = 0.6
_SIZES: Final = {"image_size", "min_size", "max_size"}
_DECISION: Final = "objects_start"
_WITHIN_LIMITS: Final = "within_limits"
# Inputs that are measured before the limits are said to allow none.
_MAX_SIDES: Final = 3
# Share of the time that is left after which a measurement begins no further step.
_MEASURE_FRAC: Final = 0.03
# Factor of a larger input's side, and of the epochs that are worth more of them.
_LARGER: Final = 1.25
_LONGER: Final = 1.5
# Views that are trained on in the time of packaging: 60 s where one took 2.
_PACKAGING_VIEWS: Final = 30
# Trials that the plan names.
_NUM_NAMED: Final = 3


def search_objects(study: Study) -> Search:
    """Measure, choose where to start, and list what to try after that."""
    study.report_progress("look", "looking at the data, the machine and the models")
    DetectorTrials().begin(study, study.plan, PROBE_ID)
    study.plan = within_limits(study)
    before = study.folder.decided(_DECISION)
    # The choice is made once a run: the trials' numbers follow from it.
    options = _begin(study) if before is None else _decided(before)
    rules = _rules(study, options)
    _announce(study, options, rules.num_trials)
    last_phases = () if _is_bounded(study) else (note_the_end,)
    return Search(OptionSampler(options, study.seed), rules, last_phases)


def within_limits(study: Study) -> Plan:
    """Return the plan, with an input that is small enough for the job's limits on its model.

    Raises:
        JobError: If no input is, or the job itself says how large it is.
    """
    plan, before = study.plan, study.folder.decided(_WITHIN_LIMITS)
    if before is not None:
        return trial_plan(plan, before["parameters"])

    def spec_of(plan: Plan) -> TrialSpec:
        return designed_spec(study, plan, "measure", study.train, study.validation)[0]

    spec, model = spec_of(plan), study.model_of(plan)
    problem = study.limits.problem_of(spec, model)
    if problem is None:
        return plan
    share, side = study.limits.latency_share(spec, model), max(spec.preprocess.size)
    # Time goes with the pixels, the file's size does not.
    expected = side / math.sqrt(share) if share > 1 and not _SIZES & plan.parameters.keys() else 0
    for shorter in [each for each in sides_below(side) if each <= expected][:_MAX_SIDES]:
        parameters = {"image_size": shorter}
        if study.limits.problem_of(spec_of(trial_plan(plan, parameters)), model) is None:
            study.folder.decide(_WITHIN_LIMITS, parameters=parameters, because=problem)
            log.info("images are seen at %d px, which the limits allow", shorter)
            return trial_plan(plan, parameters)
    raise over_limit(study, plan, [problem], spec_of)


@dataclass(frozen=True)
class _Measured:
    """A model's default design and its measured cost."""

    plan: Plan
    designed: Design
    recipe: Recipe
    cost: Cost
    images: Images
    num_groups: int
    took_s: float


def _begin(study: Study) -> list[StartOption]:
    """Measure, and return the options in the order of their trials."""
    own = _measured(study, study.plan)
    # Packaging slows down with all else that is slow here.
    study.packaging_s = max(study.packaging_s, _PACKAGING_VIEWS * own.cost.train_s)
    # A packaged model is about as quick, and reads the image too.
    study.image_s = own.cost.evaluate_s * own.images.num_evaluated / len(study.validation)
    _note_profile(study, own)
    default = _option(study, own, {}, enough_epochs(own.recipe.num_epochs))
    start, others = _start(study, own, default, list(_others(study, own)))
    least_epochs = min(default.num_epochs, enough_for_others(default.num_epochs))
    later = [*others, replace(default, least_epochs=least_epochs)]
    options = _ordered(start, [*later, *_variations(study, own, start)])
    left_s = left_to_train_s(study)
    study.folder.decide(
        _DECISION,
        seconds_left=None if math.isinf(left_s) else left_s,
        num_epochs=start.epochs_in(left_s),
        options=[one.document(left_s) for one in options],
    )
    return options


def _measured(study: Study, plan: Plan) -> _Measured:
    started_s, limit_s = time.monotonic(), _MEASURE_FRAC * left_to_train_s(study)
    spec, designed = designed_spec(study, plan, "measure", study.train, study.validation)
    found = measure_step(spec, study.samples, limit_s)
    tiling = designed.tiling
    num_tiles = 0 if tiling is None else tiling.cols * tiling.rows
    images = Images(designed.num_views, len(study.validation) * (1 + num_tiles))
    cost = Cost(max(spec.preprocess.size), found.train_s, found.evaluate_s)
    took_s = time.monotonic() - started_s
    return _Measured(plan, designed, spec.recipe, cost, images, found.num_groups, took_s)


def _option(
    study: Study, one: _Measured, parameters: dict[str, Any], least_epochs: int
) -> StartOption:
    num_epochs = recipe_for(trial_plan(study.plan, parameters), one.images.num_views).num_epochs
    return option_of(
        parameters,
        one.cost,
        one.images,
        num_epochs,
        least_epochs,
        evaluates_all=_is_bounded(study) or "evaluation_frequency" in study.plan.parameters,
    )


def left_to_train_s(study: Study) -> float:
    """Return the seconds left for training; infinite without a budget."""
    return max(0.0, study.left_s() - study.test_reserve_s())


def _is_bounded(study: Study) -> bool:
    """Return whether there is no clock: then nothing may depend on what was measured."""
    return study.plan.job.budget_s is None


def _start(
    study: Study, own: _Measured, default: StartOption, others: list[StartOption]
) -> tuple[StartOption, list[StartOption]]:
    """Return where to start, and the other networks with what was measured of them."""
    if _is_bounded(study):
        return default, others
    while not (start := choose_start([*others, default], left_to_train_s(study))).is_measured:
        other = _measured(study, trial_plan(study.plan, start.parameters))
        known = _option(study, other, start.parameters, start.least_epochs)
        others = [known if one is start else one for one in others]
    if start.epochs_in(left_to_train_s(study)) < start.least_epochs:
        options = [default, *_smaller(study, own)]
        start = choose_start(options, left_to_train_s(study))
    return start, others


def _smaller(study: Study, own: _Measured) -> Iterator[StartOption]:
    """Yield what costs less than the default design, best expected first."""
    given = study.plan.parameters
    sides = [] if _SIZES & given.keys() else sides_below(own.cost.side)
    # Where measuring takes more than its share of the time, pixels have to tell.
    is_quick = own.took_s < 2 * _MEASURE_FRAC * left_to_train_s(study)
    sized: list[tuple[dict[str, Any], Cost]] = [({}, own.cost)]
    least = None
    if sides and is_quick:
        least = _measured(study, trial_plan(study.plan, {"image_size": sides[-1]})).cost
    sized += [({"image_size": side}, own.cost.at(side, least)) for side in sides]
    frozen = {"layers_to_freeze": round(FROZEN_FRAC * own.num_groups)}
    saved = 1.0
    if "layers_to_freeze" not in given and is_quick:
        last = sized[-1][0]
        saved = _measured(study, trial_plan(study.plan, last | frozen)).cost.train_s
        saved /= sized[-1][1].train_s
    tilings: list[tuple[dict[str, Any], Images]] = [({}, own.images)]
    if own.designed.tiling is not None and given["tile_grid_size"] == AUTO:
        whole = Images(len(study.train), len(study.validation))
        tilings.append(({"tile_grid_size": "none"}, whole))
    for tiles, images in tilings:
        for size, cost in sized:
            one = replace(own, images=images, cost=cost)
            if tiles or size:
                yield _own_option(study, one, tiles | size)
            if saved < 1:
                cheaper = replace(cost, train_s=saved * cost.train_s)
                yield _own_option(study, replace(one, cost=cheaper), tiles | size | frozen)


def _own_option(study: Study, one: _Measured, parameters: dict[str, Any]) -> StartOption:
    return _option(study, one, parameters, enough_epochs(one.recipe.num_epochs))


def _others(study: Study, own: _Measured) -> Iterator[StartOption]:
    """Yield other networks that are expected to be better and can be had, best expected first."""
    plan, priors, left_s = study.plan, priors_of(study.plan.model.kind), left_to_train_s(study)
    base = priors.gmacs_of(study.model_of(plan).name)
    if base is None or plan.user_named_model or plan.job.weights is not None:
        return
    num_found, at_hand = 0, WeightsAtHand(study.track)
    is_cpu = choose_device(plan.job.device).type == "cpu"
    for row in priors.ranked(own.images.num_views):
        if row.name == study.model_of(plan).name or num_found == MAX_OTHERS:
            return
        parameters = {"model_name": row.name}
        scale, changed = row.gmacs / base, trial_plan(plan, parameters)
        cost = Cost(own.cost.side, scale * own.cost.train_s, scale * own.cost.evaluate_s)
        num_epochs = recipe_for(changed, own.images.num_views).num_epochs
        one = _option(study, replace(own, cost=cost), parameters, enough_for_others(num_epochs))
        if one.least_s > left_s or (_is_bounded(study) and is_cpu and row.gmacs > MAX_CPU_GMACS):
            continue
        if at_hand.has(changed.model):
            num_found += 1
            yield replace(one, is_measured=False)


def _variations(study: Study, own: _Measured, start: StartOption) -> Iterator[StartOption]:
    """Yield other recipes around the start, in the order of what they are expected to bring."""
    base, recipe = (
        start.parameters,
        recipe_for(trial_plan(study.plan, start.parameters), own.images.num_views),
    )
    given = study.plan.parameters.keys()
    side = base.get("image_size", own.cost.side)
    larger = SIDE_STEP * round(_LARGER * side / SIDE_STEP)
    least_epochs = min(start.num_epochs, enough_for_others(start.num_epochs))
    if not _SIZES & given:
        scale = (larger / side) ** 2
        yield replace(
            start,
            parameters=base | {"image_size": larger},
            epoch_s=scale * start.epoch_s,
            closing_s=scale * start.closing_s,
            least_epochs=least_epochs,
        )
    if "number_of_epochs" not in given:
        longer = 2 * start.num_epochs
        yield replace(
            start,
            parameters=base | {"number_of_epochs": longer},
            num_epochs=longer,
            least_epochs=math.ceil(_LONGER * start.num_epochs),
        )
    for name, value in (
        ("learning_rate", 2 * recipe.learning_rate),
        ("learning_rate", recipe.learning_rate / 2),
        ("layers_to_freeze", 0),
        ("augmentations", "light"),
    ):
        if name not in given:
            yield replace(start, parameters=base | {name: value}, least_epochs=least_epochs)


def _ordered(start: StartOption, others: Iterable[StartOption]) -> list[StartOption]:
    """Return the start and what else there is, each once."""
    options = [start]
    options += [one for one in others if one.parameters != start.parameters]
    return options


class OptionSampler(Sampler):
    """The options that no trial had yet, in order.

    Args:
        options: Options; the first is the start.
        seed: The job's seed.
    """

    reads_past = True

    def __init__(self, options: Sequence[StartOption], seed: int) -> None:
        super().__init__((), seed)
        self.options = options
        self.num_trials = len(options)

    def ask(self, number: int, past: Sequence[Past] = ()) -> dict[str, Any]:
        """See `Sampler.ask`."""
        return dict(untried(self.options, [one.parameters for one in past])[0].parameters)


def untried(
    options: Sequence[StartOption], tried: Sequence[Mapping[str, Any]]
) -> list[StartOption]:
    """Return the options that no trial had, in order."""
    return [one for one in options if one.parameters not in tried]


def _decided(before: Mapping[str, Any]) -> list[StartOption]:
    """Return the options of an earlier start of this run, in their order."""
    fields = StartOption.__dataclass_fields__
    return [
        StartOption(**{name: value for name, value in row.items() if name in fields})
        for row in before["options"]
    ]


def _rules(study: Study, options: Sequence[StartOption]) -> Rules:
    limits = study.plan.job.limits
    if "max_trials" in limits.model_fields_set:
        num_trials = limits.max_trials
    else:
        # Without a time nor a number the default recipe is what was asked for.
        num_trials = 1 if _is_bounded(study) else priors_of(study.plan.model.kind).max_trials
    return Rules(
        num_trials=min(num_trials, len(options)),
        policy=None,
        metric=study.metric,
        min_trial_s=lambda rows: _needed_s(options, rows),
        is_paired=True,
        margin=MARGIN,
    )


def _needed_s(options: Sequence[StartOption], rows: Mapping[int, Mapping[str, Any]]) -> float:
    """Return the seconds that the next trial needs."""
    ended = [row for row in rows.values() if row["status"] not in UNFINISHED]
    if not any(row["value"] is not None for row in ended):
        # Without a model even a moment's training is worth more than nothing.
        return -math.inf
    if len(ended) < len(rows):
        return MIN_TRIAL_S
    rest = untried(options, [row["parameters"] for row in rows.values()])
    return _slowness(options, ended) * rest[0].least_s if rest else math.inf


def _slowness(options: Sequence[StartOption], ended: Sequence[Mapping[str, Any]]) -> float:
    """Return how many times as long as measured the trials took: neighbours come and go."""
    by_parameters = [(one, row) for row in ended for one in options if _is_of(row, one)]
    expected_s = sum(one.seconds(row["epochs"]) for one, row in by_parameters)
    taken_s = sum(float(row["seconds"]) for _, row in by_parameters)
    return taken_s / expected_s if expected_s else 1.0


def _is_of(row: Mapping[str, Any], option: StartOption) -> bool:
    return bool(row["parameters"] == option.parameters and row["epochs"])


def note_the_end(study: Study, scheduler: TrialController) -> None:
    """Record what was not tried any more, and what the cheapest of it would cost and bring."""
    before = study.folder.decided(_DECISION)
    assert before is not None, "the start is written down before the first trial"
    options, rows = _decided(before), study.trials
    rest = untried(options, [row["parameters"] for row in rows])
    slowness = _slowness(options, rows)
    next_one = min(rest, key=lambda one: one.least_s, default=None)
    left_s = left_to_train_s(study)
    study.folder.decide(
        "nothing_left",
        cheapest=None if next_one is None else _named(study, next_one),
        metric=study.metric,
        expected_gain=0.0 if next_one is None else EXPECTED_GAIN,
        cost_s=None if next_one is None else slowness * next_one.least_s,
        seconds_left=None if math.isinf(left_s) else left_s,
        num_untried=len(rest),
    )


def _note_profile(study: Study, own: _Measured) -> None:
    profile = {
        **profile_data(study),
        **profile_objects(own.designed.profile),
        **profile_machine(choose_device(study.plan.job.device), own.cost.train_s),
    }
    study.folder.decide("profile", **profile)
    log.info("AutoMode · %s", format_profile(profile))


def _announce(study: Study, options: Sequence[StartOption], num_trials: int) -> None:
    """Log the plan and its expected time."""
    start, left_s = options[0], left_to_train_s(study)
    num_epochs = start.epochs_in(left_s)
    whole_s = start.seconds(num_epochs)
    end = datetime.now() + timedelta(seconds=whole_s)
    log.info(
        "plan: 1. %s%s: %d of %d epochs of about %s, %s, until %s",
        trial_plan(study.plan, start.parameters).model.name,
        format_parameters(start.parameters),
        num_epochs,
        start.num_epochs,
        duration(start.epoch_s),
        duration(whole_s),
        f"{end:%H:%M}",
    )
    if num_trials > 1:
        log.info(
            "plan: 2. up to %d others, as far as the time goes: %s%s",
            num_trials - 1,
            "; ".join(_named(study, one) for one in options[1:num_trials][:_NUM_NAMED]),
            "; …" if num_trials - 1 > _NUM_NAMED else "",
        )
    elif _is_bounded(study):
        log.info("plan: no more; --budget 10m, or limits.max_trials, tries other recipes too")


def _named(study: Study, option: StartOption) -> str:
    model = trial_plan(study.plan, option.parameters).model
    return f"{model.name}{format_parameters(option.parameters)}"
