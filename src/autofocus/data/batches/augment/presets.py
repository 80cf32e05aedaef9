"""Strengths of augmentation, for images with one label and for images with objects, and why."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, get_args

from autofocus.errors import JobError
from autofocus.settings.fields import Number

_Share = Annotated[float, Number(0, 1)]
_Turn = Annotated[float, Number(0, 180)]
# (least, greatest)
_ShareRange = Annotated[tuple[float, float], Number(0, 1, above=True)]
_FactorRange = Annotated[tuple[float, float], Number(0, 10, above=True)]


def _check(params: Any) -> None:
    """Hold every field to the range that it declares.

    Raises:
        JobError: Names every field whose value is not possible.
    """
    problems = []
    for field in fields(params):
        kind, value = get_args(field.type)[1], getattr(params, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        is_range = field.name.endswith("_range")
        ascends = not is_range or list(numbers) == sorted(numbers)
        if ascends and numbers and all(map(kind.holds, numbers)):
            continue
        rule = f"in [0, {kind.high:g}]"
        if is_range:
            rule = f"(least, greatest) with 0 < least <= greatest <= {kind.high:g}"
        elif isinstance(value, tuple):
            rule = f"numbers {rule}, at least one"
        problems.append(f"augmentation.{field.name} must be {rule}, got {value}.")
    if problems:
        raise JobError(problems)


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

    area_range: _ShareRange = (0.35, 1.0)
    aspect_range: _FactorRange = (3 / 4, 4 / 3)
    flip_prob: _Share = 0.5
    rotation_deg: _Turn = 0.0
    brightness: _Share = 0.0
    contrast: _Share = 0.0
    erase_prob: _Share = 0.0
    erase_area_range: _ShareRange = (0.02, 0.2)

    def __post_init__(self) -> None:
        _check(self)


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

    whole_prob: _Share = 0.2
    zoom_range: _FactorRange = (0.6, 1.6)
    min_shown_fracs: Annotated[tuple[float, ...], Number(0, 1)] = (0.0, 0.5, 0.75, 1.0)
    keep_frac: _Share = 0.25
    aspect_range: _FactorRange = (1.0, 1.0)
    flip_prob: _Share = 0.5
    rotation_deg: _Turn = 0.0
    brightness: _Share = 0.0
    contrast: _Share = 0.0
    size_jitter: Annotated[float, Number(0, 0.5)] = 0.0
    mosaic_prob: _Share = 0.0
    mosaic_zoom_range: _FactorRange = (0.4, 1.0)
    mosaic_until_frac: _Share = 0.75

    def __post_init__(self) -> None:
        _check(self)


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
