"""How strongly training images are varied, and why."""

from dataclasses import dataclass

from autofocus.data.batches.augment.ranges import range_problems, value_problems
from autofocus.errors import JobError


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges that one view of an image is drawn from.

    Attributes:
        area_range: Least and greatest share of the image's area that the view takes.
        aspect_range: Least and greatest width / height of what it takes; the view itself is
            square, so anything but 1 stretches.
        flip_prob: How often it is mirrored left to right.
        rotation_deg: Greatest turn to either side; what lies outside the image is its reflection.
        brightness: Greatest relative change: levels times 1 ± brightness.
        contrast: Greatest relative change: distance from the view's mean grey times 1 ± contrast.
        erase_prob: How often a rectangle is replaced by the mean colour.
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
            *range_problems(self, ("area_range", "erase_area_range"), 1.0),
            *range_problems(self, ("aspect_range",), 10.0),
            *value_problems(self, ("flip_prob", "erase_prob"), 1.0),
            *value_problems(self, ("brightness", "contrast"), 1.0),
            *value_problems(self, ("rotation_deg",), 180.0),
        ]
        if problems:
            raise JobError(problems)


PRESETS: dict[str, Augmentation | None] = {
    # What evaluation sees, each epoch the same: to tell what augmentation is worth.
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
