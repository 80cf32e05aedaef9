"""AutoMode for classifiers: frozen heads first, then what promises most for the time it takes.

1. Look at all images with the embedded encoder, fit a head and publish it. 2. Until the time is
over: the action with the most expected gain for its cost (`planner`): heads on other encoders, two
of them side by side, tails trained on cached activations, two networks as one. 3. All
candidates are judged on the same images, out of fold (`candidates`); what wins is published at
once: its network has learnt from all images already.
"""

import logging
import math
import shutil
import time
from collections.abc import Collection, Sequence
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np

from autofocus.errors import DataError
from autofocus.study.automode.actions import (
    ACTIVATIONS,
    Action,
    Head,
    Pair,
    Tail,
    Whole,
    frozen_head,
)
from autofocus.study.automode.candidates import Contest, Judged
from autofocus.study.automode.encoders import (
    Encoder,
    EncoderSource,
    other_sources,
    own_source,
    side_by_side,
    with_heads,
)
from autofocus.study.automode.planner import Planner, Priced
from autofocus.study.automode.profile import (
    duration,
    profile_data,
    profile_machine,
)
from autofocus.study.scheduler import PROBE_ID, Rules, Search, TrialController
from autofocus.study.search.samplers import RandomSampler
from autofocus.study.study import (
    Study,
    format_metric,
)
from autofocus.study.trials.base import failure, is_disk_full
from autofocus.study.trials.classifiers import is_within_limits, look, note_leak
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.device import choose_device
from autofocus.training.features import measure_view_s
from autofocus.training.folds import MAX_FOLDED_IMAGES, make_folds
from autofocus.training.learning_curve import measure_learning_curve
from autofocus.training.tail import num_steps, tail_recipe

log = logging.getLogger(__name__)

# Expected gains, as shares of the first head's loss: from the tables in docs/reference/automode.md.
_HEAD_GAIN, _SIDE_GAIN, _PAIR_GAIN = 0.08, 0.12, 0.08
_LONGER_GAIN, _WHOLE_GAIN = 0.03, 0.2
# Of tails, that of the encoder with the best frozen head first; a fourth encoder's is not trained.
_TAIL_GAINS: Final = (0.2, 0.12, 0.05)
# Steps that a tail is trained for at least, within these numbers of epochs: on 134 photos 32 steps
# were not enough on every seed, 64 were (benchmarks/tail_training.py).
_NUM_STEPS: Final = 60
_MIN_EPOCHS, _MAX_EPOCHS = 8, 30
# Share of the time left that a package may take before the end.
_PACKAGE_SHARE: Final = 0.05
# Seconds to look at very many images for before the first model, and the share of the time left to
# look at more of them after it.
_FIRST_LOOK_S: Final = 25.0
_LOOK_SHARE: Final = 0.35
# Part of the time left that the first head may have taken, where how it learns is measured too.
_CURVE_SHARE: Final = 0.1


def search_classifiers(study: Study) -> Search:
    """Publish a frozen head; the search itself is the last phase."""
    contest = _begin(study)
    rules = Rules(num_trials=0, policy=None, metric=study.metric)
    return Search(RandomSampler((), study.seed), rules, (partial(_improve, contest),))


def _begin(study: Study) -> Contest:
    """Look at all images, and publish a head on the features of the plan's encoder."""
    given = [study.sources.training, study.sources.validation]
    deadline_s = study.deadline(study.packaging_s)
    if sum(len(data.records) for data in given if data is not None) <= MAX_FOLDED_IMAGES:
        return _publish_head(study, PROBE_ID, deadline_s)
    # A model that can be served comes first: of very many images a part is enough for one.
    now_s = time.monotonic()
    first_s = min(now_s + _FIRST_LOOK_S, deadline_s or math.inf)
    _publish_head(study, PROBE_ID, first_s, is_last=False)
    look_s = _LOOK_SHARE * study.left_s()
    until_s = time.monotonic() + look_s if math.isfinite(look_s) else None
    return _publish_head(study, f"{PROBE_ID}-all", until_s)


def _publish_head(
    study: Study, name: str, deadline_s: float | None, *, is_last: bool = True
) -> Contest:
    """Look at the images until a deadline, and publish a head on their features.

    Args:
        study: The run.
        name: Id of its row.
        deadline_s: Time (`time.monotonic()`) by which to end; None for no limit.
        is_last: Whether images that are not seen now take no part in the run.
    """
    started_s, plan = time.monotonic(), study.plan
    looked, num_training = look(study, plan, name, deadline_s, is_last=is_last)
    num_given = len(study.samples) - num_training
    if not num_training or (study.sources.validation is not None and not num_given):
        which = "validation" if num_training else "training"
        raise DataError(
            f"no {which} image can be used; data_check.json in the run folder says why."
        )
    labels = [plan.task.record_labels(record) for record in study.samples.records]
    folds = make_folds(labels, study.samples.groups, study.seed, num_given)
    study.train, study.validation = folds.fits[-1], folds.judged
    if num_given:
        note_leak(study, study.train, study.validation)
    study.folder.decide(
        "folds", num_images=num_training, num_folds=len(folds.parts), num_judged=len(folds.judged)
    )
    contest = Contest(study, folds)
    encoder = with_heads(study, looked, own_source(study), folds, started_s)
    contest.encoders.append(encoder)
    first = frozen_head(contest, encoder)
    contest.add([first])
    contest.served = first
    _record(contest, first, 0, encoder.seconds, "frozen features, logistic head")
    study.first_score, study.first_candidate = contest.to_serve(first)
    if study.folder.published(first.id) is None:
        study.publish(first.id, study.first_candidate)
    return contest


