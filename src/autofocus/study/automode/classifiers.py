"""AutoMode for classifiers: frozen probes of several encoders say which to train."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.manifest import Manifest
from autofocus.models.network import Network
from autofocus.models.timm.classifiers import Classifier
from autofocus.study.automode.entrants import AutoStart, Entrant, ResourceBudget, contenders
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

# Of the time that is left, for looking at one more encoder.
MAX_PROBE_SHARE = 0.2


class ClassifierAutoMode:
    """Probe several encoders; see `AutoMode`."""

    def begin(self, study: Study) -> AutoStart:
        """Publish a frozen probe, and probe other encoders: the best takes the title."""
        plan = study.plan
        priors = priors_of(plan.model.kind)
        setup, probed, start = begin_probed(study, plan)
        if study.folder.published(SWEEP_PROBE_ID) is None:
            study.publish(SWEEP_PROBE_ID, probed.candidate)
        start = replace(start, first_model_s=study.seconds())
        size, num_images = setup.preprocess.size, len(probed.train)
        means = ResourceBudget(
            num_images=num_images,
            image_s=training_image_s(probed.start, size, setup.device),
            is_cpu=setup.device.type == "cpu",
            # An image is seen twice, mirrored; training computes thrice as much for each.
            needed_s=lambda one: 2 / 3 * (num_images + len(probed.held_out)) * one.image_s,
            left_s=MAX_PROBE_SHARE * study.left_s(),
            num_groups=num_layer_groups(probed.start),
        )
        found = contenders(plan, priors, means, study.track)
        looked = [ProbedEntrant(found[0], setup, probed, start.entry)]
        looked += _look_at(study, found[1:], probed)
        ranked = _ranked(study, looked)
        best = ranked[0]
        start = replace(start, entry=best.entry, candidate=best.probed.candidate)
        recipe = recipe_for(best.contender.plan, num_images)
        side = best.setup.preprocess.crop_size
        space = [
            space_around(
                one.contender,
                recipe_for(one.contender.plan, num_images),
                one.setup.preprocess.crop_size,
                priors,
            )
            for one in ranked
        ]
        return AutoStart(
            start=start,
            contenders=[one.contender for one in ranked],
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
        judged: EvaluationSet,
    ) -> tuple[Manifest, NDArray[np.float64] | None]:
        """Calibrate a mean of networks, and return its manifest and each validation image's loss.

        Args:
            common: Of all trials.
            network: On the CPU; its head is changed.
            manifest: Of the best ingredient.
            task: A classification task.
            judged: The validation images.
        """
        assert isinstance(task, ClassificationTask)
        assert isinstance(network, Classifier)
        evaluation = evaluate(network, task, judged, torch.device("cpu"))
        size = manifest.preprocess.size
        calibration, evaluation = calibrate(network, task, judged, evaluation, size)
        losses = task.sample_losses(evaluation.predictions, judged.targets)
        changed = {"calibration": calibration, "metrics": evaluation.metrics}
        return msgspec.structs.replace(manifest, **changed), losses


@dataclass(frozen=True)
class ProbedEntrant:
    """A contender whose frozen encoder was looked at.

    Attributes:
        contender: The model.
        setup: How.
        probed: What was found.
        entry: What its probe is judged by.
    """

    contender: Entrant
    setup: ProbeSetup
    probed: Probed
    entry: Score | None

    @property
    def held_out_losses(self) -> NDArray[np.float64]:
        """Loss of each held-out image, [n]."""
        return probe_losses(self.setup, self.probed)


def _look_at(study: Study, others: list[Entrant], first: Probed) -> list[ProbedEntrant]:
    """Probe the encoders of other contenders."""
    looked = []
    for number, contender in enumerate(others, 1):
        trial = f"{SWEEP_PROBE_ID}-{number}"
        setup, probed = probe(study, contender.plan, trial)
        if len(probed.held_out) < len(first.held_out) or len(probed.train) < len(first.train):
            # The budget ended before it had seen all images: there is nothing to compare.
            continue
        value = probed.candidate.metrics[study.metric]
        entry = Score(trial, value, probe_losses(setup, probed))
        num_groups = num_layer_groups(probed.start)
        looked.append(
            ProbedEntrant(replace(contender, num_groups=num_groups), setup, probed, entry)
        )
    return looked


def _ranked(study: Study, looked: list[ProbedEntrant]) -> list[ProbedEntrant]:
    """Return what may be trained, best first; what is clearly worse than the best is left out."""
    best = looked[0]
    for challenger in looked[1:]:
        comparison = _compared(best, challenger)
        study.folder.decide(
            "encoder",
            champion=_named(best),
            challenger=_named(challenger),
            evidence="out-of-fold and held-out images",
            **vars(comparison),
        )
        log.info(
            "%s against %s on %d images: log loss lower by %.4f ± %.4f: %s",
            _named(challenger),
            _named(best),
            comparison.num_pairs,
            comparison.mean_gain,
            comparison.standard_error,
            "taken" if comparison.challenger_wins else "not taken",
        )
        best = challenger if comparison.challenger_wins else best
    rest = [one for one in looked if one is not best]
    level = [one for one in rest if not _compared(one, best).challenger_wins]
    return [best, *sorted(level, key=lambda one: float(one.held_out_losses.mean()))]


def _compared(champion: ProbedEntrant, challenger: ProbedEntrant) -> Comparison:
    """Compare two probes on every image that neither head had seen."""
    before, after = champion.held_out_losses, challenger.held_out_losses
    folds = champion.probed.fold_losses, challenger.probed.fold_losses
    # Where time was short, one of them may have been fitted without folds.
    if len(folds[0]) == len(folds[1]):
        before, after = np.concatenate([folds[0], before]), np.concatenate([folds[1], after])
    return compare(before, after)


def _named(looked: ProbedEntrant) -> str:
    return f"{looked.contender.plan.model.name} at {looked.setup.preprocess.crop_size} px"
