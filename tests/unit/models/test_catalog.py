import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from autofocus.errors import JobError, WeightsError
from autofocus.manifest import ResizeFit
from autofocus.models.base import CLASSIFIER, DETECTOR, SEGMENTER, ModelSpec, is_permissive
from autofocus.models.catalog import (
    ALIASES,
    AZURE_DETECTORS,
    COCO_WEIGHTS,
    DEFAULT_MODEL,
    RECOMMENDED,
    default_model,
    resolve,
)
from autofocus.models.transformers.catalog import TRANSFORMERS
from autofocus.models.weights.embedded import EMBEDDED

# reference/azure.md 1.7
AZURE_NAMES = {
    "mobilenetv2": "mobilenetv2_100",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "resnest50": "resnest50d",
    "resnest101": "resnest101e",
    "seresnext": "seresnext50_32x4d",
    "vits16r224": "vit_small_patch16_224",
    "vitb16r224": "vit_base_patch16_224",
    "vitl16r224": "vit_large_patch16_224",
}


@pytest.mark.parametrize("spec", RECOMMENDED, ids=lambda spec: spec.name)
def test_reviewed_row_says_what_timm_says(spec: ModelSpec) -> None:
    cfg = get_pretrained_cfg(spec.name, allow_unregistered=False)
    assert spec.licence == cfg.license
    assert is_permissive(spec.licence)
    assert spec.hub_id == cfg.hf_hub_id
    assert spec.preprocess.mean == cfg.mean
    assert spec.preprocess.std == cfg.std
    assert spec.preprocess.crop_size == cfg.input_size[1] == cfg.input_size[2]
    assert spec.preprocess.resize_size == int(cfg.input_size[1] / cfg.crop_pct)
    with torch.device("meta"):
        network = timm.create_model(spec.name)
    assert spec.num_params == sum(p.numel() for p in network.parameters())
    assert spec.kind == CLASSIFIER


@pytest.mark.parametrize(("alias", "architecture"), AZURE_NAMES.items())
def test_azures_names_are_the_same_architecture(alias: str, architecture: str) -> None:
    spec = resolve(alias)
    assert spec.architecture == architecture
    assert alias in (spec.architecture, *spec.aliases)


@pytest.mark.parametrize("alias", [a for a in ALIASES if "/" in a])
def test_azures_curated_hub_ids_are_known(alias: str) -> None:
    assert resolve(alias).name == ALIASES[alias]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("resnet50", "resnet50.a1_in1k"),
        ("ResNet50", "resnet50.a1_in1k"),
        ("timm/resnet50.ra_in1k", "resnet50.ra_in1k"),
        ("hf-hub:timm/resnet50.ra_in1k", "resnet50.ra_in1k"),
        ("resnet26d", "resnet26d.bt_in1k"),
        ("vit_base_patch16_224", "vit_base_patch16_224.augreg2_in21k_ft_in1k"),
        ("tiny_vit_21m_224", "tiny_vit_21m_224.dist_in22k_ft_in1k"),
        ("tf_efficientnet_lite0", DEFAULT_MODEL),
    ],
)
def test_names_resolve(name: str, expected: str) -> None:
    assert resolve(name).name == expected


def test_any_timm_name_gets_timms_own_facts() -> None:
    spec = resolve("fastvit_t8.apple_in1k")
    assert spec.licence == "fastvit-license"
    assert spec.hub_id == "timm/fastvit_t8.apple_in1k"
    assert (spec.preprocess.resize_size, spec.preprocess.crop_size) == (284, 256)


def test_architecture_without_weights_has_no_hub_id() -> None:
    spec = resolve("efficientnet_b8")
    assert spec.hub_id is None


def test_weights_of_unstated_licence_are_unknown() -> None:
    assert resolve("cpubone_b0_bfrobust.r224_in1k").licence == "unknown"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnett50", "'resnet50'"),
        ("resnet50.a9_in1k", "'resnet50.a1_in1k'"),
        ("vitb16r244", "'vitb16r224'"),
        ("google/vit-base-patch16-244", "'google/vit-base-patch16-224'"),
    ],
)
def test_unknown_name_proposes_the_nearest(name: str, near: str) -> None:
    with pytest.raises(JobError) as caught:
        resolve(name)
    assert near in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "docs/reference/models.md" in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", "zzzzqqqq", "../../etc/passwd", "a" * 1000])
