"""Input and output of a trial: samples, and a candidate to package."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.manifest import Manifest
from autofocus.models.network import Network
from autofocus.tasks.base import Targets

# Images that a package is verified with.
NUM_CHECK_IMAGES = 8


@dataclass(frozen=True)
class Samples:
    """Images that decode, with their records and targets, aligned.

    Attributes:
        records: n canonical rows.
        locations: n local paths or URLs, for `open_bytes`.
        targets: n entries of `Task.encode_targets`.
        hashes: n content hashes of the files.
        groups: Group of each image, [n]: images of one group never cross a fold or a split.
        source: Name of the data in messages.
    """

    records: Sequence[Any]
    locations: Sequence[str]
    targets: Targets
    hashes: Sequence[str]
    groups: Sequence[Hashable]
    source: str

    def __len__(self) -> int:
        return len(self.records)

    def chosen(self, positions: Sequence[int] | NDArray[np.int64]) -> "Samples":
        """Return the samples at these positions."""
        targets = self.targets
        return Samples(
            records=[self.records[i] for i in positions],
            locations=[self.locations[i] for i in positions],
            targets=targets[np.asarray(positions, np.int64)]
            if isinstance(targets, np.ndarray)
            else [targets[i] for i in positions],
            hashes=[self.hashes[i] for i in positions],
            groups=[self.groups[i] for i in positions],
            source=self.source,
        )


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of images by networks that had not learnt from them.

    Attributes:
        predictions: n predictions.
        targets: n entries of `Task.encode_targets`.
        groups: Group of each image, [n].
    """

    predictions: Sequence[Any]
    targets: Targets
    groups: Sequence[Hashable]


@dataclass(frozen=True)
class Candidate:
    """A trained network.

    Attributes:
        network: Network in eval mode, on the CPU.
        manifest: Its manifest; packaging fills in files and versions.
        check_images: Locations of validation images to verify a package with.
        out_of_fold: Predictions that it is judged by, where it has learnt from all images itself;
            None where it has not seen the validation images.
    """

    network: Network
    manifest: Manifest
    check_images: Sequence[str]
    out_of_fold: OutOfFold | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        """Every metric on validation images."""
        return self.manifest.metrics
