"""What a trial offers: a network that could be packaged, and what it scored on validation."""

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
    """Rows and where their images are, aligned.

    Attributes:
        records: n canonical rows.
        locations: n local paths or URLs that `open_bytes` opens.
        source: What the user called this data, for messages.
    """

    records: Sequence[RecordT]
    locations: Sequence[str]
    source: str

    def __len__(self) -> int:
        return len(self.records)

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
        network: In eval mode, on the CPU.
        manifest: What it is; files and versions are filled in by packaging.
        metrics: Every metric on validation.
        check_images: Locations of validation images, to verify a package with.
    """

    network: Network
    manifest: Manifest
    metrics: dict[str, Any]
    check_images: Sequence[str]
