"""torchvision's files of whole detectors load, in its newer and its older spelling."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import get_weight
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from autofocus.errors import WeightsError
from autofocus.manifest import WeightsInfo
from autofocus.models.base import LoadedWeights, ModelSpec
from autofocus.models.box_profile import TYPICAL
from autofocus.models.catalog import COCO_WEIGHTS, resolve
from autofocus.models.families import family_of
from autofocus.models.torchvision.build import build_torchvision
from autofocus.models.torchvision.detector import Detector

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 128, 128


def theirs(head: str) -> Any:
    """torchvision's detector of COCO's 91 classes, on the smallest of its backbones."""
    torch.manual_seed(0)
    kind, options = {
        "fcos": (FCOS, {}),
        "retinanet": (RetinaNet, {}),
        "fasterrcnn": (FasterRCNN, None),
        "maskrcnn": (MaskRCNN, None),
    }[head]
    if options is None:
        backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    else:
        backbone = resnet_fpn_backbone(
            backbone_name="resnet18",
            weights=None,
            returned_layers=[2, 3, 4],
            extra_blocks=LastLevelP6P7(256, 256),
        )
    return kind(backbone, 91).eval()


def older(key: str) -> str:
    """Return the name that torchvision's published files of 2019 and 2020 have."""
    key = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", key)
    key = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", key)
    if found := re.fullmatch(r"(roi_heads\.mask_head)\.(\d)\.0\.(\w+)", key):
        return f"{found[1]}.mask_fcn{int(found[2]) + 1}.{found[3]}"
    return key


def older_retinanet(key: str) -> str:
    found = re.fullmatch(r"(head\.\w+_head\.conv)\.(\d)\.0\.(\w+)", key)
    return f"{found[1]}.{2 * int(found[2])}.{found[3]}" if found else older(key)


def spec_of(head: str) -> ModelSpec:
    """As the spec of the model that torchvision has on COCO, with the smallest backbone."""
    return replace(resolve(f"{head}_resnet50_fpn"), backbone="resnet18.a1_in1k")


def loaded(
    head: str, state_dict: dict[str, Tensor], sides: float = 0.3, spec: ModelSpec | None = None
) -> Detector:
    spec = spec or spec_of(head)
    profile = replace(TYPICAL, side_frac=(sides / 4, sides / 2, sides, 2 * sides, 3 * sides))
    options = family_of(spec).network_options(spec, profile, SIZE)
    weights = LoadedWeights(spec, state_dict, WeightsInfo("file", "bsd-3-clause"), "")
    return build_torchvision(spec, 5, weights, SIZE, options)


@pytest.mark.parametrize("rename", [str, older], ids=["newer", "older"])
@pytest.mark.parametrize("sides", [0.1, 0.3])
@pytest.mark.parametrize("head", ["fcos", "retinanet", "fasterrcnn", "maskrcnn"])
def test_maps_are_torchvisions(head: str, sides: float, rename: Callable[[str], str]) -> None:
    model = theirs(head)
    if head == "retinanet" and rename is older:
        rename = older_retinanet
    state_dict = {rename(key): tensor for key, tensor in model.state_dict().items()}
    network = loaded(head, state_dict, sides)
    for module in network.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5  # torchvision sets it to 0 only where it loads its own weights
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        expected = {SIZE[0] // m.shape[2]: m for m in model.backbone(images).values()}
        maps = dict(zip(network.strides, network.feature_maps(images), strict=True))
    common = expected.keys() & maps.keys()
    assert common
    for stride in common:
        assert torch.equal(maps[stride], expected[stride])
    own = network.state_dict()
    same = {"fcos": "head", "retinanet": "head", "fasterrcnn": "rpn", "maskrcnn": "rpn"}[head]
    for key, tensor in model.state_dict().items():
        if key.startswith(same) and "classification_head.cls_logits" not in key:
            assert torch.equal(own[key], tensor), key


def test_layers_of_the_classes_start_anew() -> None:
    model = theirs("maskrcnn")
    own = loaded("maskrcnn", model.state_dict()).state_dict()
    assert own["roi_heads.box_predictor.cls_score.weight"].shape[0] == 6
    assert own["roi_heads.mask_predictor.mask_fcn_logits.weight"].shape[0] == 6
    key = "roi_heads.mask_predictor.conv5_mask.weight"
    assert torch.equal(own[key], model.state_dict()[key])


def test_weights_of_another_head_or_width_are_refused() -> None:
    state_dict = theirs("fcos").state_dict()
    with pytest.raises(WeightsError, match=r"not those of fasterrcnn_resnet50_fpn \(differs in"):
        loaded("fasterrcnn", state_dict)
    with pytest.raises(WeightsError, match="not those of fcos_resnet18_fpn"):
        loaded("fcos", state_dict, spec=resolve("fcos_resnet18_fpn"))
    with pytest.raises(WeightsError, match="not those of resnet34"):
        loaded("fcos", state_dict, spec=resolve("fcos_resnet34_fpn"))


@pytest.mark.parametrize("name", COCO_WEIGHTS)
def test_torchvision_has_these_weights(name: str) -> None:
    spec = resolve(name)
    assert spec.weights_enum is not None
    entry = get_weight(spec.weights_enum)
    assert entry.meta["categories"][1] == "person"
    assert re.search(r"-[0-9a-f]{8}\.pth$", entry.url)
