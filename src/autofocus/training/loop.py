"""The one training loop. It knows a task, its loss and a network; no packages and no sweeps.

Every epoch is a function of (seed, epoch), the checkpoint holds everything else, so a run that
was killed and resumed has the same losses as one that was not.

Notation for tensor shapes:
    - n: images in a batch, h, w: height and width of the input in pixels, k: classes
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from autofocus.data.loader import Loader
from autofocus.models.timm_classifiers import Classifier
from autofocus.runtime import Track, no_progress, write_atomically
from autofocus.tasks.base import Task
from autofocus.training import checkpoint
from autofocus.training.early_stopping import EarlyStopping
from autofocus.training.ema import WeightAverage
from autofocus.training.evaluate import Evaluation, EvaluationSet, evaluate
from autofocus.training.losses import LOSSES
from autofocus.training.optim import (
    build_optimizer,
    freeze_layers,
    norms_to_freeze,
    rate_factor,
    set_rates,
)
from autofocus.training.recipe import Recipe
from autofocus.training.step import DivergedError, Stepper

log = logging.getLogger(__name__)

# Steps whose time is taken before the schedule is fitted to a budget; the first one is warm-up.
NUM_TIMED_STEPS = 4
MIN_STEPS = 4


@dataclass(frozen=True)
class Fit:
    """Everything a run needs.

    Attributes:
        network: Starts where the probe ended; on `accelerator.device`.
        task: What is learnt.
        recipe: How.
        training: Augmented, shuffled batches.
        targets: The task's training targets, rows as in `training`.
        validation: What epochs are judged on.
        score: Turns metrics into one number, larger is better.
        folder: Of the trial: `last/`, `best/`, `metrics.jsonl`.
        seed: Decides everything random.
        deadline_s: `time.monotonic()` by which training must have ended, or None.
        should_stop: Asked each batch: has the user had enough?
    """

    network: Classifier
    task: Task[Any, Any]
    recipe: Recipe
    training: Loader
    targets: Tensor
    validation: EvaluationSet
    score: Callable[[dict[str, Any]], float]
    folder: Path
    seed: int
    accelerator: Accelerator
    deadline_s: float | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_epoch: Callable[[dict[str, Any]], bool] = lambda report: False
    track: Track = no_progress


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        network: The best weights, in eval mode, on the CPU.
        evaluation: Of these weights on validation.
        num_epochs: Epochs that were finished.
        status: `completed`, `stopped` by the user, or `failed`.
        reason: Why it ended.
        improved: Whether any epoch beat the network it started from.
    """

    network: Classifier
    evaluation: Evaluation
    num_epochs: int
    status: str
    reason: str
    improved: bool


