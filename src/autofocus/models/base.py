"""Models before they are built, and their families. Imports no torch: names are checked fast.

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

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from autofocus.errors import AutofocusError
from autofocus.manifest import Preprocess, ResizeFit, WeightsInfo
from autofocus.models.box_profile import BoxProfile

if TYPE_CHECKING:
    from torch import Tensor

    from autofocus.models.network import Network

# (height, width), in pixels.
Size = tuple[int, int]
StateDict: TypeAlias = "dict[str, Tensor]"

CLASSIFIER: Final = "classifier"
DETECTOR: Final = "detector"
SEGMENTER: Final = "instance segmenter"

# Licences under which weights are used without asking.
PERMISSIVE_LICENCES: Final = frozenset({"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause"})
UNKNOWN_LICENCE: Final = "unknown"
# Between the names of encoders side by side, and between what is said of each one's weights.
BESIDE: Final = "+"


@dataclass(frozen=True)
class ModelSpec:
    """One pretrained model: its architecture, its weights and their preprocessing.

    Attributes:
        name: `<architecture>.<weights>`, such as `resnet18.a1_in1k`; unique.
        kind: Kind of model that a task accepts: one of the three names above.
        licence: Licence of the *weights*, as the hub spells it, or `unknown`.
        preprocess: Size, crop and normalisation that the weights were trained with.
        hub_id: Repository of the weights, or None where there is none.
        revision: Branch, tag or commit of that repository; None is its main branch.
        num_params: Parameters with the pretrained head, where reviewed.
        aliases: Other names that mean this model.
        family: Key of its family in `models.families.FAMILIES`.
        backbone: Catalog name of the pretrained encoder of a torchvision detector.
        weights_enum: Entry of torchvision's weights for the whole network, where it has some.
        members: Catalog names of the encoders that a classifier has side by side.
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
    members: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """The name without the weights' tag, or without those of its members."""
        return BESIDE.join(part.partition(".")[0] for part in self.name.split(BESIDE))


@dataclass(frozen=True)
class LoadedWeights:
    """Weights in memory.

    Attributes:
        spec: The model they belong to; the stand-in where one was substituted.
        state_dict: Tensors under names that the family's builder knows; None for random weights.
        info: Weights' entry of the manifest.
        line: One line for the user: model, source, licence.
    """

    spec: ModelSpec
    state_dict: "StateDict | None"
    info: WeightsInfo
    line: str


class Family(ABC):
    """The common parts of the models of one family. Only `build` imports torch.

    Attributes:
        weight_names: Names that the tensors of a weights file may have, for errors.
        takes_any_shape: Whether the network takes images of any shape and several sizes.
        recipes: Defaults of training by head, as fields of `training.recipe.Recipe`.
    """

    weight_names: ClassVar[str]
    takes_any_shape: ClassVar[bool] = False
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def build(
        self,
        spec: ModelSpec,
        num_classes: int,
        weights: LoadedWeights | None,
        size: Size,
        options: Mapping[str, Any],
    ) -> "Network":
        """Build the network of `spec` in evaluation mode.

        Args:
            spec: The model; with weights that stand in for another model, `weights.spec`.
            num_classes: k.
            weights: Result of `load_weights`; None for random numbers.
            size: (height, width) of the input, in pixels.
            options: Result of `network_options`, or a manifest's `network`.

        Raises:
            WeightsError: If the weights are not those of this architecture.
            ModelFolderError: If the options are not this family's.
        """

    def stand_in(self, spec: ModelSpec) -> str | None:
        """Return the name of the model that the embedded weights are for; None: the default one."""
        return None

    def network_options(
        self,
        spec: ModelSpec,
        profile: BoxProfile,
        size: Size,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return options of the network for the objects of `profile`, as JSON values.

        Args:
            spec: The model.
            profile: Profile of the training boxes.
            size: (height, width) of the input, in pixels.
            parameters: Parameters of the job; a network that suppresses boxes itself reads
                `nms_iou_threshold`.
        """
        return {}

    def input_spec(
        self, spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
    ) -> ResizeFit:
        """Return the preprocessing of images for `spec`, a detector or segmenter.

        Args:
            spec: The model.
            profile: Profile of the training boxes.
            parameters: May have `image_size`, or `min_size` and `max_size`, as published.
            is_cpu: Whether it runs without an accelerator.
        """
        raise NotImplementedError(f"{type(self).__name__}.input_spec, for {spec.kind} {spec.name}")

    def head(self, spec: ModelSpec) -> str:
        """Return the name of the model's head, a key of `recipes`; the architecture by default."""
        return spec.architecture

    def recipe_defaults(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Return fields of `training.recipe.Recipe` that the model's head trains best with.

        A classifier has one linear layer as a head, and the recipe's own defaults.

        Raises:
            AutofocusError: If the head has no recipe.
        """
        if spec.kind == CLASSIFIER:
            return {}
        head = self.head(spec)
        if head not in self.recipes:
            raise AutofocusError(
                f"model '{spec.name}': there is no recipe for the head '{head}', only for"
                f" {', '.join(self.recipes)}. Add one to {type(self).__name__}.recipes."
            )
        return self.recipes[head]


def is_permissive(licence: str) -> bool:
    """Return whether weights under `licence` may be used without `accept_license`."""
    return PERMISSIVE_LICENCES.issuperset(licence.lower().split(BESIDE))