def _improve(contest: Contest, study: Study, scheduler: TrialController) -> None:
    """Do what promises most for its time, until there is no time or nothing left to do."""
    encoder = contest.encoders[0]
    size, device = encoder.spec.preprocess.size, choose_device(encoder.spec.device)
    num_views = encoder.rows.shape[0] * encoder.rows.shape[1]
    planner = Planner(contest, measure_view_s(encoder.network, size, device, num_views))
    sources = other_sources(study)
    if encoder.seconds < _CURVE_SHARE * planner.left_s():
        _measure_curve(contest)
    done = {contest.served.id}
    _announce(contest, planner, _options(contest, sources, done))
    while not study.is_stopped():
        options = _options(contest, sources, done)
        priced = planner.choose(options)
        if contest.best is not contest.served and _is_due(contest, planner, priced):
            contest.served = contest.best
            scheduler.replace_best(*contest.to_serve(contest.best))
            continue
        if priced is None:
            _end(contest, planner, options)
            break
        done.add(priced.action.id)
        action = priced.action
        # Asked only now: an export takes as long as many photos.
        if isinstance(action, Head) and not is_within_limits(study, action.source.plan):
            continue
        found = _run(contest, planner, priced)
        if found:
            contest.add(found)
    if not study.is_stopped():
        shutil.rmtree(study.folder.path / ACTIVATIONS, ignore_errors=True)


def _is_due(contest: Contest, planner: Planner, priced: Priced | None) -> bool:
    """Return whether the best is published before what comes next: it is long, and there is time.

    A package takes seconds, in which a short run could train.
    """
    if priced is None:
        return True
    package_s = contest.study.packaging_s * contest.best.size / contest.served.size
    return priced.seconds > 2 * package_s and package_s < _PACKAGE_SHARE * planner.left_s()


def _measure_curve(contest: Contest) -> None:
    """Record how the first head's loss falls with the number of images."""
    study, encoder, folds = contest.study, contest.encoders[0], contest.folds
    task = study.plan.task
    if not isinstance(task, ClassificationTask):
        return
    curve = measure_learning_curve(
        encoder.rows,
        np.asarray(study.samples.targets),
        [judged for _, judged in folds.parts],
        kind=task.activation,
        num_classes=len(study.labels),
        c=encoder.head.c,
        groups=study.samples.groups,
        seed=study.seed,
    )
    if curve is not None:
        study.folder.decide("learning_curve", **curve.inputs())


def _options(
    contest: Contest, sources: Sequence[EncoderSource], done: Collection[str]
) -> list[Action]:
    """Return what can be done next and was not."""
    study = contest.study
    limits = study.plan.job.limits
    is_limited = "max_trials" in limits.model_fields_set
    # Without a time nor a number there is one training: what was asked for is a good model soon.
    goes_on = is_limited or study.plan.job.budget_s is not None
    alone = [one for one in _ranked(contest) if not one.weights.spec.members]
    options: list[Action] = [Head(source, _HEAD_GAIN) for source in sources]
    pairs = [two for two in combinations(alone, 2) if two[0].preprocess == two[1].preprocess]
    if pairs:
        options.append(Head(side_by_side(study, pairs[0]), _SIDE_GAIN, pairs[0]))
    tails: list[Action] = []
    gains, num_epochs = _TAIL_GAINS if goes_on else _TAIL_GAINS[:1], _num_epochs(contest)
    for encoder, gain in zip([one for one in alone if one.network.cuts], gains, strict=False):
        is_first = goes_on and not tails
        tails += _tails(encoder, done, num_epochs, gain, goes_deeper=is_first)
    num_trained = sum(name.startswith(("tail-", "whole-")) for name in done)
    if goes_on:
        tails += [Whole(one, _WHOLE_GAIN) for one in alone[:1]]
    options += [] if is_limited and num_trained >= limits.max_trials else tails
    options += _pairs(contest)
    return [one for one in options if one.id not in done]


def _tails(
    encoder: Encoder, done: Collection[str], num_epochs: int, gain: float, *, goes_deeper: bool
) -> list[Action]:
    """Return the tails of an encoder that may be trained next."""
    cut, *deeper = encoder.network.cuts
    first = Tail(encoder, cut, num_epochs, gain, min_epochs=math.ceil(num_epochs / 2))
    if not any(name.startswith(first.stem_id) for name in done):
        return [first]
    if not goes_deeper:
        return []
    more = [Tail(encoder, one, num_epochs, _LONGER_GAIN) for one in deeper[:1]]
    return [*more, Tail(encoder, cut, 2 * num_epochs, _LONGER_GAIN)]


