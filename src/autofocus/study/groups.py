"""Groups of a run's images: found, reported in the data check, and told once."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.groups import group_images
from autofocus.data.rows.issues import Issue
from autofocus.errors import DataError
from autofocus.study.study import Study

log = logging.getLogger(__name__)


def group_samples(
    study: Study,
    records: Sequence[Any],
    locations: Sequence[str],
    hashes: Sequence[str],
    thumbnails: NDArray[np.uint8],
) -> list[int]:
    """Return the group of each image that decodes, [n]; what is found is told and recorded.

    Args:
        study: The run.
        records: n rows.
        locations: Place of each image.
        hashes: Content hash of each image.
        thumbnails: `near_duplicates.thumbnail` of each image, uint8 [n, b].

    Raises:
        DataError: If the column of groups leaves nothing to judge by.
    """
    found = group_images(hashes, thumbnails, [record.group for record in records])
    column, num_groups = study.plan.job.data.group_column, len(set(found.of_image))
    if column is not None and num_groups < 2:
        raise DataError(
            f"data.group_column: {column!r} must tell at least 2 groups, as one judges what the"
            f" others taught, got 1 of {len(records)} images. Name another column, or none."
        )
    for i, j in found.near_duplicates:
        study.issues["training"].add(
            Issue(
                file=locations[j],
                code="image.near_duplicate",
                severity="info",
                value=locations[i],
                message="shows the same photo as another image",
                hint="They share a fold.",
            )
        )
    num_near = len({i for pair in found.near_duplicates for i in pair})
    if num_near:
        log.info("%d images are near-duplicates of others: they stay together", num_near)
    if found.num_alike:
        log.warning(
            "%d images look alike all over: copies among them are not told from others; "
            "data.group_column can name a column that says what belongs together",
            found.num_alike,
        )
    study.folder.decide(
        "groups",
        num_images=len(records),
        num_groups=num_groups,
        group_column=column,
        num_near_duplicates=num_near,
        num_alike=found.num_alike,
    )
    return found.of_image
