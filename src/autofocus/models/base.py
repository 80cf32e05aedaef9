"""What a model is before it is built. Imports no torch, so that names can be checked fast.

The contract of a built network, by kind:

classifier   float32 [n, 3, h, w], normalised as `ModelSpec.preprocess` says
             -> `features(images)`: float32 [n, d], pooled, before the last linear layer
             -> `forward(images)`: logits, float32 [n, k]
detector     float32 [n, 3, h, w], normalised
             -> `forward(images)` in eval mode: (boxes, scores, classes) of a fixed number c of
                candidates an image, before thresholds and suppression: float32 [n, c, 4], corners
                in fractions of the canvas; float32 [n, c] in [0, 1]; int64 [n, c] in [0, k)
             -> `forward(images, targets)` in training mode: losses by name, scalars; targets are
                n dicts of tensors: `boxes` float32 [m, 4], corners in canvas pixels, `classes`
                int64 [m] in [0, k)
segmenter    as a detector; a fourth output `box_masks` float32 [n, c, s, s], probabilities within
             each box, or `masks` float32 [n, c, h', w'], probabilities over the canvas; targets
             have `masks` uint8 [m, h / stride, w / stride] too
"""

from dataclasses import dataclass
from typing import Final

from autofocus.manifest import Preprocess

CLASSIFIER: Final = "classifier"
DETECTOR: Final = "detector"
SEGMENTER: Final = "instance segmenter"

# Licences under which weights are used without asking.
PERMISSIVE_LICENCES: Final = frozenset({"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause"})
UNKNOWN_LICENCE: Final = "unknown"


@dataclass(frozen=True)
class ModelSpec:
    """One pretrained model: its architecture, its weights, and what they ask of an image.

    Attributes:
        name: `<architecture>.<weights>`, such as `resnet18.a1_in1k`; unique.
        kind: What a task must accept to use it.
        licence: Licence of the *weights*, as the hub spells it, or `unknown`.
        preprocess: Size, crop and normalisation that the weights were trained with.
        hub_id: Repository that holds the weights, or None where there is none.
        revision: Branch, tag or commit of that repository; None is its main branch.
        num_params: Parameters with the pretrained head, where reviewed.
        aliases: Other names that mean this model.
        family: Which builder makes it; a key of `models.build.FAMILIES`.
        backbone: Catalog name of the encoder that its pretrained weights are for, where they are
            not those of the whole network.
        weights_enum: Entry of torchvision's weights for the whole network, where it has some.
    """

    name: str
    kind: str
    licence: str
    preprocess: Preprocess
    hub_id: str | None = None
    revision: str | None = None
    num_params: int | None = None
    aliases: tuple[str, ...] = ()
    family: str = "timm"
    backbone: str | None = None
    weights_enum: str | None = None

    @property
    def architecture(self) -> str:
        """The name without the weights' tag."""
        return self.name.partition(".")[0]


def is_permissive(licence: str) -> bool:
    """Return whether weights under `licence` may be used without `accept_license`."""
    return licence.lower() in PERMISSIVE_LICENCES
