"""AutoMode for classifiers: frozen probes of several encoders decide which to train."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import Manifest
from autofocus.models.network import Classifier, Network
from autofocus.study.automode.entrants import AutoStart, Entrant, ResourceBudget, find_entrants
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.profile import training_image_s
from autofocus.study.automode.space import space_around
from autofocus.study.best_model import Score
from autofocus.study.study import Study
from autofocus.study.trials.classifiers import (
    SWEEP_PROBE_ID,
    begin_probed,
    probe,
)
from autofocus.study.trials.finetune import probe_losses
from autofocus.study.trials.recipes import recipe_for
from autofocus.study.trials.refit import can_refit
from autofocus.study.trials.trial import Common
from autofocus.tasks.base import Task
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.evaluate import EvaluationSet, evaluate
from autofocus.training.finetune_trial import calibrate
from autofocus.training.optim import num_layer_groups
from autofocus.training.probe_trial import Probed, ProbeSetup
from autofocus.training.selection import Comparison, compare

log = logging.getLogger(__name__)

# Share of the time left that probing one more encoder may take.
MAX_PROBE_SHARE = 0.2


class ClassifierAutoMode:
    """Choose by frozen probes of several encoders."""

    def begin(self, study: Study) -> AutoStart:
        """Publish a frozen probe, then probe the other entrants and rank all."""
        plan = study.plan
        priors = priors_of(plan.model.kind)
        setup, probed, start = begin_probed(study, plan)
        if study.folder.published(SWEEP_PROBE_ID) is None:
            study.publish(SWEEP_PROBE_ID, probed.candidate)
        start = replace(start, first_model_s=study.seconds())
        size, num_images = setup.preprocess.size, len(probed.train)
        budget = ResourceBudget(
            num_images=num_images,
            image_s=training_image_s(probed.initial_model, size, setup.device),
            is_cpu=setup.device.type == "cpu",
            # An image is seen twice, mirrored; training computes thrice as much for each.
            needed_s=lambda one: 2 / 3 * (num_images + len(probed.validation)) * one.image_s,
            left_s=MAX_PROBE_SHARE * study.left_s(),
            num_groups=num_layer_groups(probed.initial_model),
        )
        found = find_entrants(plan, priors, budget, study.track)
        first = ProbedEntrant(found[0], setup, probed, start.score)
        ranked = _ranked(study, [first, *_probe_others(study, found[1:], probed)])
        best = ranked[0]
        start = replace(start, score=best.score, candidate=best.probed.candidate)
        recipe = recipe_for(best.entrant.plan, num_images)
        side = best.setup.preprocess.crop_size
        space = [
            space_around(
                one.entrant,
                recipe_for(one.entrant.plan, num_images),
                one.setup.preprocess.crop_size,
                priors,
            )
            for one in ranked
        ]
        return AutoStart(
            start=start,
            entrants=[one.entrant for one in ranked],
            space=space,
            num_epochs=recipe.num_epochs,
            side=side,
            can_refit=can_refit(study, start.common),
        )

    def finish_soup(
        self,
        common: Common,
        network: Network,
        manifest: Manifest,
        task: Task[Any, Any],
        validation: EvaluationSet,
    ) -> tuple[Manifest, NDArray[np.float64] | None]:
        """See `AutoMode.finish_soup`."""
        assert isinstance(task, ClassificationTask)
        assert isinstance(network, Classifier)
        evaluation = evaluate(network, task, validation, torch.device("cpu"))
        size = manifest.preprocess.size
        calibration, evaluation = calibrate(network, task, validation, evaluation, size)
        losses = task.sample_losses(evaluation.predictions, validation.targets)
        changed = {"calibration": calibration, "metrics": evaluation.metrics}
        return msgspec.structs.replace(manifest, **changed), losses


@dataclass(frozen=True)
class ProbedEntrant:
    """An entrant with a frozen probe.

    Attributes:
        entrant: The model.
        setup: Setup of its probe.
        probed: The probe.
        score: Score of the probe.
    """

    entrant: Entrant
    setup: ProbeSetup
    probed: Probed
    score: Score | None

    @property
    def validation_losses(self) -> NDArray[np.float64]:
        """Loss of each validation image, [n]."""
        return probe_losses(self.setup, self.probed)


def _probe_others(study: Study, others: list[Entrant], first: Probed) -> list[ProbedEntrant]:
    """Probe the encoders of other entrants."""
    found = []
    for number, entrant in enumerate(others, 1):
        trial = f"{SWEEP_PROBE_ID}-{number}"
        setup, probed = probe(study, entrant.plan, trial)
        if len(probed.validation) < len(first.validation) or len(probed.train) < len(first.train):
            # The budget ended before it had seen all images: there is nothing to compare.
            continue
        value = probed.candidate.metrics[study.metric]
        score = Score(trial, value, probe_losses(setup, probed))
        num_groups = num_layer_groups(probed.initial_model)
        found.append(ProbedEntrant(replace(entrant, num_groups=num_groups), setup, probed, score))
    return found


def _ranked(study: Study, entrants: list[ProbedEntrant]) -> list[ProbedEntrant]:
    """Return the entrants to train, best first, without those clearly worse than the best."""
    best = entrants[0]
    for candidate in entrants[1:]:
        comparison = _compared(best, candidate)
        study.folder.decide(
            "encoder",
            champion=_named(best),
            challenger=_named(candidate),
            evidence="out-of-fold and held-out images",
            **comparison.inputs(),
        )
        log.info(
            "%s against %s on %d images: log loss lower by %.4f ± %.4f: %s",
            _named(candidate),
            _named(best),
            comparison.num_pairs,
            comparison.mean_gain,
            comparison.standard_error,
            "taken" if comparison.is_better else "not taken",
        )
        best = candidate if comparison.is_better else best
    rest = [one for one in entrants if one is not best]
    level = [one for one in rest if not _compared(one, best).is_better]
    return [best, *sorted(level, key=lambda one: float(one.validation_losses.mean()))]


def _compared(best: ProbedEntrant, candidate: ProbedEntrant) -> Comparison:
    """Compare two probes on every image that neither head had seen."""
    before, after = best.validation_losses, candidate.validation_losses
    folds = best.probed.fold_losses, candidate.probed.fold_losses
    # Where time was short, one of them may have been fitted without folds.
    if len(folds[0]) == len(folds[1]):
        before, after = np.concatenate([folds[0], before]), np.concatenate([folds[1], after])
    return compare(before, after)


def _named(one: ProbedEntrant) -> str:
    return f"{one.entrant.plan.model.name} at {one.setup.preprocess.crop_size} px"
