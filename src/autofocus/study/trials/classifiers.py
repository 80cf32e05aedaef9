"""The trials of a classification job: a frozen probe, then the whole network from its head."""

import logging
import time
from collections.abc import Callable

from autofocus.manifest import MANIFEST_NAME, encode_manifest
from autofocus.runtime import StopRequest, write_atomically
from autofocus.study.best_model import Score
from autofocus.study.resolve import Plan
from autofocus.study.study import PACKAGING_RESERVE_S, RESERVE_FACTOR, Outcome, Study, format_metric
from autofocus.study.trials.cross_validation import Losses, cross_validate
from autofocus.study.trials.finetune import finetune, probe_and_finetune, probe_losses, probe_setup
from autofocus.study.trials.prepare import prepare_trial
from autofocus.study.trials.recipes import recipe_for
from autofocus.study.trials.refit import TrainedTrial, can_refit, first_training_s, refit
from autofocus.study.trials.trial import Common, Hooks, SweepStart, TrialResult, common_of
from autofocus.training.finetune_trial import Finetuned
from autofocus.training.probe_trial import Probed, ProbeSetup, run_probe
from autofocus.training.selection import compare
from autofocus.training.trial_log import trial_facts, trial_log

log = logging.getLogger(__name__)

# Fine-tuning that cannot run this long is not begun.
MIN_FINETUNING_S = 10.0

PROBE_ID, FINETUNE_ID = "0", "1"
# The trials of a sweep are numbered from 0.
SWEEP_PROBE_ID = "probe"


class ClassifierTrials:
    """Probe, then fine-tune; see `Trials`."""

    def run_single(self, study: Study) -> Outcome:
        """Probe, publish, fine-tune, and publish the better."""
        setup, probed = probe(study, study.plan, PROBE_ID)
        folder = study.folder
        # A run that was stopped or killed has it already, and perhaps a better one.
        model = folder.published(PROBE_ID) or study.publish(PROBE_ID, probed.candidate)
        seconds_to_first_model = study.seconds()
        best_id, best = PROBE_ID, probed.candidate
        with StopRequest() as stop:
            finetuned = _finetune(study, setup, probed, stop)
            if finetuned is not None and _is_better(study, setup, probed, finetuned, stop):
                best_id, best = FINETUNE_ID, finetuned.candidate
                model = study.publish(FINETUNE_ID, best)
                trained = _as_trained(study, probed, finetuned)
                again = refit(
                    study, common_of(study, probed.train, probed.validation), trained, stop
                )
                if again is not None:
                    best_id, best = trained.refit_id, again
                    model = study.publish(trained.refit_id, again)
            elif not folder.is_best_model(model):
                # What an earlier, interrupted command had put above the probe has lost to it now.
                folder.publish(model, PROBE_ID)
        return Outcome(best_id, best.metrics, model, seconds_to_first_model, stop())

    def begin_sweep(self, study: Study, plan: Plan) -> SweepStart:
        """Publish the frozen probe of the first trial's model, and split the images with it."""
        return begin_probed(study, plan)[2]

    def train(
        self, common: Common, plan: Plan, trial: str, deadline_s: float | None, hooks: Hooks
    ) -> TrialResult:
        """Train a classifier from a frozen probe of its own model; see `TrainTrial`."""
        _, finetuned = probe_and_finetune(common, plan, trial, deadline_s, hooks)
        return TrialResult(finetuned.candidate, finetuned.trained, finetuned.losses)


def probe(study: Study, plan: Plan, trial: str) -> tuple[ProbeSetup, Probed]:
    """Look at all images and fit a head on the frozen encoder of a plan's model.

    Args:
        study: The run.
        plan: Its own, or that of a trial.
        trial: Id under which the probe is kept.
    """
    if len(study.labels) == 1:
        log.warning("only one class, %r: there is nothing to tell apart", study.labels[0])
    weights, device = prepare_trial(plan, len(study.labels), study.track)
    deadline_s = study.deadline(PACKAGING_RESERVE_S)
    fingerprint = study.sources.fingerprint
    setup = probe_setup(plan, weights, device, study.labels, fingerprint, deadline_s)
    started_s = time.monotonic()
    roles, folder = study.samples(), study.folder.path / "trials" / trial
    train, validation = roles["training"], roles.get("validation")
    name = weights.spec.name
    with trial_log(folder, trial_facts(name, train, validation, weights, device, "no", deadline_s)):
        probed = run_probe(
            setup,
            train,
            validation,
            report=study.report,
            decide=study.folder.decide,
            track=study.track,
        )
    write_atomically(folder / MANIFEST_NAME, encode_manifest(probed.candidate.manifest))
    seconds = time.monotonic() - started_s
    value = probed.candidate.metrics[study.metric]
    log.info(
        "frozen probe: %s %s after %.0f s", study.metric, format_metric(value), study.seconds()
    )
    study.record(trial, name, value, 0, seconds, "completed", "frozen-feature probe")
    return setup, probed


