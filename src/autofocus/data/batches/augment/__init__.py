"""Random views of an image for training: all geometry in one matrix, all tone in one table."""

from autofocus.data.batches.augment.affine import sample_matrix
from autofocus.data.batches.augment.box_presets import BOX_PRESETS, OUTLINE_PRESETS, BoxAugmentation
from autofocus.data.batches.augment.presets import PRESETS, Augmentation
from autofocus.data.batches.augment.view import draw_view

__all__ = [
    "BOX_PRESETS",
    "OUTLINE_PRESETS",
    "PRESETS",
    "Augmentation",
    "BoxAugmentation",
    "draw_view",
    "sample_matrix",
]
