"""Recipes of detectors and segmenters, by the head that learns.

Azure's names train with Azure's published defaults (`reference/azure.md` §1.6); every other name
with ours. What the job sets wins over both.
"""

import math
from typing import Any, Final

from autofocus.training.recipe import LARGE_SET, Recipe

# A detector's head starts from random numbers and needs this many steps, however few the images.
MIN_STEPS: Final = 2_000
MIN_EPOCHS, MAX_EPOCHS = 24, 300

AZURE: Final[dict[str, Any]] = {
    "num_epochs": 15,
    "batch_size": 2,
    "optimizer": "sgd",
    "learning_rate": 0.005,
    "layer_decay": 1.0,
    "weight_decay": 1e-4,
    "max_warmup_frac": None,
    "cosine_cycles": 0.45,
    "clip_value": 5.0,
    "clip_norm": None,
    "ema_decay": None,
    "layers_to_freeze": 2,
    "augmentation": "light",
    "log_validation_loss": True,
}

_DENSE: Final[dict[str, Any]] = {
    "batch_size": 8,
    "learning_rate": 1e-3,
    "backbone_scale": 0.3,
    "layer_decay": 1.0,
    "weight_decay": 0.02,
    "warmup_epochs": 2.0,
    "clip_norm": 5.0,
    "ema_decay": 0.998,
    # On few images the edges and textures of pretrained layers are as good as any that could be
    # learnt, and their maps are the largest: a third of the step's time.
    "frozen_frac": 0.3,
    "augmentation": "medium",
    "early_stopping_patience": 10,
    "early_stopping_delay": 10,
}

# Networks that predict a set of objects (competitors.md §1b, §5.2): slow rates, small gradients,
# and losses that begin in the tens for each of their decoder's layers.
_SET: Final[dict[str, Any]] = {
    "batch_size": 8,
    "layer_decay": 1.0,
    "weight_decay": 1e-4,
    "warmup_epochs": 2.0,
    "clip_norm": 0.1,
    "ema_decay": 0.998,
    "max_loss": 10_000.0,
    "augmentation": "medium",
    "early_stopping_patience": 10,
    "early_stopping_delay": 10,
}

BY_HEAD: Final[dict[str, dict[str, Any]]] = {
    "fcos": _DENSE,
    "retinanet": _DENSE,
    "fasterrcnn": _DENSE | {"batch_size": 4, "learning_rate": 5e-4},
    "maskrcnn": _DENSE | {"batch_size": 4, "learning_rate": 5e-4},
    "d_fine": _SET | {"learning_rate": 2e-4, "backbone_scale": 0.5},
    "deimv2": _SET | {"learning_rate": 2e-4, "backbone_scale": 0.5},
    "rt_detr_v2": _SET | {"learning_rate": 1e-4, "backbone_scale": 0.1},
    "rf_detr": _SET | {"learning_rate": 1e-4, "backbone_scale": 1.0, "layer_decay": 0.8},
}


def detector_recipe(name: str, num_images: int, is_azure: bool) -> Recipe:
    """Return the recipe before the job's own parameters.

    Args:
        name: Name in the catalog.
        num_images: Training images.
        is_azure: Whether the model was asked for by one of Azure's names.
    """
    if is_azure:
        return Recipe(**AZURE)
    values = BY_HEAD[max((head for head in BY_HEAD if name.startswith(head)), key=len)]
    # With few images an epoch has few steps, and it is steps that a new head needs; norms are
    # frozen, so small batches cost nothing but noise.
    batch_size = values["batch_size"] // 2 if num_images < LARGE_SET else values["batch_size"]
    epochs = math.ceil(MIN_STEPS * batch_size / max(1, num_images))
    num_epochs = min(max(epochs, MIN_EPOCHS), MAX_EPOCHS)
    return Recipe(**{**values, "num_epochs": num_epochs, "batch_size": batch_size})
