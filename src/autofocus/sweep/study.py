"""One run from its data to its best model: trials, package, verify, swap."""

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autofocus.data.issues import Issue, IssueLog
from autofocus.data.labels import label_map
from autofocus.data.locate import open_bytes
from autofocus.data.source import Data
from autofocus.errors import DataError, InputError, StoppedError
from autofocus.manifest import ResizeCrop
from autofocus.runtime import StopRequest, Track
from autofocus.sweep.resolve import Plan
from autofocus.sweep.run_folder import RunFolder
from autofocus.sweep.sources import Sources
from autofocus.tasks.classification import ClassificationTask

# torch takes seconds to import: only once the job and the data are known to be good.
if TYPE_CHECKING:
    from autofocus.training.candidate import Candidate
    from autofocus.training.finetune_trial import Finetuned
    from autofocus.training.probe_trial import Probed, ProbeSetup

log = logging.getLogger(__name__)

# Seconds kept back from a budget for fitting, export and verification before they were measured.
PACKAGING_RESERVE_S = 20.0
# Fine-tuning that cannot run this long is not begun.
MIN_FINETUNING_S = 10.0
# What the second packaging may take more than the first one.
RESERVE_FACTOR = 1.3

PROBE_ID, FINETUNE_ID = "0", "1"


class Study:
    """One run's state while it is conducted."""

    def __init__(
        self, plan: Plan, sources: Sources, folder: RunFolder, started_s: float, track: Track
    ) -> None:
        self.plan = plan
        self.sources = sources
        self.folder = folder
        self.started_s = started_s
        self.track = track
        self.issues = {role: data.issues for role, data in sources.given.items()}
        self.num_lost = dict.fromkeys(self.issues, 0)
        self.trials: list[dict[str, Any]] = []
        self.labels = self._labels()
        self.packaging_s = PACKAGING_RESERVE_S
        self.metric = str(plan.job.primary_metric)

    def conduct(self) -> dict[str, Any]:
        """Run the trials; return the result document.

        Raises:
            StoppedError: If the user stopped; the best model so far is published.
        """
        self._write_data_check()
        setup = self._setup()
        try:
            probed = self._probe(setup)
        finally:
            self._write_data_check()
        # A run that was stopped or killed has it already, and perhaps a better one.
        model = self.folder.published(PROBE_ID) or self._publish(PROBE_ID, probed.candidate)
        seconds_to_first_model = self._seconds()
        best = probed.candidate
        finetuned = self._finetune(setup, probed)
        if finetuned is not None and self._is_better(setup, probed, finetuned):
            best = finetuned.candidate
            model = self._publish(FINETUNE_ID, best)
        elif not self.folder.is_best_model(model):
            # What an earlier, interrupted command had put above the probe has lost to it now.
            self.folder.publish(model, PROBE_ID)
        self._rank()
        if finetuned is not None and finetuned.trained.status == "stopped":
            raise StoppedError(self._how_to_go_on())
        return {
            "best_model": str(self.folder.path / "best_model"),
            "run": str(self.folder.path),
            "task": self.plan.task.name,
            "primary_metric": self.metric,
            "value": best.metrics[self.metric],
            "metrics": best.metrics,
            "test_metrics": self._test(model),
            "seconds": self._seconds(),
            "seconds_to_first_model": seconds_to_first_model,
            "trials": self.trials,
        }

    def _labels(self) -> list[str]:
        task = self.plan.task
        known = [self.sources.training, self.sources.validation]
        labels = label_map(
            *(task.record_labels(r) for data in known if data is not None for r in data.records)
        )
        if not labels:
            source = self.plan.job.training_data.path
            raise DataError(f"{source}: no row has a label; there is nothing to learn.")
        if len(labels) == 1:
            log.warning("only one class, %r: there is nothing to tell apart", labels[0])
        self._check_test_labels(labels)
        return labels

    def _check_test_labels(self, labels: list[str]) -> None:
        """Refuse before hours of training what could not be measured after them."""
        test = self.sources.test
        if test is None:
            return
        found = {name for record in test.records for name in self.plan.task.record_labels(record)}
        if unknown := sorted(found - set(labels)):
            raise DataError(
                f"{test.name}: test data has classes that training data has not: "
                f"{', '.join(unknown[:10])}. Training has {', '.join(labels[:10])}."
            )

    def _setup(self) -> "ProbeSetup":
        from autofocus.models.weights import load_weights
        from autofocus.sweep.recipes import preprocess_for
        from autofocus.training.device import choose_device, prepare_torch
        from autofocus.training.probe_trial import ProbeSetup

        job, task = self.plan.job, self.plan.task
        assert isinstance(task, ClassificationTask), "only classifiers have frozen features"
        prepare_torch()
        device = choose_device(job.device)
        weights = load_weights(
            self.plan.model,
            job.weights,
            job.on_missing_weights,
            job.accept_license,
            self.plan.user_named_model,
            track=self.track,
        )
        default = weights.spec.preprocess
        assert isinstance(default, ResizeCrop), "classifiers see a crop"
        num = len(self.labels)
        log.info("%s · device %s · %d class%s", weights.line, device, num, "es"[: 2 * (num != 1)])
        return ProbeSetup(
            task=task,
            weights=weights,
            preprocess=preprocess_for(self.plan, default),
            labels=self.labels,
            validation_frac=job.validation_data_size,
            seed=int(self.plan.parameters.get("random_seed", job.seed)),
            device=device,
            data_fingerprint=self.sources.fingerprint,
            deadline_s=self._deadline(PACKAGING_RESERVE_S),
        )

    def _probe(self, setup: "ProbeSetup") -> "Probed":
        from autofocus.training.candidate import Samples
        from autofocus.training.probe_trial import run_probe

        started_s = time.monotonic()
        roles = {
            role: Samples(data.records, data.locations, data.name)
            for role, data in self.sources.given.items()
        }
        probed = run_probe(
            setup,
            roles["training"],
            roles.get("validation"),
            report=self._report,
            decide=self.folder.decide,
            track=self.track,
        )
        seconds = time.monotonic() - started_s
        value = probed.candidate.metrics[self.metric]
        log.info("frozen probe: %s %s after %.0f s", self.metric, _shown(value), self._seconds())
        self._record(PROBE_ID, setup, value, 0, seconds, "completed", "frozen-feature probe")
        return probed

    def _finetune(self, setup: "ProbeSetup", probed: "Probed") -> "Finetuned | None":
        from autofocus.sweep.recipes import recipe_for
        from autofocus.training.device import make_accelerator
        from autofocus.training.finetune_trial import Finetuning, run_finetune

        recipe = recipe_for(self.plan, len(probed.train))
        deadline_s = self._deadline(self.packaging_s * RESERVE_FACTOR + self._test_reserve_s())
        left_s = float("inf") if deadline_s is None else deadline_s - time.monotonic()
        if recipe.num_epochs == 0 or left_s < MIN_FINETUNING_S:
            self.folder.decide("no_finetuning", num_epochs=recipe.num_epochs, seconds_left=left_s)
            return None
        self.folder.decide("recipe", trial=FINETUNE_ID, **vars(recipe))
        started_s = time.monotonic()
        with StopRequest() as stop:
            finetuned = run_finetune(
                Finetuning(
                    setup=setup,
                    recipe=recipe,
                    accelerator=make_accelerator(setup.device),
                    primary_metric=self.metric,
                    folder=self.folder.path / "trials" / FINETUNE_ID,
                    deadline_s=deadline_s,
                    should_stop=stop,
                    on_epoch=lambda report: False,
                    track=self.track,
                ),
                probed,
            )
        trained = finetuned.trained
        self._record(
            FINETUNE_ID,
            setup,
            finetuned.candidate.metrics[self.metric],
            trained.num_epochs,
            time.monotonic() - started_s,
            trained.status,
            trained.reason,
        )
        return finetuned

    def _is_better(self, setup: "ProbeSetup", probed: "Probed", finetuned: "Finetuned") -> bool:
        """Decide whether fine-tuning beat the probe, on the same held-out images."""
        from autofocus.training.choose import compare

        task = setup.task
        targets = task.encode_targets(probed.held_out.records, setup.labels)
        comparison = compare(
            task.sample_losses(probed.predictions, targets),
            task.sample_losses(finetuned.predictions, targets),
        )
        wins = comparison.challenger_wins and finetuned.trained.improved
        self.folder.decide("finetuned_against_probe", wins=wins, **vars(comparison))
        log.info(
            "fine-tuned against probe on %d images: log loss lower by %.4f ± %.4f: %s",
            comparison.num_images,
            comparison.mean_gain,
            comparison.standard_error,
            "fine-tuned wins" if wins else "the probe stays",
        )
        return wins

    def _report(self, role: str, issue: Issue) -> None:
        self.issues[role].add(issue)
        self.num_lost[role] += 1
        if self.plan.job.data.on_invalid == "error":
            raise DataError(issue.text())
        log.warning("%s", issue.text())

    def _publish(self, trial: str, candidate: "Candidate") -> Path:
        """Package, verify and only then point `best_model` at the result."""
        from autofocus.package.mlflow_model import write_package
        from autofocus.package.verify import verify_package

        started_s = time.monotonic()
        target = self.folder.next_model_dir()
        unfinished = target.with_name(f".{target.name}")
        manifest = write_package(unfinished, candidate.network, candidate.manifest)
        images = _readable(candidate.check_images)
        try:
            difference = verify_package(unfinished, candidate.network, manifest, images)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        unfinished.rename(target)
        self.folder.publish(target, trial)
        self.packaging_s = time.monotonic() - started_s
        self.folder.decide(
            "best_model",
            trial=trial,
            model=f"models/{target.name}",
            largest_difference_onnx_torch=difference,
            num_images=len(images),
        )
        log.info(
            "%s verified on %d images: ONNX differs from torch by %.1g",
            target,
            len(images),
            difference,
        )
        return target

    def _test(self, model: Path) -> dict[str, Any] | None:
        """Score the test data with the package itself; it took part in nothing before."""
        if self.sources.test is None:
            return None
        from autofocus.scoring.evaluate import evaluate_model

        metrics: dict[str, Any] = evaluate_model(model, self.sources.test, self.track)["metrics"]
        return metrics

    def _test_reserve_s(self) -> float:
        """Scoring is cheaper than the probe's features were, image by image."""
        if self.sources.test is None:
            return 0.0
        num_seen = sum(len(d.records) for d in self.sources.given.values())
        probe_s = float(self.trials[0]["seconds"])
        return probe_s * len(self.sources.test.records) / max(1, num_seen) + 1.0

    def _record(
        self,
        trial: str,
        setup: "ProbeSetup",
        value: float | None,
        epochs: int,
        seconds: float,
        status: str,
        reason: str,
    ) -> None:
        row = {
            "id": trial,
            "model": setup.weights.spec.name,
            "status": status,
            "value": value,
            "epochs": epochs,
            "seconds": round(seconds, 3),
            "reason": reason,
        }
        self.trials.append(row)
        self.folder.write_json(f"trials/{trial}/trial.json", row)

    def _rank(self) -> None:
        # Seconds vary from run to run; the leaderboard is bit-same for the same job and seed.
        rows = [{k: v for k, v in trial.items() if k != "seconds"} for trial in self.trials]
        rows.sort(key=lambda row: (row["value"] is None, -(row["value"] or 0.0)))
        self.folder.write_json("leaderboard.json", rows)

    def _write_data_check(self) -> None:
        document = {
            role: _check_document(data, self.issues[role], self.num_lost[role])
            for role, data in self.sources.given.items()
        }
        self.folder.write_json("data_check.json", document)

    def _how_to_go_on(self) -> str:
        return (
            f"stopped; {self.folder.path / 'best_model'} is verified and can be served. "
            "The same command goes on where this one stopped."
        )

    def _deadline(self, reserve_s: float) -> float | None:
        budget_s = self.plan.job.budget_s
        return None if budget_s is None else self.started_s + budget_s - reserve_s

    def _seconds(self) -> float:
        return round(time.monotonic() - self.started_s, 3)


def _check_document(data: Data[Any], issues: IssueLog, num_lost: int) -> dict[str, Any]:
    return {
        "num_rows": data.num_rows,
        "num_valid": len(data.records) - num_lost,
        "counts": dict(issues.counts),
        "issues": [issue.text() for issue in issues.examples()],
    }


def _readable(locations: Sequence[str]) -> list[bytes]:
    images = []
    for location in locations:
        try:
            images.append(open_bytes(location))
        except InputError as error:
            # It was read minutes ago; the check goes on with the others.
            log.warning("%s", error)
    return images


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