def test_hopeless_name_is_one_error_without_a_proposal(name: str) -> None:
    with pytest.raises(JobError) as caught:
        resolve(name)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["yolov8n", "yolo11s", "YOLO26-n", "yolov5nu", "ultralytics/yolov8", "FastSAM-s"]
)
def test_agpl_names_are_answered(name: str) -> None:
    with pytest.raises(WeightsError, match="AGPL") as caught:
        resolve(name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", AZURE_DETECTORS)
def test_azures_detectors_are_known(name: str) -> None:
    spec = resolve(name)
    assert spec.name == name
    assert spec.kind == (SEGMENTER if name.startswith("maskrcnn") else DETECTOR)
    assert spec.family == "torchvision"
    assert is_permissive(spec.licence)
    assert isinstance(spec.preprocess, ResizeFit)


@pytest.mark.parametrize(
    ("name", "expected", "backbone"),
    [
        ("fcos_tf_efficientnet_lite0_fpn", "fcos_tf_efficientnet_lite0_fpn", DEFAULT_MODEL),
        ("FCOS_resnet18_FPN", "fcos_resnet18_fpn", "resnet18.a1_in1k"),
        ("fcos_resnet18.a1_in1k_fpn", "fcos_resnet18_fpn", "resnet18.a1_in1k"),
        ("retinanet_seresnext_fpn", None, "seresnext50_32x4d.racm_in1k"),
        ("maskrcnn_timm/resnet50.ra_in1k_fpn", None, "resnet50.ra_in1k"),
        ("fasterrcnn_resnet26d_fpn", None, "resnet26d.bt_in1k"),
        ("fcos_resnet50.a1_in1k_fpn", None, "resnet50.a1_in1k"),
    ],
)
def test_any_head_on_any_backbone(name: str, expected: str | None, backbone: str) -> None:
    spec = resolve(name)
    assert spec.backbone == backbone
    assert spec.weights_enum is None
    assert spec.licence == resolve(backbone).licence
    assert spec.preprocess.mean == resolve(backbone).preprocess.mean
    assert expected is None or spec.name == expected
    # The name that a manifest keeps means the same model.
    assert resolve(spec.name) == spec


@pytest.mark.parametrize("name", COCO_WEIGHTS)
def test_bare_names_that_torchvision_trained_mean_its_weights(name: str) -> None:
    spec = resolve(name)
    assert spec.weights_enum == COCO_WEIGHTS[name]
    assert spec.licence == "bsd-3-clause"
    assert resolve(spec.name) == spec


@pytest.mark.parametrize("kind", [CLASSIFIER, DETECTOR, SEGMENTER])
def test_each_kind_has_a_default_whose_weights_are_installed(kind: str) -> None:
    spec = resolve(default_model(kind))
    assert spec.kind == kind
    assert (spec.backbone or spec.name) == DEFAULT_MODEL


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fcos_resnet19_fpn", "fcos_resnet19_fpn: .*'resnet18'"),
        ("fcos_resnet18", "'fcos_resnet18_fpn'"),
        ("fastrcnn_resnet18_fpn", "'fasterrcnn_resnet18_fpn'"),
        ("fcos_d_fine_n_fpn", "d_fine_n.coco is no backbone"),
        ("fcos_fcos_resnet18_fpn_fpn", "fcos_fcos_resnet18_fpn_fpn"),
        ("fcos__fpn", "fcos__fpn"),
    ],
)
def test_wrong_detector_names_are_answered(name: str, expected: str) -> None:
    with pytest.raises(JobError, match=expected):
        resolve(name)


def test_transformers_are_found_by_their_names() -> None:
    assert resolve("d_fine_n").kind == DETECTOR
    assert resolve("RF-DETR-seg-n").kind == SEGMENTER
    assert resolve("yolov5").family == "transformers"


def test_names_are_checked_without_torch_and_timm() -> None:
    code = (
        "import sys; from autofocus.models.catalog import resolve; resolve('vitb16r224');"
        "resolve('fcos_tf_efficientnet_lite0_fpn'); resolve('d_fine_n');"
        "print(sorted({'torch', 'timm', 'torchvision', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reference_page_lists_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "models.md"
    rows = []
    for spec in RECOMMENDED:
        aliases = ", ".join(f"`{alias}`" for alias in spec.aliases) or "–"
        size = f"{spec.preprocess.crop_size} px"
        source = "installed with autofocus" if spec.name in EMBEDDED else f"`{spec.hub_id}`"
        params = f"{(spec.num_params or 0) / 1e6:.1f} M"
        rows.append(
            f"| `{spec.name}` | {aliases} | {params} | {spec.licence} | {size} | {source} |"
        )
    detectors = [
        f"| `{spec.name}` | {(spec.num_params or 0) / 1e6:.1f} M | {spec.licence}"
        f" | {spec.preprocess.size[0]} px | `{spec.hub_id}` |"
        for spec in TRANSFORMERS
    ]
    text = page.read_text(encoding="utf-8")
    assert "\n".join(detectors) in text, "the table must be:\n" + "\n".join(detectors)
    assert "\n".join(rows) in text, "the table must be:\n" + "\n".join(rows)