@dataclass
class Progress:
    """Where a run is: what a checkpoint's JSON holds."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    num_steps: int = 0
    loss_sum: float = 0.0
    best: float = float("-inf")
    best_epoch: int = 0
    num_worse: int = 0
    micro_batch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(run: Fit) -> Trained:
    """Train, keeping the best weights; resumes from `folder/last` when there is one."""
    return _Loop(run).run()


class _Loop:
    def __init__(self, run: Fit) -> None:
        self.fit = run
        self.recipe = run.recipe
        self.accelerator = run.accelerator
        self.loss = LOSSES[run.task.name]
        freeze_layers(run.network, run.recipe.layers_to_freeze)
        self.frozen_norms = norms_to_freeze(run.network, run.recipe)
        optimizer = build_optimizer(run.network, run.recipe)
        self.base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        decay = run.recipe.ema_decay
        self.average = None if decay is None else WeightAverage(run.network, decay)
        self.model, self.optimizer = self.accelerator.prepare(run.network, optimizer)
        self.stepper = Stepper(self.model, self.optimizer, self.accelerator, run.recipe)
        self.stopping = EarlyStopping(
            run.recipe.early_stopping_patience,
            run.recipe.early_stopping_delay,
            run.recipe.early_stopping,
        )
        self.steps_an_epoch = math.ceil(run.training.num_batches / run.recipe.accumulation)
        self.at = Progress(num_steps=self.steps_an_epoch * run.recipe.num_epochs)
        self.class_weights = self._class_weights()
        self.step_times: list[float] = []
        self.evaluation_s = 0.0

    def run(self) -> Trained:
        """Train until done, stopped, out of time or out of patience."""
        if not self._resume():
            self._start()
        status, reason = "completed", "all epochs done"
        try:
            while self.at.step < self.at.num_steps:
                if ended := self._epoch():
                    status, reason = ended
                    break
                if self.stopping.should_stop:
                    patience = self.recipe.early_stopping_patience
                    reason = f"early stopping: no better for {patience} evaluations"
                    break
        except DivergedError as error:
            status, reason = "failed", str(error)
        return self._result(status, reason)

    def _start(self) -> None:
        """Judge the network that training starts from: nothing worse than it is ever kept."""
        evaluation = self._evaluate()
        self._judge(evaluation, loss=None, seconds=0.0)

    def _epoch(self) -> tuple[str, str] | None:
        """Run (the rest of) an epoch and evaluate; return status and reason when it must end."""
        at, started_s = self.at, time.monotonic()
        if at.batch == 0:
            at.loss_sum = 0.0
            torch.manual_seed(_mixed(self.fit.seed, at.epoch))
        self._to_train_mode()
        batches = self.fit.training.epoch(at.epoch, at.batch)
        num_left = self.fit.training.num_batches - at.batch
        group: list[Any] = []
        for batch in self.fit.track(batches, f"epoch {at.epoch + 1}", num_left):
            group.append(batch)
            if len(group) < self.recipe.accumulation and at.batch + len(group) < (
                self.fit.training.num_batches
            ):
                continue
            self._step(group)
            group = []
            if ended := self._interrupted():
                return ended
            if at.step >= at.num_steps:
                break
        at.epoch, at.batch = at.epoch + 1, 0
        self._finish_epoch(time.monotonic() - started_s)
        return ("completed", "budget") if self._out_of_time(self.evaluation_s) else None

    def _step(self, batches: list[Any]) -> None:
        started_s = time.monotonic()
        factor = rate_factor(self.recipe, self.at.step, self.at.num_steps, self.steps_an_epoch)
        set_rates(self.optimizer, self.base_rates, factor)
        images = torch.cat([torch.from_numpy(batch.images) for batch in batches])
        index = torch.cat([torch.from_numpy(batch.index) for batch in batches])
        device = self.accelerator.device
        self.at.loss_sum += self.stepper.step(
            images.to(device, non_blocking=True), self.fit.targets[index].to(device), self._loss
        )
        self.at.step += 1
        self.at.batch += len(batches)
        if self.average is not None:
            self.average.update(self.accelerator.unwrap_model(self.model), self.at.step)
        self.step_times.append(time.monotonic() - started_s)
        if len(self.step_times) == NUM_TIMED_STEPS and self.fit.deadline_s is not None:
            self._plan()

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.loss.loss(
            logits,
            targets,
            label_smoothing=self.recipe.label_smoothing,
            class_weights=self.class_weights,
        )

    def _plan(self) -> None:
        """Fit the schedule to the time that is left, so that the rate has come down by then."""
        assert self.fit.deadline_s is not None
        step_s = sorted(self.step_times[1:])[len(self.step_times[1:]) // 2]
        left_s = self.fit.deadline_s - time.monotonic()
        epoch_s = (
            step_s * self.steps_an_epoch + self.evaluation_s / self.recipe.evaluation_frequency
        )
        num_steps = int(left_s / max(epoch_s, 1e-9) * self.steps_an_epoch)
        planned = self.at.step + max(0, num_steps)
        if planned < self.at.num_steps:
            self.at.num_steps = max(planned, self.at.step)
            epochs = self.at.num_steps / self.steps_an_epoch
            log.info("budget: %.1f of %d epochs planned", epochs, self.recipe.num_epochs)

    def _interrupted(self) -> tuple[str, str] | None:
        stop = self.fit.should_stop()
        late = self._out_of_time(self.evaluation_s)
        if self.accelerator.num_processes > 1:
            stop, late = broadcast_object_list([stop, late])
        if stop:
            self._save_last()
            return "stopped", "stopped by the user"
        if late:
            self._finish_epoch(sum(self.step_times[-self.at.batch :]), partial=True)
            return "completed", "budget"
        return None

    def _out_of_time(self, reserve_s: float) -> bool:
        deadline_s = self.fit.deadline_s
        return deadline_s is not None and time.monotonic() + reserve_s >= deadline_s

    def _finish_epoch(self, seconds: float, partial: bool = False) -> None:
        """Evaluate where it is due, keep the best, save."""
        due = self.at.epoch % self.recipe.evaluation_frequency == 0
        if not (due or partial or self.at.step >= self.at.num_steps):
            self._save_last()
            return
        steps = self.at.batch if partial else self.fit.training.num_batches
        evaluation = self._evaluate()
        self._judge(evaluation, loss=self.at.loss_sum / max(1, steps), seconds=seconds)
        self._save_last()

    def _evaluate(self) -> Evaluation:
        started_s = time.monotonic()
        evaluation = evaluate(
            self._judged_network(), self.fit.task, self.fit.validation, self.accelerator.device
        )
        self.evaluation_s = time.monotonic() - started_s
        return evaluation

    def _judge(self, evaluation: Evaluation, loss: float | None, seconds: float) -> None:
        score = self.fit.score(evaluation.metrics)
        is_best = self.stopping.update(score, self.at.epoch)
        if is_best:
            self.at.best, self.at.best_epoch = score, self.at.epoch
            self._save_best()
        self.at.num_worse = self.stopping.num_worse
        report = {
            "epoch": self.at.epoch,
            "step": self.at.step,
            "loss": loss,
            "score": score,
            "is_best": is_best,
            "seconds": round(seconds, 3),
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            **{k: v for k, v in evaluation.metrics.items() if v is None or isinstance(v, float)},
        }
        self.at.history.append(report)
        if self.accelerator.is_main_process:
            lines = "".join(json.dumps(row) + "\n" for row in self.at.history)
            write_atomically(self.fit.folder / "metrics.jsonl", lines.encode())
        self._tell(report, seconds)
        if self.fit.on_epoch(report):
            self.at.num_steps = self.at.step

    def _tell(self, report: dict[str, Any], seconds: float) -> None:
        if report["loss"] is None:
            return
        num_images = self.fit.training.num_batches * self.recipe.batch_size
        left_steps = max(0, self.at.num_steps - self.at.step)
        step_s = sum(self.step_times) / max(1, len(self.step_times))
        log.info(
            "epoch %d/%.0f · loss %.4f · score %.4f (best %.4f) · %.0f images/s · %.0f s to go",
            report["epoch"],
            math.ceil(self.at.num_steps / self.steps_an_epoch),
            report["loss"],
            report["score"],
            self.at.best,
            num_images / max(seconds, 1e-9),
            left_steps * step_s + left_steps / self.steps_an_epoch * self.evaluation_s,
        )

    def _to_train_mode(self) -> None:
        self.model.train()
        for norm in self.frozen_norms:
            norm.eval()

    def _judged_network(self) -> Classifier:
        if self.average is not None:
            network: Classifier = self.average.network  # type: ignore[assignment]
            return network
        unwrapped: Classifier = self.accelerator.unwrap_model(self.model)
        return unwrapped

    def _class_weights(self) -> Tensor | None:
        """Return weights of mean 1 by class, as published: only where imbalance exceeds 2."""
        if self.recipe.weighted_loss == 0:
            return None
        num_classes = self.fit.network.head.out_features
        counts = self.loss.num_images_of_class(self.fit.targets, num_classes).float().clamp(min=1)
        if counts.max() / counts.min() <= 2:
            return None
        weights = counts.sum() / (num_classes * counts)
        if self.recipe.weighted_loss == 1:
            weights = weights.sqrt()
        return weights.to(self.accelerator.device)

    def _save_best(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {"epoch": self.at.epoch, "score": self.at.best}
        tensors = self._judged_network().state_dict()
        checkpoint.save_checkpoint(self.fit.folder / "best", tensors, state)

    def _save_last(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.at.micro_batch = self.stepper.micro_batch
        network = self.accelerator.unwrap_model(self.model)
        tensors = checkpoint.prefixed("network", network.state_dict())
        if self.average is not None:
            tensors |= checkpoint.prefixed("average", self.average.network.state_dict())
        tensors |= checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer))
        tensors["random"] = torch.get_rng_state()
        checkpoint.save_checkpoint(self.fit.folder / "last", tensors, vars(self.at))

    def _resume(self) -> bool:
        loaded = checkpoint.load_checkpoint(self.fit.folder / "last")
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
        torch.set_rng_state(tensors["random"].cpu())
        self.stepper.micro_batch = self.at.micro_batch
        self.stopping.best, self.stopping.num_worse = self.at.best, self.at.num_worse
        log.info("resumed after epoch %d, step %d", self.at.epoch, self.at.step)
        return True

    def _result(self, status: str, reason: str) -> Trained:
        self.accelerator.wait_for_everyone()
        best = checkpoint.load_checkpoint(self.fit.folder / "best")
        assert best is not None, "the starting network is always saved"
        network = self.accelerator.unwrap_model(self.model)
        network.load_state_dict(best[0])
        network.requires_grad_(True)
        evaluation = evaluate(network, self.fit.task, self.fit.validation, self.accelerator.device)
        return Trained(
            network.to("cpu").eval(),
            evaluation,
            self.at.epoch,
            status,
            reason,
            improved=self.at.best_epoch > 0 or bool(best[1]["epoch"]),
        )


def _mixed(seed: int, epoch: int) -> int:
    """Return a seed for torch that differs in every bit from epoch to epoch."""
    return (seed * 1_000_003 + epoch * 7_919 + 12_345) % 2**63
