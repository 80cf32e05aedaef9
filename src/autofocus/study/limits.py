"""Limits that a job sets on its model: time of one image, size of the file.

`package/measure.py` says what is measured. A network is measured with random weights before time is
spent on it, and once more as it is packaged.
"""

import logging
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from autofocus.errors import JobError
from autofocus.manifest import Measured
from autofocus.models.base import CLASSIFIER, ModelSpec
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.package.measure import measure
from autofocus.package.onnx import export_onnx
from autofocus.scoring.scorer import ONNX_NAME
from autofocus.settings.fields import LATENCY, SIZE
from autofocus.settings.job import Job
from autofocus.training.trial import TrialSpec

log = logging.getLogger(__name__)

Size = tuple[int, int]
_latency = attrgetter("latency_ms")


class ModelLimits:
    """What a job allows its model to take.

    Args:
        max_latency: Most time of one image, such as `15ms`; None for no limit.
        max_size: Largest ONNX file, such as `20MB`; None for no limit.
        decide: Called once for each network that exceeds them.
    """

    def __init__(
        self, max_latency: str | None, max_size: str | None, decide: Callable[..., None]
    ) -> None:
        self._max_latency = max_latency
        self._max_size = max_size
        self._decide = decide
        self._known: dict[tuple[str, Size], Measured] = {}
        self._said: set[tuple[str, Size]] = set()

    @classmethod
    def of(cls, job: Job, decide: Callable[..., None]) -> "ModelLimits":
        """Return the limits of a job."""
        return cls(job.limits.max_latency, job.limits.max_size, decide)

    def problem(self, name: str, network: Network, size: Size) -> str | None:
        """Return why a network must not be published, as a sentence without its end; None: it may.

        Args:
            name: Name of its model, by which it is measured once.
            network: Network in eval mode, on the CPU; its weights do not matter.
            size: (height, width) of its input, in pixels.
        """
        return self._problem(name, size, lambda: network)

    def problem_of(self, spec: TrialSpec, model: ModelSpec) -> str | None:
        """Return why the network of a trial must not be published; None: it may.

        Args:
            spec: The trial.
            model: Its model, or the one that stands in for it.
        """
        size, num_classes = spec.preprocess.size, len(spec.labels)
        return self._problem(
            model.name,
            size,
            lambda: family_of(model).build(model, num_classes, None, size, spec.network),
        )

    def latency_share(self, spec: TrialSpec, model: ModelSpec) -> float:
        """Return the share of the allowed time that a trial's network takes; 0 without a limit."""
        if self._max_latency is None:
            return 0.0
        self.problem_of(spec, model)
        measured = self._known[model.name, spec.preprocess.size]
        return measured.latency_ms / (1000 * LATENCY.amount(self._max_latency))

    def problem_of_measured(self, name: str, size: Size, measured: Measured | None) -> str | None:
        """Return why a packaged network must not be published; None: it may, or nobody measured."""
        if measured is None:
            return None
        # What else runs here can only make it slower: the better of two measurements counts.
        measured = min(measured, self._known.get((name, size), measured), key=_latency)
        self._known[name, size] = measured
        text = self._excess(name, size, measured)
        if text is not None and (name, size) not in self._said:
            self._said.add((name, size))
            self._decide(
                "over_limit",
                model=name,
                size=size,
                latency_ms=measured.latency_ms,
                size_bytes=measured.size_bytes,
                max_latency=self._max_latency,
                max_size=self._max_size,
            )
            log.info("%s: left out", text)
        return text

    def nothing_fits(
        self, problems: Sequence[str], kind: str, smallest: TrialSpec | None
    ) -> JobError:
        """Return the error of a job whose every network exceeds the limits.

        Args:
            problems: What `problem_of` says of each.
            kind: Kind of these models.
            smallest: Trial of the smallest model there is; None where it is one of these.
        """
        side = "validation_crop_size" if kind == CLASSIFIER else "image_size"
        ways = f"Allow more, or give a smaller input (training_parameters.{side})."
        if smallest is not None:
            model, size = smallest.model, smallest.preprocess.size
            self.problem_of(smallest, model)
            small = self._known[model.name, size]
            ways = (
                f"The smallest model here is {model.name}: at {size[1]} px "
                f"{small.latency_ms:.1f} ms and {small.size_bytes / 1e6:.1f} MB. {ways}"
            )
        return JobError([*(f"{problem}." for problem in problems), ways])

    def _problem(self, name: str, size: Size, build: Callable[[], Network]) -> str | None:
        if self._max_latency is None and self._max_size is None:
            return None
        if (name, size) not in self._known:
            with TemporaryDirectory() as folder:
                path = Path(folder) / ONNX_NAME
                export_onnx(build(), path, size)
                self._known[name, size] = measure(path, size)
        return self.problem_of_measured(name, size, self._known[name, size])

    def _excess(self, name: str, size: Size, measured: Measured) -> str | None:
        problems = []
        if self._max_latency and measured.latency_ms > 1000 * LATENCY.amount(self._max_latency):
            problems.append(
                f"{measured.latency_ms:.1f} ms, limits.max_latency allows {self._max_latency}"
            )
        if self._max_size and measured.size_bytes > SIZE.amount(self._max_size):
            problems.append(
                f"{measured.size_bytes / 1e6:.1f} MB, limits.max_size allows {self._max_size}"
            )
        return f"{name} at {size[1]} px: {' and '.join(problems)}" if problems else None
