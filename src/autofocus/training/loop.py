"""The training loop of a task, its loss and a network; knows no packages and no sweeps.

Every epoch is a function of (seed, epoch) and the checkpoint holds everything else, so that a
run that was killed and resumed has the same losses as one that was not.

Notation for tensor shapes:
    - n: images in a batch, h, w: height and width of the input in pixels, k: classes
"""

import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from autofocus.data.batches.loader import Batch, Loader
from autofocus.models.network import Network
from autofocus.runtime import Track, no_progress, write_atomically
from autofocus.tasks.base import Task
from autofocus.training import checkpoint
from autofocus.training.averaging import Mixture, WeightAverage
from autofocus.training.evaluate import Evaluation, EvaluationSet, evaluate, mean_loss
from autofocus.training.losses import Objective
from autofocus.training.memory import DryStep, fitting_batch
from autofocus.training.optim import (
    build_optimizer,
    freeze_layers,
    norms_to_freeze,
    rate_factor,
    set_rates,
)
from autofocus.training.recipe import Recipe
from autofocus.training.selection import EarlyStopping, compare, latest_is_kept
from autofocus.training.step import DivergedError, Stepper

log = logging.getLogger(__name__)

T = TypeVar("T")

# Steps to time before the schedule is fitted to a budget; the first one is warm-up.
NUM_TIMED_STEPS = 4
# Reason of a run that `on_epoch` ended.
ENDED_EARLY = "ended early: other trials are better"
# Reason of a run that time ended.
OUT_OF_TIME = "budget"
# Change of the planned steps, as a share of them, from which a line is logged.
_NOTED_CHANGE = 0.05
# Key of the losses of images among an evaluation's metrics.
_SAMPLE_LOSSES = "sample_losses"


@dataclass(frozen=True)
class Trained:
    """Result of a training run.

    Attributes:
        network: Network with the best weights, in eval mode, on the CPU.
        evaluation: Evaluation of these weights on validation.
        num_epochs: Finished epochs.
        status: `completed`, `stopped` by the user, or `failed`.
        reason: Reason why it ended.
        improved: Whether any epoch beat the initial network.
        best_epoch: Epoch of these weights; 0 is the initial network.
        initial_share: Share of the initial weights in these weights.
    """

    network: Network
    evaluation: Evaluation
    num_epochs: int
    status: str
    reason: str
    improved: bool
    best_epoch: int = 0
    initial_share: float = 0.0


