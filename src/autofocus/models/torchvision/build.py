"""Builds torchvision's FCOS, RetinaNet, Faster R-CNN and Mask R-CNN on any timm encoder."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from autofocus.errors import WeightsError
from autofocus.models.base import LoadedWeights, ModelSpec
from autofocus.models.catalog import COCO_WEIGHTS, resolve
from autofocus.models.network import OWN_PREFIX
from autofocus.models.torchvision.detector import Detector
from autofocus.models.torchvision.fcos import Fcos
from autofocus.models.torchvision.mask_rcnn import MaskRcnn
from autofocus.models.torchvision.options import (
    FcosOptions,
    PyramidOptions,
    RcnnOptions,
    RetinaNetOptions,
    read_options,
)
from autofocus.models.torchvision.pyramid import create_feature_encoder
from autofocus.models.torchvision.rcnn import FasterRcnn
from autofocus.models.torchvision.retinanet import RetinaNet

TORCHVISION_PREFIX: Final = "backbone.body."
# Layers whose shapes depend on the classes: they start random.
_OF_CLASSES: Final = re.compile(
    r"classification_head\.cls_logits|roi_heads\.box_predictor|mask_fcn_logits"
)
# Finest stride of torchvision's pyramid, with region proposals and without.
_FINEST_OF_REGIONS, _FINEST = 4, 8
# Trained with norms that add nothing to the variance.
_WITHOUT_EPSILON: Final = {
    name for head, name in COCO_WEIGHTS.items() if not head.startswith("fcos")
}


# Of each of `catalog.HEADS`: its network, and the options that it is built with.
_NETWORKS: Final[dict[str, tuple[Callable[[Any, int, Any], Detector], type[PyramidOptions]]]] = {
    "fcos": (Fcos, FcosOptions),
    "retinanet": (RetinaNet, RetinaNetOptions),
    "fasterrcnn": (FasterRcnn, RcnnOptions),
    "maskrcnn": (MaskRcnn, RcnnOptions),
}


def build_torchvision(
    spec: ModelSpec,
    num_classes: int,
    weights: LoadedWeights | None,
    size: tuple[int, int],
    options: Mapping[str, Any],
) -> Detector:
    """Build the network of `spec`, a detector; see `Family.build`.

    Raises:
        WeightsError: If the weights are not those of this architecture.
        ModelFolderError: If the options are not this model's.
    """
    assert spec.backbone is not None, "a torchvision detector has a backbone"
    state_dict = weights.state_dict if weights else None
    is_whole = any(key.startswith(TORCHVISION_PREFIX) for key in state_dict or {})
    encoder_dict = state_dict
    if state_dict is not None and is_whole:
        own = encoder_of_torchvision(state_dict)
        encoder_dict = {f"{OWN_PREFIX}{key}": tensor for key, tensor in own.items()}
    encoder = create_feature_encoder(resolve(spec.backbone), size, encoder_dict)
    if spec.weights_enum in _WITHOUT_EPSILON:
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    network_class, options_type = _NETWORKS[spec.name.partition("_")[0]]
    network = network_class(encoder, num_classes, read_options(options, options_type))
    if state_dict is not None and is_whole:
        load_heads(network, state_dict, spec.name)
    return network.eval()


def encoder_of_torchvision(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors under timm's names, which are torchvision's for ResNets."""
    encoder = {
        key.removeprefix(TORCHVISION_PREFIX): tensor
        for key, tensor in state_dict.items()
        if key.startswith(TORCHVISION_PREFIX)
    }
    # Frozen norms of torchvision count no batches.
    for key in [key for key in encoder if key.endswith("running_mean")]:
        counter = key.replace("running_mean", "num_batches_tracked")
        encoder.setdefault(counter, torch.tensor(0))
    return encoder


def load_heads(network: Detector, state_dict: dict[str, Tensor], name: str) -> None:
    """Load pyramid and heads; layers that depend on the classes stay as they are.

    Args:
        network: A detector whose encoder has its weights already.
        state_dict: Tensors of a whole detector of torchvision's.
        name: Name of the network in errors.

    Raises:
        WeightsError: If a layer that does not depend on the classes does not fit.
    """
    has_regions = any(key.startswith("rpn.") for key in state_dict)
    finest = _FINEST_OF_REGIONS if has_regions else _FINEST
    num_dropped = round(math.log2(network.strides[0] / finest))
    own = {
        key: tensor
        for key, tensor in network.state_dict().items()
        if not key.startswith("encoder.") and not _OF_CLASSES.search(key)
    }
    given = {
        _own_name(key, num_dropped, own): tensor
        for key, tensor in state_dict.items()
        if not key.startswith(TORCHVISION_PREFIX) and not _OF_CLASSES.search(key)
    }
    # Which levels there are depends on the data.
    odd = [key for key in given.keys() ^ own.keys() if not key.startswith("pyramid.")]
    odd += [key for key in given.keys() & own.keys() if given[key].shape != own[key].shape]
    if odd:
        which = ", ".join(sorted(odd)[:3])
        raise WeightsError(
            f"weights: the tensors are not those of {name} (differs in {which})."
            " Name the model that they were saved from in 'model_name'."
        )
    fitting = {key: given[key] for key in given.keys() & own.keys()}
    network.load_state_dict(fitting, strict=False)


def _own_name(key: str, num_dropped: int, own: Collection[str]) -> str:
    """Return our name of one of torchvision's tensors, also of those of its older files.

    Args:
        key: torchvision's name.
        num_dropped: Number of its finest levels that our pyramid lacks; below 0: ours has more.
        own: All names of ours.
    """
    if found := re.fullmatch(r"backbone\.fpn\.(inner|layer)_blocks\.(\d+)(?:\.0)?\.(\w+)", key):
        level = int(found[2]) - num_dropped
        return f"pyramid.fpn.{found[1]}_blocks.{level}.0.{found[3]}"
    if key.startswith("backbone.fpn."):
        return f"pyramid.{key.removeprefix('backbone.')}"
    if found := re.fullmatch(r"rpn\.head\.conv\.(weight|bias)", key):
        return f"rpn.head.conv.0.0.{found[1]}"
    # FCOS alone has its norms in between, under odd numbers.
    if found := re.fullmatch(r"(head\.\w+_head\.conv)\.(\d)\.(\w+)", key):
        nested = f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}"
        return nested if nested in own else key
    if found := re.fullmatch(r"(roi_heads\.mask_head)\.mask_fcn(\d)\.(\w+)", key):
        return f"{found[1]}.{int(found[2]) - 1}.0.{found[3]}"
    return key