def begin_probed(study: Study, plan: Plan) -> tuple[ProbeSetup, Probed, SweepStart]:
    """Probe, and return setup, probe and the start of a sweep."""
    started_s = time.monotonic()
    setup, probed = probe(study, plan, SWEEP_PROBE_ID)
    num_images = len(probed.train) + len(probed.validation)
    image_s = (time.monotonic() - started_s) / max(1, num_images)
    candidate = probed.candidate
    score = Score(SWEEP_PROBE_ID, candidate.metrics[study.metric], probe_losses(setup, probed))
    common = common_of(study, probed.train, probed.validation)
    return setup, probed, SweepStart(common, image_s, score, candidate)


def _finetune(
    study: Study, setup: ProbeSetup, probed: Probed, is_stopped: Callable[[], bool]
) -> Finetuned | None:
    recipe = recipe_for(study.plan, len(probed.train))
    reserve_s = study.test_reserve_s(_image_s(study, probed))
    deadline_s = study.deadline(study.packaging_s * RESERVE_FACTOR + reserve_s)
    left_s = float("inf") if deadline_s is None else deadline_s - time.monotonic()
    if recipe.num_epochs == 0 or left_s < MIN_FINETUNING_S:
        study.folder.decide("no_finetuning", num_epochs=recipe.num_epochs, seconds_left=left_s)
        return None
    started_s = time.monotonic()
    common = common_of(study, probed.train, probed.validation)
    first_s = first_training_s(study, common, left_s) if can_refit(study, common) else 0.0
    if deadline_s is not None and first_s >= MIN_FINETUNING_S:
        deadline_s = started_s + first_s
    hooks = Hooks(study.folder.decide, should_stop=is_stopped, track=study.track)
    finetuned = finetune(common, setup, probed, recipe, FINETUNE_ID, deadline_s, hooks)
    trained = finetuned.trained
    study.record(
        FINETUNE_ID,
        setup.weights.spec.name,
        finetuned.candidate.metrics[study.metric],
        trained.num_epochs,
        time.monotonic() - started_s,
        trained.status,
        trained.reason,
    )
    return finetuned


def _image_s(study: Study, probed: Probed) -> float:
    """Return the maximum seconds to score an image: the probe's features took longer."""
    seconds: float = study.trials[0]["seconds"]
    return seconds / max(1, len(probed.train) + len(probed.validation))


def _as_trained(study: Study, probed: Probed, finetuned: Finetuned) -> TrainedTrial:
    return TrainedTrial(
        trial=FINETUNE_ID,
        plan=study.plan,
        candidate=finetuned.candidate,
        losses=finetuned.losses,
        seconds=study.trials[-1]["seconds"],
        image_s=_image_s(study, probed),
    )


def _is_better(
    study: Study, setup: ProbeSetup, probed: Probed, finetuned: Finetuned, stop: Callable[[], bool]
) -> bool:
    """Decide whether fine-tuning beat the probe, on the same held-out images."""
    losses = Losses(probe_losses(setup, probed), finetuned.losses)
    if finetuned.trained.improved:
        trained = _as_trained(study, probed, finetuned)
        common = common_of(study, probed.train, probed.validation)
        losses = cross_validate(study, common, trained, losses, stop)
    comparison = compare(losses.before, losses.after)
    wins = comparison.is_better and finetuned.trained.improved
    study.folder.decide("finetuned_against_probe", wins=wins, **comparison.inputs())
    log.info(
        "fine-tuned against probe on %d images: log loss lower by %.4f ± %.4f: %s",
        comparison.num_pairs,
        comparison.mean_gain,
        comparison.standard_error,
        "fine-tuned wins" if wins else "the probe stays",
    )
    return wins