@dataclass
class Progress:
    """State of a run: the JSON of a checkpoint.

    Attributes:
        epoch: Finished epochs.
        batch: Finished batches of the current epoch.
        step: Optimiser steps so far.
        num_steps: Optimiser steps at which training ends, as planned; 0 is not planned yet.
        epoch_steps: Optimiser steps of the current epoch.
        done_frac: Share of all steps that was done when this epoch began.
        loss_sum: Sum of the losses of the current epoch's steps.
        best: Score of the weights that are kept.
        best_epoch: Epoch of these weights.
        highest: Highest score so far, for early stopping.
        num_worse: Evaluations since then that count for early stopping.
        micro_batch: Images computed at once; 0 is all of a step's.
        scaler: State of fp16's loss scaling; empty in other precisions.
        closing_s: Seconds that the last evaluation took, with saving.
        ended: Reason why training has ended, or None.
        history: Reports, one an evaluation.
        sample_losses: Loss of each validation image, one row an evaluation.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    num_steps: int = 0
    epoch_steps: int = 0
    done_frac: float = 0.0
    loss_sum: float = 0.0
    best: float = float("-inf")
    best_epoch: int = 0
    highest: float = float("-inf")
    num_worse: int = 0
    micro_batch: int = 0
    scaler: dict[str, float] = field(default_factory=dict)
    closing_s: float = 0.0
    ended: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    sample_losses: list[list[float]] = field(default_factory=list)


@dataclass(eq=False)
class TrainingLoop:
    """Trains a network and keeps its best weights; resumes from `folder/last` where it exists.

    Attributes:
        network: Initial network, on `accelerator.device`, the same on every process.
        task: The task.
        objective: Loss of a batch.
        recipe: Training recipe.
        training: Loader of augmented, shuffled batches.
        validation: Images that epochs are evaluated on.
        score: Function from metrics to one number, larger is better; -inf where they are undefined.
        folder: Trial folder: `last/`, `best/`, `metrics.jsonl`.
        seed: Seed of everything random.
        deadline_s: Time (`time.monotonic()`) by which training ends; None for no limit.
        should_stop: Whether the user has asked to stop; called at each step.
        on_epoch: Called with each evaluation; True ends training.
        track: Progress display.
        train_subset: Training images to evaluate beside validation; None evaluates none.
        initial_is_valid: Whether the initial weights are a valid result. If not, the latest weights
            are kept for as long as no score is above 0.
        sample_losses: Function from predictions for validation to a loss of each image. Then the
            latest weights are kept unless others were clearly better; None keeps the best score.
        primary_metric: Metric that the log names.
    """

    network: Network
    task: Task[Any, Any]
    objective: Objective
    recipe: Recipe
    training: Loader
    validation: EvaluationSet
    score: Callable[[dict[str, Any]], float]
    folder: Path
    seed: int
    accelerator: Accelerator
    deadline_s: float | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_epoch: Callable[[dict[str, Any]], bool] = lambda report: False
    track: Track = no_progress
    train_subset: EvaluationSet | None = None
    initial_is_valid: bool = True
    sample_losses: Callable[[list[Any]], Sequence[float]] | None = None
    primary_metric: str = ""

    def __post_init__(self) -> None:
        recipe = self.recipe
        freeze_layers(self.network, recipe.layers_to_freeze, recipe.frozen_frac)
        self.frozen_norms = norms_to_freeze(self.network, recipe)
        optimizer = build_optimizer(self.network, recipe)
        self.base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        decay, share = recipe.ema_decay, recipe.initial_share
        self.average = None if decay is None else WeightAverage(self.network, decay)
        self.mixture = Mixture(self.network, share) if share > 0 else None
        # The last evaluated network, and the share of the initial weights in it.
        self.evaluated: tuple[Network, float] = self.network, 0.0
        # Not wrapped for several processes: the stepper adds up gradients itself.
        self.model = self.accelerator.prepare_model(self.network, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.stepper = Stepper(self.model, self.optimizer, self.accelerator, recipe)
        self.stopping = EarlyStopping(
            recipe.early_stopping_patience, recipe.early_stopping_delay, recipe.early_stopping
        )
        self.steps_an_epoch = math.ceil(self.training.num_batches / recipe.accumulation)
        self.at = Progress(num_steps=self.steps_an_epoch * recipe.num_epochs)
        self.step_times: list[float] = []

    def run(self) -> Trained:
        """Train until done, stopped, out of time or out of patience."""
        if not self._resume():
            self._start()
            self._fit_into_memory()
        try:
            ended = self._ended()
            while ended is None:
                ended = self._epoch() or self._ended()
        except DivergedError as error:
            ended = ("failed", str(error))
        return self._result(*ended)

    def _start(self) -> None:
        """Evaluate the initial network: nothing worse is ever kept."""
        started_s = time.monotonic()
        self._add_evaluation(self._metrics(), loss=None, seconds=0.0)
        self.at.closing_s = time.monotonic() - started_s

    def _fit_into_memory(self) -> None:
        """Compute fewer images at once where the worst batch would not fit."""
        num_images = self.stepper.micro_batch or self.training.own_batch_size
        self._to_train_mode()
        network = self.accelerator.unwrap_model(self.model)
        step = DryStep(network, self.optimizer, self.objective, self.accelerator)
        num_fitting = fitting_batch(step, self.training, num_images)
        if num_fitting < num_images:
            self.stepper.micro_batch = num_fitting

    def _ended(self) -> tuple[str, str] | None:
        """Return status and reason if training has ended, or None."""
        if self.at.ended is not None:
            return "completed", self.at.ended
        if self.at.batch:
            # Interrupted in the middle of an epoch, which still has to be evaluated.
            return None
        if self.stopping.should_stop:
            patience = self.recipe.early_stopping_patience
            return "completed", f"early stopping: no better for {patience} evaluations"
        if self.at.step < self.at.num_steps:
            return None
        is_whole = self.at.num_steps == self.steps_an_epoch * self.recipe.num_epochs
        return "completed", "all epochs done" if is_whole else OUT_OF_TIME

    def _epoch(self) -> tuple[str, str] | None:
        """Train and evaluate (the rest of) an epoch; return status and reason if interrupted."""
        at, started_s = self.at, time.monotonic()
        if at.batch == 0:
            at.loss_sum, at.epoch_steps = 0.0, 0
            at.done_frac = at.step / max(1, at.num_steps)
            torch.manual_seed(_epoch_seed(self.seed, at.epoch))
        self._to_train_mode()
        first, waiting_since_s = at.batch, started_s
        for batches in self._steps():
            self._set_rates(self.at.step)
            images, targets = self._on_device(batches)
            at.loss_sum += self.stepper.step(images, targets, self.objective.loss)
            self._count_step(len(batches))
            now_s = time.monotonic()
            self.step_times.append(now_s - waiting_since_s)
            waiting_since_s = now_s
            if self._is_plan_due():
                self._plan()
            stop, late = self._agreed([self.should_stop(), self._is_late()])
            if stop:
                self._save_last()
                return "stopped", "stopped by the user"
            if late:
                at.ended = OUT_OF_TIME
                break
        num_images = (at.batch - first) * self.recipe.batch_size
        if at.ended is None:
            at.epoch, at.batch = at.epoch + 1, 0
        self._finish_epoch(time.monotonic() - started_s, num_images)
        return None

    def _steps(self) -> Iterator[list[Batch]]:
        """Yield the batches of each remaining step of this epoch."""
        at, training = self.at, self.training
        if at.step >= at.num_steps:
            return
        num_left = training.num_batches - at.batch
        batches = training.epoch(at.epoch, at.batch, at.done_frac)
        group: list[Batch] = []
        for batch in self.track(batches, f"epoch {at.epoch + 1}", num_left):
            group.append(batch)
            is_last = at.batch + len(group) == training.num_batches
            if len(group) == self.recipe.accumulation or is_last:
                yield group
                group = []
                if at.step >= at.num_steps:
                    return

    def _on_device(self, batches: list[Batch]) -> tuple[Tensor, Any]:
        """Return images and targets of a step, varied (such as by mixup), on the device."""
        device, objective = self.accelerator.device, self.objective
        images = torch.cat([torch.from_numpy(batch.images) for batch in batches])
        images = images.to(device, non_blocking=True)
        targets = objective.collate([t for batch in batches for t in batch.targets], device)
        return objective.vary(images, targets)

    def _count_step(self, num_batches: int) -> None:
        self.at.step += 1
        self.at.epoch_steps += 1
        self.at.batch += num_batches
        if self.average is not None:
            self.average.update(self.accelerator.unwrap_model(self.model), self.at.step)

    def _set_rates(self, step: int) -> None:
        factor = rate_factor(self.recipe, step, self.at.num_steps, self.steps_an_epoch)
        set_rates(self.optimizer, self.base_rates, factor)

    def _is_plan_due(self) -> bool:
        """Return whether twice as many steps were timed as for the last plan, or all are done.

        The first steps of a busy machine may be far slower than the rest.
        """
        num = len(self.step_times)
        is_power_of_two = num & (num - 1) == 0
        return num >= NUM_TIMED_STEPS and (is_power_of_two or self.at.step >= self.at.num_steps)

    def _plan(self) -> None:
        """Fit the schedule to the time left, so that the learning rate has decayed by then."""
        if self.deadline_s is None or not self.step_times:
            return
        at = self.at
        epoch_s = self._step_s() * self.steps_an_epoch
        epoch_s += at.closing_s / self.recipe.evaluation_frequency
        left_s = self.deadline_s - time.monotonic() - self._reserve_s()
        num_steps = int(max(0.0, left_s) / max(epoch_s, 1e-9) * self.steps_an_epoch)
        planned = min(at.step + num_steps, self.steps_an_epoch * self.recipe.num_epochs)
        planned = self._agreed([planned])[0]
        if abs(planned - at.num_steps) > _NOTED_CHANGE * at.num_steps:
            epochs = planned / self.steps_an_epoch
            log.info("budget: %.1f of %d epochs planned", epochs, self.recipe.num_epochs)
        at.num_steps = planned

    def _step_s(self) -> float:
        """Return the seconds of a recent step, with the wait for its batches."""
        times = self.step_times[1:] or self.step_times
        return statistics.median(times[len(times) // 2 :][-self.steps_an_epoch :])

    def _is_late(self) -> bool:
        """Return whether another step would leave no time to evaluate and save."""
        if self.deadline_s is None:
            return False
        return time.monotonic() + self._step_s() + self._reserve_s() >= self.deadline_s

    def _reserve_s(self) -> float:
        """Return the seconds to evaluate and save, and to evaluate the best at the end."""
        return 2 * self.at.closing_s

    def _agreed(self, values: list[Any]) -> list[Any]:
        """Return the main process's values: clocks and signals differ between processes."""
        if self.accelerator.num_processes == 1:
            return values
        agreed: list[Any] = broadcast_object_list(values)
        return agreed

    def _finish_epoch(self, seconds: float, num_images: int) -> None:
        """Evaluate if it is due, keep the best, and save."""
        at, started_s = self.at, time.monotonic()
        is_over = at.ended is not None or at.step >= at.num_steps
        is_due = is_over or at.epoch % self.recipe.evaluation_frequency == 0
        if is_due:
            loss = at.loss_sum / max(1, at.epoch_steps)
            self._add_evaluation(self._metrics(), loss, seconds)
            self._tell(loss, num_images / max(seconds, 1e-9))
            if not is_over:
                self._plan()
        self._save_last()
        if is_due:
            at.closing_s = time.monotonic() - started_s

    def _metrics(self) -> dict[str, Any]:
        """Return the metrics of the weights that are evaluated."""
        return self._from_main(self._measured)

    def _measured(self) -> dict[str, Any]:
        evaluation = self._evaluate_weights()
        network, share = self.evaluated
        metrics = dict(evaluation.metrics)
        if self.mixture is not None:
            metrics["start_share"] = share
        if self.sample_losses is not None:
            metrics[_SAMPLE_LOSSES] = list(self.sample_losses(evaluation.predictions))
        if self.train_subset is not None:
            device = self.accelerator.device
            subset = evaluate(network, self.task, self.train_subset, device).metrics
            metrics |= {f"training_{k}": value for k, value in subset.items() if _is_number(value)}
        if self.recipe.log_validation_loss:
            loader = self.validation.loader
            metrics["validation_loss"] = mean_loss(
                network, self.objective, loader, self.accelerator, self.seed
            )
        return metrics

    def _evaluate_weights(self) -> Evaluation:
        """Evaluate the trained weights and their mean with the initial ones; return the better."""
        network, share = self._trained_network(), 0.0
        evaluation = self._evaluate(network)
        if self.mixture is not None and self.at.step > 0:
            mixed = cast(Network, self.mixture.of(network))
            other = self._evaluate(mixed)
            if self._takes_mean(other, evaluation):
                network, share, evaluation = mixed, self.mixture.share, other
        self.evaluated = network, share
        return evaluation

    def _takes_mean(self, mean: Evaluation, trained: Evaluation) -> bool:
        """Return whether the mean with the initial weights is better (few images: no worse)."""
        losses = self.sample_losses
        if losses is None:
            return self.score(mean.metrics) > self.score(trained.metrics)
        # Out of fold on 67 and on 102 real photos the mean was better at every epoch from the
        # third on (log loss 0.073 against 0.096, 0.243 against 0.247): few images must show
        # clearly that it is worse.
        of_mean, of_trained = (np.array(losses(each.predictions)) for each in (mean, trained))
        return not compare(of_mean, of_trained).is_better

    def _evaluate(self, network: Network) -> Evaluation:
        return evaluate(network, self.task, self.validation, self.accelerator.device)

    def _from_main(self, make: Callable[[], T]) -> T:
        """Return the main process's result; the others wait for it.

        Raises:
            DivergedError: On all processes, if the main process raises it.
        """
        made: list[Any] = [None]
        if self.accelerator.is_main_process:
            try:
                made = [make()]
            except DivergedError as error:
                made = [error]
        (value,) = self._agreed(made)
        if isinstance(value, DivergedError):
            raise value
        return cast(T, value)

    def _add_evaluation(self, metrics: dict[str, Any], loss: float | None, seconds: float) -> None:
        at, score = self.at, self.score(metrics)
        # Undefined scores are no reason to stop; neither they nor zeros tell epochs apart.
        is_undefined = max(score, at.best) == float("-inf") and not self.initial_is_valid
        is_best = is_undefined or self.stopping.update(score, at.epoch)
        is_best |= max(score, at.best) <= 0 and not self.initial_is_valid
        if _SAMPLE_LOSSES in metrics:
            at.sample_losses.append(metrics[_SAMPLE_LOSSES])
            is_best = latest_is_kept(np.array(at.sample_losses))
        at.highest, at.num_worse = self.stopping.best, self.stopping.num_worse
        if is_best:
            at.best, at.best_epoch = score, at.epoch
        if is_best or loss is None:
            self._save_best()
        report = {
            "epoch": at.epoch,
            "step": at.step,
            "loss": loss,
            "score": score if math.isfinite(score) else None,
            "is_best": is_best,
            "seconds": round(seconds, 3),
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            **{name: value for name, value in metrics.items() if _is_number(value)},
        }
        at.history.append(report)
        if self.accelerator.is_main_process:
            lines = "".join(json.dumps(row) + "\n" for row in at.history)
            write_atomically(self.folder / "metrics.jsonl", lines.encode())
        if self._agreed([self.on_epoch(report)])[0]:
            at.ended = ENDED_EARLY

    def _tell(self, loss: float, images_a_second: float) -> None:
        at = self.at
        left_steps = 0 if at.ended else max(0, at.num_steps - at.step)
        left_s = left_steps * (self._step_s() if self.step_times else 0.0)
        log.info(
            "epoch %d/%d · loss %.4f%s · %.0f images/s · %.0f s to go",
            at.epoch,
            math.ceil(at.num_steps / self.steps_an_epoch),
            loss,
            # Without a score the images were learnt from.
            _validation_text(at.history, self.primary_metric) if math.isfinite(at.best) else "",
            images_a_second,
            left_s + left_steps / self.steps_an_epoch * at.closing_s,
        )

    def _to_train_mode(self) -> None:
        self.model.train()
        for norm in self.frozen_norms:
            norm.eval()

    def _trained_network(self) -> Network:
        if self.average is not None:
            network: Network = self.average.network  # type: ignore[assignment]
            return network
        unwrapped: Network = self.accelerator.unwrap_model(self.model)
        return unwrapped

    def _save_best(self) -> None:
        """Save the weights that were evaluated last."""
        if self.accelerator.is_main_process:
            network, share = self.evaluated
            state = {"epoch": self.at.epoch, "start_share": share}
            checkpoint.save_checkpoint(self.folder / "best", network.state_dict(), state)

    def _save_last(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.at.micro_batch = self.stepper.micro_batch
        self.at.scaler = checkpoint.scaler_state(self.accelerator.scaler)
        network = self.accelerator.unwrap_model(self.model)
        tensors = checkpoint.prefixed("network", network.state_dict())
        if self.average is not None:
            tensors |= checkpoint.prefixed("average", self.average.network.state_dict())
        tensors |= checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer))
        tensors |= checkpoint.prefixed("random", checkpoint.random_tensors())
        checkpoint.save_checkpoint(self.folder / "last", tensors, vars(self.at))

    def _resume(self) -> bool:
        loaded = self._from_main(lambda: checkpoint.load_checkpoint(self.folder / "last"))
        if loaded is None:
            return False
        tensors, state = loaded
        self.at = Progress(**state)
        self.accelerator.unwrap_model(self.model).load_state_dict(
            checkpoint.without_prefix("network", tensors)
        )
        if self.average is not None:
            self.average.network.load_state_dict(checkpoint.without_prefix("average", tensors))
        checkpoint.restore_optimizer(
            self.optimizer, checkpoint.without_prefix("optimizer", tensors)
        )
        checkpoint.restore_scaler(self.accelerator.scaler, self.at.scaler)
        checkpoint.restore_random(checkpoint.without_prefix("random", tensors))
        self.stepper.micro_batch = self.at.micro_batch
        self.stopping.best, self.stopping.num_worse = self.at.highest, self.at.num_worse
        # The last step's rate is reported once its epoch is over.
        self._set_rates(max(0, self.at.step - 1))
        log.info("resumed after epoch %d, step %d", self.at.epoch, self.at.step)
        if not self.at.num_steps:
            self.at.num_steps = self.steps_an_epoch * self.recipe.num_epochs
        return True

    def _result(self, status: str, reason: str) -> Trained:
        best = self._from_main(lambda: checkpoint.load_checkpoint(self.folder / "best"))
        assert best is not None, "the starting network is always saved"
        network: Network = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        # accelerate's leftovers of mixed precision would follow the network into a package.
        for leftover in ("forward", "_original_forward"):
            vars(network).pop(leftover, None)
        network.load_state_dict(best[0])
        network.requires_grad_(True)
        # Evaluated again, not kept: a detector's outputs can be larger than its weights.
        evaluation = self._from_main(lambda: self._evaluate(network))
        return Trained(
            network.to("cpu").eval(),
            evaluation,
            self.at.epoch,
            status,
            reason,
            improved=self.at.best_epoch > 0,
            best_epoch=self.at.best_epoch,
            initial_share=best[1].get("start_share", 0.0),
        )


def let_go_on(folder: Path) -> None:
    """Let a run that time ended train on when it is resumed; its first steps plan the rest.

    Args:
        folder: Trial folder.
    """
    checkpoint.change_state(folder / "last", ended=None, num_steps=0)


def _validation_text(history: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return the last evaluation as text for the log; empty where the metric is unknown."""
    values = [report[metric] for report in history if report.get(metric) is not None]
    if not values:
        return ""
    last, log_loss = history[-1].get(metric), history[-1].get("log_loss")
    value = "undefined" if last is None else f"{last:.4f}"
    also = "" if log_loss is None else f", log loss {log_loss:.4f}"
    return f" · validation {metric} {value} (highest {max(values):.4f}){also}"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed for torch that differs in every bit from epoch to epoch."""
    return (seed * 1_000_003 + epoch * 7_919 + 12_345) % 2**63
