"""Input and output of a trial: samples, and a candidate to package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from autofocus.manifest import Manifest
from autofocus.models.network import Network
from autofocus.tasks.base import RecordT


@dataclass(frozen=True)
class Samples(Generic[RecordT]):
    """Records and the locations of their images, aligned.

    Attributes:
        records: n canonical rows.
        locations: n local paths or URLs, for `open_bytes`.
        source: Name of the data in messages.
    """

    records: Sequence[RecordT]
    locations: Sequence[str]
    source: str

    def __len__(self) -> int:
        return len(self.records)

    def joined(self, other: "Samples[RecordT]") -> "Samples[RecordT]":
        """Return these samples followed by others."""
        return Samples(
            [*self.records, *other.records], [*self.locations, *other.locations], self.source
        )

    def chosen(self, positions: Sequence[int] | NDArray[np.int64]) -> "Samples[RecordT]":
        """Return the samples at these positions."""
        return Samples(
            [self.records[i] for i in positions],
            [self.locations[i] for i in positions],
            self.source,
        )


@dataclass(frozen=True)
class Candidate:
    """A trained network.

    Attributes:
        network: Network in eval mode, on the CPU.
        manifest: Its manifest; packaging fills in files and versions.
        metrics: Every metric on validation images.
        check_images: Locations of validation images to verify a package with.
    """

    network: Network
    manifest: Manifest
    metrics: dict[str, Any]
    check_images: Sequence[str]
