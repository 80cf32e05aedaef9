"""A run's data by role."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autofocus.data.options import ReadOptions
from autofocus.data.sources.find import find_source, find_splits
from autofocus.data.sources.group_column import unknown_group_column
from autofocus.data.sources.read import Data, read_data
from autofocus.errors import DataError
from autofocus.runtime import Track
from autofocus.settings.job import DataInput
from autofocus.study.resolve import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Data by role; only training is required."""

    training: Data[Any]
    validation: Data[Any] | None
    test: Data[Any] | None

    @property
    def given(self) -> dict[str, Data[Any]]:
        """Data that was given, by role."""
        roles = {"training": self.training, "validation": self.validation, "test": self.test}
        return {role: data for role, data in roles.items() if data is not None}

    @property
    def fingerprint(self) -> str:
        """Fingerprints of all data, as one string."""
        return "+".join(f"{role}:{data.fingerprint}" for role, data in self.given.items())


def with_splits(plan: Plan) -> Plan:
    """Return the plan with the validation and test splits of its training data filled in.

    A source that has splits is read by them, whatever a job calls training data; roles that the
    job names itself stay.
    """
    job = plan.job
    splits = find_splits(job.training_data.path)
    roles = {"train": "training_data", "validation": "validation_data", "test": "test_data"}
    found: dict[str, DataInput] = {
        roles[split]: DataInput(path=str(path))
        for split, path in splits.items()
        if split == "train" or getattr(job, roles[split]) is None
    }
    if found:
        named = ", ".join(f"{role} {entry.path}" for role, entry in found.items())
        log.info("splits of %s: %s", job.training_data.path, named)
    return replace(plan, job=job.model_copy(update=found))


def read_sources(plan: Plan, track: Track) -> Sources:
    """Read all data that the job names.

    Raises:
        DataError: Names the problems of all of it.
    """
    job = plan.job
    options = ReadOptions(
        image_column=job.image_column_name,
        label_column=job.target_column_name,
        image_root=None if job.image_root is None else Path(job.image_root),
        maps=job.data_maps,
        on_invalid=job.data.on_invalid,
        coordinates=job.data.coordinates,
        masks=job.data.masks,
        class_name=job.data.class_name or ReadOptions.class_name,
    )
    # What is only measured crosses no fold.
    grouped = replace(options, group_column=job.data.group_column)
    given = (
        (job.training_data, grouped),
        (job.validation_data, grouped),
        (job.test_data, options),
    )
    read: list[Data[Any] | None] = []
    problems: list[str] = []
    for entry, reading in given:
        try:
            data = None
            if entry is not None:
                data = read_data(entry.path, plan.task.record_type, reading, track)
            read.append(data)
        except DataError as error:
            problems += error.problems
    if problems:
        # The same folder in two roles has the same problems.
        raise DataError(list(dict.fromkeys(problems)))
    training, validation, test = read
    assert training is not None, "the job requires training data"
    column = job.data.group_column
    if column is not None and not any(record.group for record in training.records):
        source = find_source(job.training_data.path, options, plan.task.record_type)
        raise unknown_group_column(source, column)
    return Sources(training, validation, test)
