"""The family of torchvision's detectors and segmenters on timm encoders. Imports no torch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from autofocus.manifest import ResizeFit
from autofocus.models.base import Family, LoadedWeights, ModelSpec, Size
from autofocus.models.box_profile import BoxProfile
from autofocus.models.catalog import DEFAULT_MODEL
from autofocus.models.torchvision import planning
from autofocus.models.torchvision.options import PyramidOptions

if TYPE_CHECKING:
    from autofocus.models.network import Network

_PLANS: Final[dict[str, Callable[[ModelSpec, BoxProfile, Size], PyramidOptions]]] = {
    "fcos": planning.fcos_options,
    "retinanet": planning.retinanet_options,
    "fasterrcnn": planning.rcnn_options,
    "maskrcnn": planning.rcnn_options,
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
_TWO_STAGE: Final[dict[str, Any]] = _DENSE | {"batch_size": 4, "learning_rate": 5e-4}


class TorchvisionFamily(Family):
    """FCOS, RetinaNet, Faster R-CNN and Mask R-CNN; their heads are those of `catalog.HEADS`."""

    weight_names: ClassVar[str] = "torchvision's names, or of its encoder under timm's"
    takes_any_shape: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fcos": _DENSE,
        "retinanet": _DENSE,
        "fasterrcnn": _TWO_STAGE,
        "maskrcnn": _TWO_STAGE,
    }

    def build(
        self,
        spec: ModelSpec,
        num_classes: int,
        weights: LoadedWeights | None,
        size: Size,
        options: Mapping[str, Any],
    ) -> "Network":
        """Build a detector or segmenter."""
        from autofocus.models.torchvision.build import build_torchvision

        return build_torchvision(spec, num_classes, weights, size, options)

    def input_spec(
        self, spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
    ) -> ResizeFit:
        """Return a canvas in the shape of the data's images, which are padded into it."""
        return planning.canvas_spec(spec, profile, parameters, is_cpu)

    def network_options(
        self,
        spec: ModelSpec,
        profile: BoxProfile,
        size: Size,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return levels, anchors and limits for objects such as `profile`'s.

        A network that suppresses boxes itself keeps those that the job's `nms_iou_threshold` keeps.
        """
        planned = _PLANS[self.head(spec)](spec, profile, size)
        options: dict[str, Any] = msgspec.to_builtins(planned)
        if "nms_iou" in options:
            wanted = float((parameters or {}).get("nms_iou_threshold", 0))
            options["nms_iou"] = max(options["nms_iou"], wanted)
        return options

    def head(self, spec: ModelSpec) -> str:
        """Return one of `catalog.HEADS`."""
        return spec.name.partition("_")[0]

    def stand_in(self, spec: ModelSpec) -> str:
        """Return the detector with the same head on the default classifier's encoder."""
        return f"{self.head(spec)}_{DEFAULT_MODEL.partition('.')[0]}_fpn"
