"""The trials of a classification job: a frozen probe, then the whole network from its head."""

import logging
import time

from autofocus.manifest import ResizeCrop
from autofocus.runtime import StopRequest
from autofocus.sweep.recipes import preprocess_for, recipe_for
from autofocus.sweep.study import PACKAGING_RESERVE_S, RESERVE_FACTOR, Outcome, Study, shown
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.choose import compare
from autofocus.training.device import make_accelerator
from autofocus.training.finetune_trial import Finetuned, Finetuning, run_finetune
from autofocus.training.probe_trial import Probed, ProbeSetup, run_probe

log = logging.getLogger(__name__)

# Fine-tuning that cannot run this long is not begun.
MIN_FINETUNING_S = 10.0

PROBE_ID, FINETUNE_ID = "0", "1"


def run_trials(study: Study) -> Outcome:
    """Probe, publish, fine-tune, and publish again what is better."""
    setup = _setup(study)
    probed = _probe(study, setup)
    folder = study.folder
    # A run that was stopped or killed has it already, and perhaps a better one.
    model = folder.published(PROBE_ID) or study.publish(PROBE_ID, probed.candidate)
    seconds_to_first_model = study.seconds()
    best = probed.candidate
    finetuned = _finetune(study, setup, probed)
    if finetuned is not None and _is_better(study, setup, probed, finetuned):
        best = finetuned.candidate
        model = study.publish(FINETUNE_ID, best)
    elif not folder.is_best_model(model):
        # What an earlier, interrupted command had put above the probe has lost to it now.
        folder.publish(model, PROBE_ID)
    is_stopped = finetuned is not None and finetuned.trained.status == "stopped"
    return Outcome(best, model, seconds_to_first_model, is_stopped)


def _setup(study: Study) -> ProbeSetup:
    plan = study.plan
    assert isinstance(plan.task, ClassificationTask), "only classifiers have frozen features"
    if len(study.labels) == 1:
        log.warning("only one class, %r: there is nothing to tell apart", study.labels[0])
    weights, device = study.prepare()
    default = weights.spec.preprocess
    assert isinstance(default, ResizeCrop), "classifiers see a crop"
    return ProbeSetup(
        task=plan.task,
        weights=weights,
        preprocess=preprocess_for(plan, default),
        labels=study.labels,
        validation_frac=plan.job.validation_data_size,
        seed=study.seed,
        device=device,
        data_fingerprint=study.sources.fingerprint,
        deadline_s=study.deadline(PACKAGING_RESERVE_S),
    )


def _probe(study: Study, setup: ProbeSetup) -> Probed:
    started_s = time.monotonic()
    roles = study.samples()
    probed = run_probe(
        setup,
        roles["training"],
        roles.get("validation"),
        report=study.report,
        decide=study.folder.decide,
        track=study.track,
    )
    seconds = time.monotonic() - started_s
    value = probed.candidate.metrics[study.metric]
    log.info("frozen probe: %s %s after %.0f s", study.metric, shown(value), study.seconds())
    study.record(
        PROBE_ID, setup.weights.spec.name, value, 0, seconds, "completed", "frozen-feature probe"
    )
    return probed


def _finetune(study: Study, setup: ProbeSetup, probed: Probed) -> Finetuned | None:
    recipe = recipe_for(study.plan, len(probed.train))
    # Scoring is cheaper than the probe's features were, image by image.
    image_s = study.trials[0]["seconds"] / max(1, len(probed.train) + len(probed.held_out))
    deadline_s = study.deadline(study.packaging_s * RESERVE_FACTOR + study.test_reserve_s(image_s))
    left_s = float("inf") if deadline_s is None else deadline_s - time.monotonic()
    if recipe.num_epochs == 0 or left_s < MIN_FINETUNING_S:
        study.folder.decide("no_finetuning", num_epochs=recipe.num_epochs, seconds_left=left_s)
        return None
    study.folder.decide("recipe", trial=FINETUNE_ID, **vars(recipe))
    started_s = time.monotonic()
    with StopRequest() as stop:
        finetuned = run_finetune(
            Finetuning(
                setup=setup,
                recipe=recipe,
                accelerator=make_accelerator(setup.device),
                primary_metric=study.metric,
                folder=study.folder.path / "trials" / FINETUNE_ID,
                deadline_s=deadline_s,
                should_stop=stop,
                on_epoch=lambda report: False,
                track=study.track,
            ),
            probed,
        )
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


def _is_better(study: Study, setup: ProbeSetup, probed: Probed, finetuned: Finetuned) -> bool:
    """Decide whether fine-tuning beat the probe, on the same held-out images."""
    task = setup.task
    targets = task.encode_targets(probed.held_out.records, setup.labels)
    comparison = compare(
        task.sample_losses(probed.predictions, targets),
        task.sample_losses(finetuned.predictions, targets),
    )
    wins = comparison.challenger_wins and finetuned.trained.improved
    study.folder.decide("finetuned_against_probe", wins=wins, **vars(comparison))
    log.info(
        "fine-tuned against probe on %d images: log loss lower by %.4f ± %.4f: %s",
        comparison.num_images,
        comparison.mean_gain,
        comparison.standard_error,
        "fine-tuned wins" if wins else "the probe stays",
    )
    return wins
