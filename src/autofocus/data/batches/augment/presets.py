"""Strengths of augmentation, for images with one label and for images with objects, and why."""

from dataclasses import dataclass, replace
from typing import Any

from autofocus.errors import JobError


def _range_problems(params: Any, names: tuple[str, ...], limit: float) -> list[str]:
    """Return problems of fields that must be (least, greatest) in (0, limit]."""
    return [
        f"augmentation.{name} must be (least, greatest) with 0 < least <= greatest <= {limit:g}, "
        f"got ({low:g}, {high:g})."
        for name in names
        for low, high in [getattr(params, name)]
        if not 0 < low <= high <= limit
    ]


def _value_problems(params: Any, names: tuple[str, ...], limit: float) -> list[str]:
    """Return problems of fields that must be numbers in [0, limit]."""
    return [
        f"augmentation.{name} must be in [0, {limit:g}], got {getattr(params, name):g}."
        for name in names
        if not 0 <= getattr(params, name) <= limit
    ]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges that one view of an image is drawn from.

    Attributes:
        area_range: Least and greatest share of the image's area that the view takes.
        aspect_range: Least and greatest width / height of what it takes; the view itself is
            square, so anything but 1 stretches.
        flip_prob: Probability of a mirroring left to right.
        rotation_deg: Greatest turn to either side; what lies outside the image is its reflection.
        brightness: Greatest relative change: levels times 1 ± brightness.
        contrast: Greatest relative change: distance from the view's mean grey times 1 ± contrast.
        erase_prob: Probability that a rectangle is replaced by the mean colour.
        erase_area_range: Least and greatest share of the view that the rectangle takes.

    Raises:
        JobError: Names every field whose value is not possible.
    """

    area_range: tuple[float, float] = (0.35, 1.0)
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5
    rotation_deg: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase_prob: float = 0.0
    erase_area_range: tuple[float, float] = (0.02, 0.2)

    def __post_init__(self) -> None:
        problems = [
            *_range_problems(self, ("area_range", "erase_area_range"), 1.0),
            *_range_problems(self, ("aspect_range",), 10.0),
            *_value_problems(self, ("flip_prob", "erase_prob"), 1.0),
            *_value_problems(self, ("brightness", "contrast"), 1.0),
            *_value_problems(self, ("rotation_deg",), 180.0),
        ]
        if problems:
            raise JobError(problems)


PRESETS: dict[str, Augmentation | None] = {
    # The input of evaluation, each epoch the same: to measure the worth of augmentation.
    "none": None,
    # Tens of images, or a budget of few epochs: a head found on whole images must stay right, and
    # there is no time to learn from crops that lost the object.
    "light": Augmentation(area_range=(0.5, 1.0), rotation_deg=5.0, brightness=0.15, contrast=0.15),
    # The default. A third of the area keeps nearly every object of a photo of one thing, and
    # teaches that its size and place do not matter; cameras tilt by about ten degrees.
    "medium": Augmentation(area_range=(0.35, 1.0), rotation_deg=10.0, brightness=0.3, contrast=0.3),
    # Thousands of images and tens of epochs, where a large network would learn them by heart:
    # crops as in ImageNet training, colour jitter 0.4 as Azure's, erasing as timm's recipes.
    "strong": Augmentation(
        area_range=(0.08, 1.0),
        rotation_deg=15.0,
        brightness=0.4,
        contrast=0.4,
        erase_prob=0.25,
    ),
}


@dataclass(frozen=True, slots=True)
class BoxAugmentation:
    """Ranges that one view of an image with objects is drawn from.

    *Zoom* is the size of objects in the view relative to evaluation: below 1 there is mean colour
    around the image, above 1 only a part of the image is seen.

    Attributes:
        whole_prob: Probability that a view lies as in evaluation, but for flip and tone.
        zoom_range: Least and greatest zoom of the other views; its logarithm is uniform.
        min_shown_fracs: One of these is drawn a view; at least one object must keep this share of
            its area. So crops are made around objects, yet some of them cut objects.
        keep_frac: Objects that keep a smaller share of their area are no longer to be found.
        aspect_range: Least and greatest stretch, width / height.
        flip_prob: Probability of a mirroring left to right.
        rotation_deg: Greatest turn to either side.
        brightness: Greatest relative change: levels times 1 ± brightness.
        contrast: Greatest relative change: distance from the view's mean grey times 1 ± contrast.
        size_jitter: Greatest relative change of the canvas' size, one draw a batch.
        mosaic_prob: Probability that a view is made of four images.
        mosaic_zoom_range: Zoom of each of the four.
        mosaic_until_frac: Share of the training after which there are no mosaics: the last epochs
            should look like what is to come.

    Raises:
        JobError: Names every field whose value is not possible.
    """

    whole_prob: float = 0.2
    zoom_range: tuple[float, float] = (0.6, 1.6)
    min_shown_fracs: tuple[float, ...] = (0.0, 0.5, 0.75, 1.0)
    keep_frac: float = 0.25
    aspect_range: tuple[float, float] = (1.0, 1.0)
    flip_prob: float = 0.5
    rotation_deg: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    size_jitter: float = 0.0
    mosaic_prob: float = 0.0
    mosaic_zoom_range: tuple[float, float] = (0.4, 1.0)
    mosaic_until_frac: float = 0.75

    def __post_init__(self) -> None:
        probs = ("whole_prob", "keep_frac", "flip_prob", "mosaic_prob", "mosaic_until_frac")
        problems = [
            *_range_problems(self, ("zoom_range", "mosaic_zoom_range", "aspect_range"), 10.0),
            *_value_problems(self, (*probs, "brightness", "contrast"), 1.0),
            *_value_problems(self, ("size_jitter",), 0.5),
            *_value_problems(self, ("rotation_deg",), 180.0),
        ]
        if not self.min_shown_fracs or not all(0 <= frac <= 1 for frac in self.min_shown_fracs):
            problems.append(
                "augmentation.min_shown_fracs must be numbers in [0, 1], at least one, "
                f"got {self.min_shown_fracs}."
            )
        if problems:
            raise JobError(problems)


BOX_PRESETS: dict[str, BoxAugmentation | None] = {
    # The input of evaluation, each epoch the same: to measure the worth of augmentation.
    "none": None,
    # Few epochs on pretrained weights: objects of about the size they will have, half the views
    # whole, so that nothing has to be unlearnt at the end.
    "light": BoxAugmentation(
        whole_prob=0.5,
        zoom_range=(0.75, 1.35),
        min_shown_fracs=(0.5, 0.75, 1.0),
        brightness=0.15,
        contrast=0.15,
    ),
    # The default. Half to almost double size (SSD's zoom-out and crops, without its extremes,
    # which cost small data sets more than they bring), and canvases of several sizes.
    "medium": BoxAugmentation(
        zoom_range=(0.6, 1.8),
        aspect_range=(0.9, 1.1),
        brightness=0.3,
        contrast=0.3,
        size_jitter=0.25,
    ),
    # Thousands of images and tens of epochs from weak weights: large scale jitter as Mask R-CNN's
    # long schedules and mosaics as YOLO's, which show four times the objects a view.
    "strong": BoxAugmentation(
        whole_prob=0.1,
        zoom_range=(0.4, 2.5),
        aspect_range=(0.8, 1.25),
        brightness=0.4,
        contrast=0.4,
        size_jitter=0.25,
        mosaic_prob=0.5,
    ),
}


def _turned(params: BoxAugmentation | None, rotation_deg: float) -> BoxAugmentation | None:
    return params and replace(params, rotation_deg=rotation_deg)


# Outlines turn exactly, where the box around a turned box would be larger than the object.
OUTLINE_PRESETS: dict[str, BoxAugmentation | None] = {
    "none": None,
    "light": _turned(BOX_PRESETS["light"], 5.0),
    "medium": _turned(BOX_PRESETS["medium"], 10.0),
    "strong": _turned(BOX_PRESETS["strong"], 15.0),
}
