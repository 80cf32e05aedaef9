"""Profile of the data and the machine: numbers that AutoMode chooses by."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from autofocus.data.batches.cache.budget import MIB, free_memory_bytes
from autofocus.models.box_profile import BoxProfile
from autofocus.runtime import num_cores
from autofocus.study.study import Study

log = logging.getLogger(__name__)


def profile_data(study: Study) -> dict[str, Any]:
    """Return statistics of a study's training data."""
    train, task = study.samples.chosen(study.train), study.plan.task
    counts = Counter(label for record in train.records for label in task.record_labels(record))
    fewest, most = min(counts.values(), default=0), max(counts.values(), default=0)
    return {
        "num_images": len(train),
        "num_validation": len(study.validation),
        "num_classes": len(study.labels),
        "rarest_class": fewest,
        "commonest_class": most,
        "imbalance": round(most / max(1, fewest), 2),
    }


def profile_objects(boxes: BoxProfile) -> dict[str, Any]:
    """Return statistics of the objects in the training images."""
    return {
        "num_objects": boxes.num_objects,
        "objects_p99": boxes.objects_p99,
        "object_side_frac": [round(side, 4) for side in boxes.side_frac],
        "image_size": list(boxes.image_size),
    }


def profile_machine(device: torch.device, image_s: float) -> dict[str, Any]:
    """Return facts about the machine.

    Args:
        device: Device of training.
        image_s: Measured training time of an image, in seconds.
    """
    return {
        "device": str(device),
        "num_cores": num_cores(),
        "free_memory_mib": free_memory_bytes() // MIB,
        "training_image_s": round(image_s, 5),
    }


def format_profile(profile: Mapping[str, Any]) -> str:
    """Return the profile of the data and of the machine as one line."""
    parts = [
        f"{profile['num_images']} images to learn from, {profile['num_validation']} to judge by",
        f"{profile['num_classes']} classes of {profile['rarest_class']} to "
        f"{profile['commonest_class']}",
    ]
    if "num_objects" in profile:
        share = 100 * profile["object_side_frac"][2]
        parts.append(f"{profile['num_objects']} objects, half below {share:.0f} % of the side")
    height, width = profile["image_size"]
    parts.append(f"{width} x {height} px")
    parts.append(
        f"{profile['num_cores']} cores, {profile['free_memory_mib'] / 1024:.0f} GiB free, about "
        f"{1000 * profile['training_image_s']:.0f} ms an image"
    )
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as text, such as `40 s` or `12 min`."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