def _num_epochs(contest: Contest) -> int:
    """Return the epochs of a tail: on few images more, for enough steps."""
    steps_an_epoch = num_steps(tail_recipe(1), len(contest.folds.fits[0]))
    return int(np.clip(math.ceil(_NUM_STEPS / steps_an_epoch), _MIN_EPOCHS, _MAX_EPOCHS))


def _pairs(contest: Contest) -> list[Action]:
    """Return the best networks of encoders side by side as one, where one of them is trained."""
    best: dict[str, Judged] = {}
    for one in contest.candidates:
        known = best.get(one.model)
        if known is None or _loss(one) < _loss(known):
            best[one.model] = one
    pairs = [
        Pair(encoder, tuple(best[name] for name in encoder.weights.spec.members), _PAIR_GAIN)
        for encoder in contest.encoders
        if encoder.weights.spec.members
    ]
    # Frozen both, one head on the features of both does better.
    return [pair for pair in pairs if any("trained_share" in one.parameters for one in pair.both)]


def _loss(one: Judged) -> float:
    return float(one.losses.mean())


def _ranked(contest: Contest) -> list[Encoder]:
    """Return the encoders, the one with the best frozen head first."""
    losses = {one.id: _loss(one) for one in contest.candidates}
    return sorted(contest.encoders, key=lambda one: losses[one.spec.id])


def _run(contest: Contest, planner: Planner, priced: Priced) -> list[Judged]:
    """Return the candidates of an action; none where it failed or the time ended."""
    study, action = contest.study, priced.action
    left_s = planner.left_s()
    deadline_s = None if math.isinf(left_s) else time.monotonic() + left_s
    context = study.context(action.id, deadline_s)
    study.folder.decide(
        "action",
        trial=action.id,
        expected_gain_share=action.gain,
        expected_s=priced.seconds,
        seconds_left=None if math.isinf(left_s) else left_s,
    )
    eta = None if math.isinf(left_s) else time.time() + left_s
    study.report_progress("trials", action.id, deadline_s=context.deadline_s, eta=eta)
    log.info("%s: about %s", action.id, duration(priced.seconds))
    started_s = time.monotonic()
    try:
        found = action.run(contest, context)
    except Exception as error:
        if is_disk_full(error):
            raise
        log.warning("%s: %s", action.id, failure(error))
        seconds = time.monotonic() - started_s
        study.record(action.id, action.model, None, 0, seconds, "failed", failure(error))
        return []
    seconds = time.monotonic() - started_s
    if not found:
        study.folder.decide("action_unfinished", trial=action.id, seconds=seconds)
        return []
    planner.took(action, seconds)
    best, gain = contest.best_of(found)
    reason = f"log loss lower by {gain.mean:.4f} ± {gain.standard_error:.4f} than the first head"
    _record(contest, best, action.num_epochs, seconds, reason)
    return found


def _record(contest: Contest, one: Judged, num_epochs: int, seconds: float, reason: str) -> None:
    """Add a candidate's row to the leaderboard, and say what it is."""
    study, value = contest.study, contest.metrics(one)[contest.study.metric]
    row = {
        "id": one.id,
        "model": one.model,
        "status": "completed",
        "value": value,
        "epochs": num_epochs,
        "seconds": round(seconds, 3),
        "reason": reason,
        "parameters": dict(one.parameters),
        "loss": _loss(one),
    }
    study.add_row(row)
    log.info(
        "%s: %s %s, log loss %.4f on %d images (%s) · %.0f s",
        one.id,
        study.metric,
        format_metric(value),
        _loss(one),
        len(one.losses),
        contest.metrics_of,
        seconds,
    )


def _announce(contest: Contest, planner: Planner, options: Sequence[Action]) -> None:
    """Log and record the plan."""
    study, priced = contest.study, planner.layout(options)
    left_s = planner.left_s()
    study.folder.decide(
        "automode",
        actions=[{"trial": one.action.id, "expected_s": one.seconds} for one in priced],
        seconds_left=None if math.isinf(left_s) else left_s,
        **profile_data(study),
        **profile_machine(choose_device(study.plan.job.device), planner.pass_s),
    )
    steps = ", ".join(f"{one.action.id} ({duration(one.seconds)})" for one in priced)
    log.info("plan: %s; then what the results suggest", steps or "nothing else fits the time")


def _end(contest: Contest, planner: Planner, options: Sequence[Action]) -> None:
    """Record that there is nothing left to do, or no time for the cheapest of it."""
    cheapest, left_s = planner.cheapest(options), planner.left_s()
    gain = 0.0 if cheapest is None else cheapest.action.gain * _loss(contest.candidates[0])
    contest.study.folder.decide(
        "nothing_left",
        cheapest=None if cheapest is None else cheapest.action.id,
        expected_gain=gain,
        cost_s=None if cheapest is None else cheapest.seconds,
        seconds_left=None if math.isinf(left_s) else left_s,
    )
    if cheapest is not None:
        log.info(
            "no time for more: the cheapest is %s, about %s, and %s are left",
            cheapest.action.id,
            duration(cheapest.seconds),
            duration(max(0.0, left_s)),
        )
